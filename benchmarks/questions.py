"""Tasks of lm-evaluation-harness: the package beside lm-eval's own wrapper, on one model in memory.

    python -m benchmarks.questions [--layers 6 --width 512 --limit 40 --rounds 3]

Local tasks on CPython's documentation, and a Llama of random weights with the demo's vocabulary,
of 32,000 tokens by `--vocabulary`. Texts are cut into tokens beforehand: of lm-eval, which cuts
them anew for every model, `_loglikelihood_tokens` alone is timed. Rounds alternate; it is the
processor's time that counts.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.evaluation.sample import prepare
from mergekit_geo.tasks.harness.quiet import quiet
from tests.tasks.harness.topics import write

DEMO = Path(__file__).parents[1] / "demo" / "base"
TASKS = {"topics": 0, "letters": 5, "pages": 0}
"""Tasks, and examples in the context."""


def main() -> None:
    asked = options()
    model = LlamaForCausalLM(config := llama(asked)).eval()
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    print("| task | lm-eval, batch of 1 | of 8 | of 32 | geo-merge | ratio to the best |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with TemporaryDirectory() as place:
        folder = write(Path(place))
        for task, shots in TASKS.items():
            data = EvalData(
                f"lm-eval:{task}", include_path=str(folder), num_fewshot=shots or None,
                limit=asked.limit,
            )  # fmt: skip
            sample = prepare(data, DEMO, config.to_dict(), Compute(device="cpu"))
            objective = sample.objective
            runs: dict[str, Callable[[], Any]] = {}
            for size in (1, 8, 32):
                with quiet():
                    wrapped = HFLM(model, tokenizer=tokenizer, batch_size=size)
                runs[str(size)] = their_run(wrapped, objective)
            runs["ours"] = partial(objective.measure, model)
            print(row(task, alternated(runs, asked.rounds)), flush=True)


def their_run(wrapped: HFLM, objective: Any) -> Callable[[], float]:
    """lm-eval's forward passes of all requests, whose tokens are ready."""
    encoder, kind = objective.task.encoder, objective.task.unit
    requests = [request for one in objective.task.asked for request in one.requests]
    cut = (
        [pair for request in requests for pair in encoder.windows(request)]
        if kind == "byte" else encoder.pairs(requests)
    )  # fmt: skip
    ready = [(("", ""), *pair) for pair in cut]

    def run() -> float:
        with quiet():
            found = wrapped._loglikelihood_tokens(ready, disable_tqdm=True)
        return math.fsum(value for value, _ in found)

    return run


def alternated(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of the processor of each; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            if number:
                found[name].append(time.process_time() - began)
    return {name: median(seconds) for name, seconds in found.items()}


def row(task: str, found: dict[str, float]) -> str:
    theirs = {name: seconds for name, seconds in found.items() if name != "ours"}
    ratio = min(theirs.values()) / found["ours"]
    cells = [*(f"{seconds:.2f}" for seconds in found.values()), f"{ratio:.2f}"]
    return f"| {task} | {' | '.join(cells)} |"


def llama(asked: argparse.Namespace) -> LlamaConfig:
    torch.manual_seed(0)
    return LlamaConfig(
        architectures=["LlamaForCausalLM"], vocab_size=asked.vocabulary, hidden_size=asked.width,
        intermediate_size=asked.width * 3, num_hidden_layers=asked.layers,
        num_attention_heads=asked.width // 64, num_key_value_heads=asked.width // 64,
        max_position_embeddings=1024, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip


def options() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    found.add_argument("--layers", type=int, default=6)
    found.add_argument("--width", type=int, default=512)
    found.add_argument("--vocabulary", type=int, default=32000)
    found.add_argument("--limit", type=int, default=40)
    found.add_argument("--rounds", type=int, default=3)
    return found.parse_args()


if __name__ == "__main__":
    main()
