#!/usr/bin/env bash
# Build the wheel with compiled kernels for this platform by cibuildwheel, and try it with every Python.
# Usage: bash scripts/wheels.sh [FOLDER]   Linux needs docker; what is built is said in pyproject.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install -q "cibuildwheel>=4,<5"
"$venv/bin/python" -m cibuildwheel --output-dir "${1:-dist}"
