#!/usr/bin/env bash
# Set up, then check everything: lint, format, types, layers, tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" TOKENIZERS_PARALLELISM=false

echo "== lint";   ruff check . && ruff format --check .
echo "== types";  mypy
echo "== layers"; lint-imports
echo "== house";  python benchmarks/house.py || echo "benchmarks/house.py failed: see above"
echo "== tests";  pytest -n "${PYTEST_WORKERS:-2}" "$@"
