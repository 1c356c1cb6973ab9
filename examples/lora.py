"""Merge LoRA adapters of one base into a whole model; peft is not needed for it.

Usage: python examples/lora.py BASE HELD_OUT.jsonl OUT ADAPTER ADAPTER [ADAPTER ...]
"""

from __future__ import annotations

import sys

import mergekit_geo as geo

base, held_out, out, *adapters = sys.argv[1:]
models = [f"{base}+{adapter}" for adapter in adapters]
data = geo.EvalData(held_out)

print(geo.barrier(models, data=data))
print(geo.merge(models, out, method="ties", base=base, density=0.5, data=data))
