"""Merge your own fine-tunes of one base: check them, average them, let the loss choose.

Usage: python examples/own_fine_tunes.py HELD_OUT.jsonl OUT MODEL MODEL [MODEL ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import mergekit_geo as geo

held_out, out, *models = sys.argv[1:]
data = geo.EvalData(held_out)

checked = geo.check(models)
if not checked.compatible:
    sys.exit(str(checked))

greedy = geo.SelectionConfig(method="greedy")
for name, choosing in (("uniform", geo.SelectionConfig()), ("greedy", greedy)):
    result = geo.soup(models, Path(out) / name, data=data, choosing=choosing)
    print(f"{name} soup, {result.out}/report.html:\n{result}\n")
