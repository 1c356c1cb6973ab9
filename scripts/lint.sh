#!/usr/bin/env bash
# Set up, then check lint, format, types and layers.
# Usage: bash scripts/lint.sh [style|types]   one part of it; without, both, and types as on Windows
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

style() {
  echo "== lint"; ruff check .; ruff format --check .
}
types() {
  echo "== types";  mypy
  echo "== layers"; lint-imports
  echo "== house";  python benchmarks/house.py || echo "benchmarks/house.py failed: see above"
}
windows() {
  echo "== types as on Windows"; mypy --platform win32 --cache-dir .mypy_cache/windows
}

case "${1:-}" in
  style | types) "$1" ;;
  "") style; types; windows ;;
  *) echo "expected style or types, found $1" >&2; exit 2 ;;
esac
