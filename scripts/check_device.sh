#!/usr/bin/env bash
# Check everything that can run on an accelerator beside the CPU: one table, at most five minutes.
# Usage: bash scripts/check_device.sh [--only NAME ...] [--device DEVICE]
# PYTHON names an interpreter that has the packages; without it, the one that setup makes is used.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
  bash scripts/setup.sh
  PYTHON=$PWD/.venv/bin/python
fi
TQDM_DISABLE=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec "$PYTHON" benchmarks/device.py "$@"
