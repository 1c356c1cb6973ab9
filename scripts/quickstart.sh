#!/usr/bin/env bash
# Set up, train a small family of Llamas on real text (once), and merge three of them with evidence.
# DEMO is the folder of the family; scripts/tour.sh tells the long story with larger models.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" TOKENIZERS_PARALLELISM=false
demo=${DEMO:-demo/quick}

train() { # WHAT NAME...: unless they are there already
  local what="$1"; shift
  [ -d "$demo/${*: -1}" ] && return
  echo "== training $what"
  mkdir -p "$demo"
  python tests/demo/train.py "$demo" "$@" --quick
}
geo() { echo; echo "== geo-merge $*"; geo-merge "$@"; }

train "a small Llama and three fine-tunes of it (seconds, once)" base a b c
geo check "$demo"/{a,b,c}
geo soup "$demo"/{a,b,c} -o "$demo/soup" --overwrite --max-examples 300
echo "== the same as a page with pictures: $demo/soup/report.html"
train "one more Llama, independently of the others" independent
geo barrier "$demo"/{a,b,independent} -o "$demo/barrier" --overwrite --max-examples 200

cat <<END

== What to look at
$demo/soup/report.html   open it in a browser: the verdict in words, then losses, barriers, sharpness,
                         geometry layer by layer, provenance
$demo/soup/README.md     the model card, as the Hub shows it
$demo/soup/report.json   every number
$demo/soup/merge.json    the recipe, tensor by tensor
$demo/barrier/report.html   a loss barrier between independently trained models, none between fine-tunes

== What to try next (first: source .venv/bin/activate)
geo-merge soup $demo/a $demo/b $demo/c --weights .5,.3,.2 -o weighted
geo-merge merge $demo/a $demo/b --method ties --base $demo/base --density .5 -o ties
python tests/demo/train.py $demo prose code --quick                    two specialists (seconds), and which skill
geo-merge soup $demo/prose $demo/code -o both --max-examples 300 \\
  --data docs=builtin:python-docs --data code=builtin:python-source   their mean has kept, and which it has lost
geo-merge soup MODEL MODEL MODEL --data held-out.jsonl -o merged      your own fine-tunes, on your own text
geo-merge push $demo/soup org/name                                    to the Hugging Face Hub, with its card
bash scripts/tour.sh                                                  curves around barriers, landscapes, SAM
END
