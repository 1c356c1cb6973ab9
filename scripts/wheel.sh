#!/usr/bin/env bash
# Build an sdist and a wheel, install the wheel into an empty environment, and merge with it there.
# Usage: bash scripts/wheel.sh [--pure] [FOLDER]
#   --pure  a wheel without compiled kernels, for any platform: what Windows installs
#   FOLDER  where sdist and wheel go, dist/ by default
# PYTHON names the interpreter, python3 by default; TORCH the torch that is installed first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --pure ]; then
  export HATCH_BUILD_NO_HOOKS=true
  shift
fi
dist=${1:-dist} root=$PWD
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
bin=$work/venv/bin
[ -d "$bin" ] || bin=$work/venv/Scripts  # Windows
export PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH

echo "== building"
"$bin/python" -m pip install -q build
"$bin/python" -m build -o "$work/dist" .
wheel=$(echo "$work"/dist/*.whl)
cp "$work"/dist/* "$dist/"

echo "== installing $(basename "$wheel")"
# An exact version keeps the small CPU build where one is offered; a range would admit CUDA packages.
"$bin/python" -m pip install -q "${TORCH:-torch==2.13.0}"
cd "$work"
"$bin/python" -m pip install -q "$wheel"

echo "== merging"
"$bin/python" "$root/scripts/check_wheel.py"
echo "== $dist/$(basename "$wheel") works"
