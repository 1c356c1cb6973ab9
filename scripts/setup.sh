#!/usr/bin/env bash
# Make .venv and install the project with its development tools. Quick when nothing has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=$(cat pyproject.toml scripts/setup.sh hatch_build.py mergekit_geo/merging/*.[ch] | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/geo-merge ] && [ "$(cat .venv/.installed 2>/dev/null)" = "$wanted:$PWD" ]; then
  exit 0
fi

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "mergekit_geo needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python3.11)" >&2
  return 1
}

if ! .venv/bin/python -c '' 2>/dev/null; then
  python=$(find_python)
  echo "== making .venv with $python"
  rm -rf .venv
  "$python" -m venv .venv
fi
echo "== installing (minutes on a fresh machine, once)"
.venv/bin/python -m pip install -q --upgrade "pip>=25.1"
# An exact version keeps the small CPU build where one is offered; a range would admit CUDA packages.
.venv/bin/python -c 'import torch' 2>/dev/null || .venv/bin/python -m pip install -q torch==2.13.0
.venv/bin/python -m pip install -q -e ".[all]" --group dev
echo "$wanted:$PWD" > .venv/.installed
