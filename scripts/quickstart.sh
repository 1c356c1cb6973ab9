#!/usr/bin/env bash
# Set up, train small Llamas on real text (once), merge them with evidence, and look between them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" TOKENIZERS_PARALLELISM=false
models=(demo/a demo/b demo/c)

# One thread each: so small a model gains nothing from two, and two processes share the cores.
export OMP_NUM_THREADS=1
if [ ! -d demo/c ] || [ ! -d demo/independent ]; then
  echo "== training a small Llama, three fine-tunes of it, and one trained apart (about three minutes, once)"
  mkdir -p demo
  python tests/demo/train.py demo independent & apart=$!
  python tests/demo/train.py demo base a b c
  wait "$apart"
fi

echo; echo "== geo-merge check ${models[*]}"
geo-merge check "${models[@]}"
# At once: most of the time of so small a merge is importing transformers.
logged() { # NAME COMMAND...: run in the background, keep what it says
  local log="demo/$1.log"; shift
  "$@" > "$log" 2>&1
}
fit_once() { # what was fitted is kept, like what was trained
  [ -d demo/path ] || logged path geo-merge path demo/a demo/independent -o demo/path \
    --train-data builtin:python-docs --steps 150 --max-examples 120
}
fit_once & path=$!
logged barrier geo-merge barrier demo/a demo/b demo/independent -o demo/barrier --overwrite & barrier=$!
show() { # PROCESS NAME: wait for a background command and say what it said
  local status=0; wait "$1" || status=$?
  cat "demo/$2.log"
  return "$status"
}
echo; echo "== geo-merge soup ${models[*]} -o demo/soup --overwrite"
geo-merge soup "${models[@]}" -o demo/soup --overwrite
echo; echo "== geo-merge slerp demo/a demo/b -o demo/slerp --overwrite"
geo-merge slerp demo/a demo/b -o demo/slerp --overwrite
echo; echo "== geo-merge barrier demo/a demo/b demo/independent -o demo/barrier --overwrite"
show "$barrier" barrier
echo; echo "== geo-merge path demo/a demo/independent --train-data builtin:python-docs --steps 150 --max-examples 120 -o demo/path"
show "$path" path

cat <<'END'

== What to look at
demo/soup/report.html  open it in a browser: what came out in words, then losses, barriers, sharpness,
                       geometry layer by layer, provenance (demo/barrier and demo/path have one, too)
demo/soup/README.md    the model card, as the Hub shows it
demo/soup/report.json  every number
demo/soup/merge.json   the recipe, tensor by tensor
demo/soup/figures/sharpness.png    how curved the loss is where parents and soup stand
demo/barrier/figures/barrier.png   a barrier between models trained apart, and none between fine-tunes
demo/path/figures/barrier.png      the same barrier, and the way around it

== What to try next (first: source .venv/bin/activate)
geo-merge soup demo/a demo/b demo/c --weights .5,.3,.2 -o demo/weighted
geo-merge slerp demo/a demo/b demo/c -o demo/karcher
geo-merge soup demo/base demo/a -o demo/half-way      a soup that is worse than its best parent: see what the tool says
geo-merge soup demo/a demo/b demo/c demo/independent --basin --data builtin:python-docs -o demo/basin
geo-merge soup demo/a demo/b demo/c --method learned --data builtin:python-docs -o demo/learned
geo-merge soup demo/a demo/independent --along demo/path --data builtin:python-docs -o demo/along
                                                      the best point on the way, and its ends trained further
geo-merge landscape demo/a demo/b demo/c --mark demo/soup --max-examples 100 -o demo/landscape    (minutes)
geo-merge finetune demo/base --train-data builtin:python-docs --steps 150 --rho 0.1 -o demo/flat  (a minute)
geo-merge push demo/soup org/name                     to the Hugging Face Hub, with card and report
geo-merge sharpness demo/soup demo/independent --level full -o demo/sharpness      (minutes)
geo-merge soup org/name-1 org/name-2 -o merged        models of the Hugging Face Hub
geo-merge soup --help
END
