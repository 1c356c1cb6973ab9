#!/usr/bin/env bash
# Three members by AdamW and three by SAM from one base, at equal steps; their soups; one table.
# Usage: bash examples/sam_then_soup.sh [BASE [OUT]]     SEED=0 RHO=0.05 STEPS=150 LR=2e-3
set -euo pipefail
base=${1:-demo/base} out=${2:-demo/sam_then_soup}
rho=${RHO:-0.05} text=builtin:python-docs
export TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$out"

arm() { # NAME RHO: train members (a run that was interrupted goes on), average them
  [ -d "$out/$1" ] || geo-merge finetune "$base" --members 3 --seed "${SEED:-0}" --rho "$2" \
    --train-data "$text" --steps "${STEPS:-150}" --lr "${LR:-2e-3}" --sharpness off --resume \
    -o "$out/$1"
  geo-merge soup "$out/$1"/member-* -o "$out/$1-soup" --overwrite > /dev/null
}
arm adamw 0
arm sam "$rho"
python "$(dirname "${BASH_SOURCE[0]}")/../benchmarks/soups_table.py" "$out/adamw-soup" "$out/sam-soup"
