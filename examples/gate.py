"""A gate in CI: exit 3 if a barrier is too high, or the merge worse than its best parent.

Usage: python examples/gate.py HIGHEST_BARRIER HELD_OUT OUT MODEL MODEL [MODEL ...]

HELD_OUT is a file, or several sets: code=code.jsonl,chat=chat.jsonl. The merge has to hold on each.

The report of the merge is in OUT, for the artifacts of the run. Where the documents are too few to
tell, the gate stays shut.
"""

from __future__ import annotations

import sys

import mergekit_geo as geo

SHUT = 3

highest, held_out, out, *models = sys.argv[1:]
data = geo.EvalData(held_out.split(","))

barrier = geo.barrier(models, data=data)
print(barrier)
if barrier.exceeds(float(highest)):
    sys.exit(SHUT)

merged = geo.soup(models, out, data=data)
print(merged)
sys.exit(0 if merged.holds("not-worse") else SHUT)
