#!/usr/bin/env bash
# Build the documentation into site/: dead links, pages outside the navigation and public names
# without documentation fail. PYTHON names an interpreter that has the packages already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
  bash scripts/setup.sh
  PYTHON=$PWD/.venv/bin/python
fi
"$PYTHON" -c 'import material, mkdocstrings' 2>/dev/null || "$PYTHON" -m pip install -q --group docs
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" NO_MKDOCS_2_WARNING=1
"$PYTHON" -m mkdocs build --clean "$@"
"$PYTHON" -m scripts.docs.blocks
