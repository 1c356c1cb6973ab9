#!/usr/bin/env bash
# Set up, then check everything: lint, format, types, layers, tests. Arguments go to pytest:
# -m "not slow" leaves out what trains for long, talks between processes, or draws in a browser.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" TOKENIZERS_PARALLELISM=false
unset PYTHONDONTWRITEBYTECODE  # hundreds of processes would each compile the package again

bash scripts/lint.sh style
said=$(mktemp)
bash scripts/lint.sh types >"$said" 2>&1 &  # one core for a minute: the tests need not wait for it
checking=$!
trap 'kill "$checking" 2>/dev/null || true; rm -f "$said"' EXIT

echo "== tests"
tested=0 checked=0
pytest -n "${PYTEST_WORKERS:-2}" --dist worksteal "$@" || tested=$?
wait "$checking" || checked=$?
cat "$said"
[ "$checked" -eq 0 ] || echo "types or layers failed: see above"
exit $((tested > 0 ? tested : checked))
