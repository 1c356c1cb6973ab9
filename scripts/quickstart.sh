#!/usr/bin/env bash
# Set up, train three fine-tunes of a small Llama on real text (once), and merge them with evidence.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" TOKENIZERS_PARALLELISM=false
models=(demo/a demo/b demo/c)

if [ ! -d demo/c ]; then
  echo "== training a small Llama and three fine-tunes of it (about three minutes, once)"
  mkdir -p demo
  python scripts/demo_models.py demo
fi

echo; echo "== geo-merge check ${models[*]}"
geo-merge check "${models[@]}"
# Both at once, one thread each: most of the time of so small a merge is importing transformers.
export OMP_NUM_THREADS=1
geo-merge slerp demo/a demo/b -o demo/slerp --overwrite > demo/slerp.log 2>&1 & slerp=$!
echo; echo "== geo-merge soup ${models[*]} -o demo/soup --overwrite"
geo-merge soup "${models[@]}" -o demo/soup --overwrite
echo; echo "== geo-merge slerp demo/a demo/b -o demo/slerp --overwrite"
status=0; wait "$slerp" || status=$?
cat demo/slerp.log
[ "$status" = 0 ]

cat <<'END'

== What to look at
demo/soup/README.md    the model card: parents, recipe, losses
demo/soup/report.json  every number, with intervals, geometry layer by layer, provenance
demo/soup/merge.json   the recipe, tensor by tensor

== What to try next (first: source .venv/bin/activate)
geo-merge soup demo/a demo/b demo/c --weights .5,.3,.2 -o demo/weighted
geo-merge slerp demo/a demo/b demo/c -o demo/karcher
geo-merge soup demo/base demo/a -o demo/half-way      a soup that is worse than its best parent: see what the tool says
geo-merge soup org/name-1 org/name-2 -o merged        models of the Hugging Face Hub
geo-merge soup --help
END
