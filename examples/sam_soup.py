"""Train members of one base with SAM, each with its own seed, and average them.

Usage: python examples/sam_soup.py BASE TRAIN.jsonl HELD_OUT.jsonl OUT [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import mergekit_geo as geo

base, train_data, held_out, out, *steps = sys.argv[1:]
data = geo.EvalData(held_out)
folder = Path(out)

geo.finetune(
    base,
    folder / "members",
    train_data=train_data,
    data=data,
    members=3,
    sam=geo.SamArguments(rho=0.05),
    training=geo.TrainingConfig(steps=int(steps[0]) if steps else 150),
)
print(geo.soup(sorted((folder / "members").glob("member-*")), folder / "soup", data=data))
