#!/usr/bin/env bash
# The long story: the demo family (0.86 M parameters, trained once), merges by several methods, two
# specialists measured on both their texts, a loss barrier, a curve around it, and the landscape between
# models. Minutes, most of them training.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" TOKENIZERS_PARALLELISM=false

if [ ! -d demo/code ] || [ ! -d demo/independent ]; then
  echo "== training a small Llama, three fine-tunes of it, two specialists, and an independent one (minutes, once)"
  mkdir -p demo
  # One thread each: so small a model gains nothing from two, and two processes share the cores.
  OMP_NUM_THREADS=1 python tests/demo/train.py demo independent & independent=$!
  OMP_NUM_THREADS=1 python tests/demo/train.py demo base a b c prose code
  wait "$independent"
fi
geo() { echo; echo "== geo-merge $*"; geo-merge "$@"; }

geo check demo/a demo/b demo/c
geo soup demo/a demo/b demo/c -o demo/soup --overwrite
geo slerp demo/a demo/b -o demo/slerp --overwrite
geo soup demo/prose demo/code -o demo/both --overwrite --max-examples 300 \
  --data docs=builtin:python-docs --data code=builtin:python-source
geo barrier demo/a demo/b demo/independent -o demo/barrier --overwrite
[ -d demo/path ] || geo path demo/a demo/independent -o demo/path \
  --train-data builtin:python-docs --steps 150 --max-examples 120
[ -d demo/landscape ] || geo landscape demo/a demo/b demo/c --mark demo/soup -o demo/landscape \
  --grid 11 --max-examples 60

cat <<'END'

== What to look at
demo/soup/report.html          the verdict in words, then losses, barriers, sharpness, geometry
demo/both/report.html          two specialists and their mean, on the text of each: what it kept, and what it lost
demo/barrier/report.html       a loss barrier between independently trained models, none between fine-tunes
demo/path/report.html          the same barrier, and the curve around it
demo/landscape/landscape.html  the plane through three fine-tunes; the soup stands lower than all of them

== What to try next (first: source .venv/bin/activate)
geo-merge soup demo/a demo/b demo/c --weights .5,.3,.2 -o demo/weighted
geo-merge slerp demo/a demo/b demo/c -o demo/karcher
geo-merge soup demo/base demo/a -o demo/half-way      a soup that is worse than its best parent
geo-merge soup demo/a demo/b demo/c demo/independent --basin --data builtin:python-docs -o demo/basin
geo-merge soup demo/a demo/b demo/c --method learned --data builtin:python-docs -o demo/learned
geo-merge soup demo/a demo/independent --along demo/path --data builtin:python-docs -o demo/along
                                                      the best point of the path, and its ends trained further
geo-merge finetune demo/base --train-data builtin:python-docs --steps 150 --rho 0.1 -o demo/flat
geo-merge sharpness demo/soup demo/independent --level full -o demo/sharpness
bash examples/sam_then_soup.sh                        AdamW and SAM, three members and a soup each
END
