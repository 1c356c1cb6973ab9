"""The commands of the golden guard: each case runs in a folder of its own, with `models` in it.

A step is a command line of `geo-merge`, or, where it begins with `python:`, calls of the Python
interface (`models/...` are folders, `show` prints a report and the digest of a state). The steps of
a case run one after another. No budget can run out, as what it leaves out depends on the time.
"""

from __future__ import annotations

LOSS = "--data models/held.txt --seq-len 32 --batch-size 16 --budget 1000"
FAST = f"{LOSS} --sharpness off"
BLIND = "--no-eval"
DIGITS = "--data models/held.jsonl --batch-size 40 --budget 1000"
FEW = f"{DIGITS} --max-examples 40"
FEWER = "--max-examples 12"
TRAIN = "--train-data builtin:python-docs"
FIT = f"{TRAIN} --train-batch-size 4"
IMAGES = "--train-data models/train.parquet"
ABC = "models/a models/b models/c"
AB = "models/a models/b"
VIT = "models/vit-a models/vit-b"
RESNET = "models/resnet-a models/resnet-b"
RUNS = f"finetune models/base -o runs --members 2 --steps 2 --save-every 1 {FIT} {FAST}"

CASES: dict[str, tuple[str, ...]] = {
    "sharpness_full": (f"sharpness models/vit-a --level full --rho .1 {DIGITS} {FEWER} --json",),
    "sharpness": (f"sharpness {VIT} -o out {DIGITS} {FEWER}",),
    "python": (
        f"python: show(geo.soup({AB.split()}, data=text, sharpness='off'))",
        f"python: show(geo.soup({AB.split()}, 'out', weights=[3, 1], data=None))",
        f"python: show(geo.slerp({AB.split()}, 'arc', t=0.25, data=None))",
        f"python: show(geo.barrier({AB.split()}, points=3, data=text))",
        f"python: show(geo.check({AB.split()}))",
        "python: show(geo.sharpness(['models/vit-a'], data=digits))",
        f"python: print(geo.soup({AB.split()}, data=text, sharpness='off'))",
        f"python: geo.soup({AB.split()}, weights=[1], data=None)",
    ),
    "soup_learned": (
        f"soup {ABC} -o model --method learned --steps 4 {FAST}",
        f"soup {AB} -o layer --method learned --granularity layer --steps 3 {FAST} --json",
        f"soup {AB} -o tensor --method learned --granularity tensor --steps 2 {FAST}",
    ),
    "soup_line": (
        f"soup {AB} -o best --along linear {FAST}",
        f"soup {AB} -o mean --along linear --pick mean --average-points 5 {FAST} --json",
        f"soup {AB} -o midpoint --along slerp --pick midpoint {FAST}",
        f"soup {AB} -o none --along slerp --pick mean {FAST}",
    ),
    "soup_flattest": (f"soup {VIT} -o out --along linear --pick flattest --tolerance .05 {FEW}",),
    "soup_chain": (f"soup {ABC} -o out --along linear {FAST} --json",),
    "soup_greedy": (
        f"soup {ABC} models/independent -o out --method greedy {FAST}",
        f"soup {ABC} -o again --method greedy --with-replacement --basin {FAST} --json",
    ),
    "path": (
        f"path {AB} -o way --kind bezier --steps 3 {FIT} {LOSS}",
        f"point way -o point {FAST}",
        f"point way -o quarter --t .25 {BLIND} --json",
        f"soup {AB} -o along --along way {FAST}",
        f"barrier {AB} --along way --points 3 {LOSS} --json",
    ),
    "path_other": (
        f"path {AB} -o neb --kind neb --bends 2 --steps 4 {FIT} {LOSS}",
        f"path {AB} -o polygon --kind polygon --steps 2 --restarts 2 --optimizer sgd {FIT} {LOSS}"
        " --json",
    ),
    "landscape": (
        f"landscape {ABC} -o plane --grid 5 --mark models/base {LOSS}",
        f"landscape models/a -o around --grid 5 --radius .5 {LOSS} --json",
        f"landscape {AB} -o line --grid 5 --log {LOSS}",
    ),
    "landscape_hessian": (f"landscape models/vit-a -o out --grid 3 --hessian-directions {FEW}",),
    "finetune": (
        f"finetune models/vit-base -o sam --steps 4 {IMAGES} {FEW} --sharpness quick",
        f"finetune models/base -o every --steps 4 --every 2 --adaptive --rho 1 --optimizer sgd"
        f" {FIT} {FAST} --json",
        f"finetune models/base -o lora --lora-rank 2 --steps 2 --rho 0 {FIT} {FAST}",
    ),
    "finetune_members": (RUNS, f"{RUNS} --resume", f"{RUNS} --overwrite --json"),
    "hub": (
        "check org/a org/b",
        f"soup org/a org/b -o out {BLIND}",
        "push out me/merged --private",
        "push out me/merged --json",
        f"soup {AB} -o pushed {BLIND} --push-to me/pushed --json",
        f"soup org/a org/missing -o none {BLIND}",
    ),
    "barrier": (
        f"barrier {AB} models/independent -o out --along linear --along slerp --points 5 {LOSS}",
        f"barrier {AB} --points 3 {LOSS} --json",
        f"barrier models/a models/independent --points 3 --fail-above .02 {LOSS}",
        f"barrier {RESNET} --points 3 {IMAGES} {DIGITS} --json",
    ),
    "digits": (
        f"soup {VIT} -o vit {FEW} --sharpness quick",
        f"soup {RESNET} -o resnet {IMAGES} {DIGITS} --sharpness off",
    ),
    "refused": (
        f"soup models/a models/absent -o out {BLIND}",
        f"soup {AB} -o out {BLIND} --weights 1,2,3",
        f"soup {AB} -o out {BLIND} --weights 1,x --json",
        f"soup models/a models/vit-a -o out {BLIND}",
        f"soup models/a models/nan -o out {BLIND}",
        f"soup {AB} -o models/c {BLIND}",
        f"soup {AB} -o out --method greedy --no-eval",
        f"soup {AB} -o out --method median",
        f"soup {AB} -o out --max-examples 0",
        f"soup {AB}",
        f"slerp {AB} -o out {BLIND} --t 1.5",
        f"slerp {AB} models/c -o out {BLIND} --t .5 --json",
        "barrier models/a",
        f"path {AB} -o out {LOSS}",
        f"soup {AB} -o out --along bezier {FAST}",
        f"path {AB} -o out --kind bezier --bends 0 {TRAIN}",
        f"point models/a -o out {BLIND}",
        "landscape models/a --grid 1",
        f"finetune models/base -o out --rho -1 {TRAIN}",
        f"finetune models/base -o out --steps 2 --epochs 1 {TRAIN}",
        "run absent.yml -o out",
        "run unknown_method.yml -o out",
        "run unknown_key.yml -o out --json",
        "run no_base.yml -o out",
        f"soup {AB} -o out --data absent.jsonl",
        f"soup {AB} -o out --method greedy --data models/held.txt --max-examples 5",
        "push models/a me/a",
    ),
    "soup_uniform": (f"soup {ABC} -o out {FAST}",),
    "soup_builtin": (
        f"soup {AB} -o out --max-examples 16 --seq-len 16 --sharpness off --budget 0",
    ),
    "soup_weighted": (f"soup {ABC} -o out --weights .5,.3,.2 {FAST} --json",),
    "soup_gate": (f"soup models/a models/independent -o out {FAST} --require not-worse",),
    "soup_plain": (
        f"soup {AB} -o out {BLIND} --weights 2,-.5 --no-normalize --dtype bfloat16 --no-fsync",
        f"soup {ABC} -o out {BLIND}",
        f"soup {ABC} -o out {BLIND} --overwrite --max-shard-size 500KB",
        f"soup {AB} -o layer --granularity layer {BLIND}",
        f"soup models/a models/nan -o nan {BLIND} --allow-nonfinite",
    ),
    "slerp": (
        f"slerp {AB} -o two --t .3 {FAST}",
        f"slerp {ABC} -o three --weights 2,1,1 {FAST} --json",
        f"slerp {AB} -o half {BLIND} --dtype float16",
    ),
    "check": (
        f"check {ABC} models/base models/independent",
        f"check {AB} --json",
        "check models/a models/vit-a",
        "check models/a models/vit-a --json",
    ),
    "adapter": (
        "check models/adapter models/base+models/adapter models/a",
        f"soup models/adapter models/a -o out {FAST}",
    ),
    "recipe_ties": (
        "run ties.yml --dry-run",
        "run ties.yml --dry-run --json",
        f"run ties.yml -o out {FAST}",
    ),
    "recipe_masks": (
        f"run dare_ties.yml -o dare_ties {BLIND}",
        f"run dare_linear.yml -o dare_linear {BLIND}",
        f"run della.yml -o della {BLIND}",
        f"run breadcrumbs.yml -o breadcrumbs {BLIND} --json",
    ),
    "recipe_means": (
        f"run model_stock.yml -o model_stock {FAST} --json",
        f"run nuslerp.yml -o nuslerp {BLIND}",
        f"run karcher.yml -o karcher {BLIND}",
        f"run task_arithmetic.yml -o task_arithmetic {BLIND}",
        f"run slerp.yml -o slerp {BLIND}",
    ),
    "recipe_along": ("run along.yml --dry-run", "run along.yml -o out"),
    "recipe_greedy": ("run greedy.yml -o out",),
}
"""By name, the longest first."""

DARE = """
base_model: models/base
models:
  - {model: models/a, parameters: {weight: 0.5, density: 0.6}}
  - {model: models/b, parameters: {weight: 0.3, density: 0.6}}
seed: 7
"""

RECIPES = {
    "ties": """
merge_method: ties
base_model: models/base
models:
  - model: models/base
  - model: models/a
    parameters: {density: 0.5, weight: 0.5}
  - model: models/b
    parameters:
      density: [0.8, 0.5, 0.3]
      weight:
        - {filter: mlp, value: 0.5}
        - value: 0.3
parameters: {normalize: true}
dtype: float32
""",
    "dare_ties": f"merge_method: dare_ties{DARE}",
    "dare_linear": f"merge_method: dare_linear{DARE}",
    "della": f"merge_method: della{DARE}",
    "breadcrumbs": f"merge_method: breadcrumbs{DARE}",
    "model_stock": """
merge_method: model_stock
base_model: models/base
models: [{model: models/a}, {model: models/b}, {model: models/c}]
tokenizer_source: base
""",
    "nuslerp": """
merge_method: nuslerp
base_model: models/base
models:
  - {model: models/a, parameters: {weight: [1, 0.5, 0]}}
  - {model: models/b, parameters: {weight: [0, 0.5, 1]}}
dtype: float32
out_dtype: bfloat16
tokenizer_source: models/a
chat_template: chatml
""",
    "karcher": """
merge_method: karcher
models:
  - {model: models/a, parameters: {weight: 2}}
  - {model: models/b, parameters: {weight: 1}}
  - {model: models/c, parameters: {weight: 1}}
""",
    "task_arithmetic": """
merge_method: task_arithmetic
base_model: models/base
models:
  - {model: models/a, parameters: {weight: 0.6}}
  - {model: models/b, parameters: {weight: 0.3}}
parameters: {lambda: 0.9, normalize: false}
""",
    "slerp": """
slices:
  - sources:
      - {model: models/a, layer_range: [0, 4]}
      - {model: models/b, layer_range: [0, 4]}
merge_method: slerp
base_model: models/a
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5
dtype: bfloat16
""",
    "along": """
merge_method: along
finetune:
  - {name: flat, model: models/base, train_data: "builtin:python-docs", members: 2, rho: 0.05,
     steps: 2, train_batch_size: 4}
models: [{model: flat-0}, {model: flat-1}]
along: {kind: bezier, pick: best, train_data: "builtin:python-docs", steps: 2,
  train_batch_size: 4, control: true}
objective: {data: models/held.txt, seq_len: 32, batch_size: 16}
sharpness: off
seed: 0
""",
    "greedy": """
merge_method: greedy
models: [{model: models/a}, {model: models/b}, {model: models/c}]
objective: {data: models/held.txt, task: causal-lm, seq_len: 32}
sharpness: off
""",
    "unknown_method": "merge_method: median\nmodels: [{model: models/a}, {model: models/b}]\n",
    "unknown_key": "merge_method: linear\nmodels: [{model: models/a}]\nweigths: 1\n",
    "no_base": "merge_method: ties\nmodels: [{model: models/a}, {model: models/b}]\n",
}
