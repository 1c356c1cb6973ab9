"""Weigh the measures of sharpness: products, true errors and seconds, beside PyHessian.

Usage:
    python tests/demo/train.py demo base a            # once: the Llama that is measured
    pip install --no-deps --target FOLDER pyhessian==0.1
    python benchmarks/sharpness.py --pyhessian FOLDER  # everything
    python benchmarks/sharpness.py --only digits trace # some sections; without PyHessian

Sections, each in a process of its own, on the CPU in float32 with two threads; `llama` takes ten
minutes, `trace` twenty, the others one each:

digits  λ_max of a 64-64-10 network on scikit-learn's digits, trained with five seeds.
llama   λ_max of the demo Llama on one batch of 16 windows, from five starts.
trace   XTrace beside Hutchinson at equal products, on both.
costs   A product in gradients, and its memory, on the demo Llama and the sample of `quick`.
quick   The whole level: gradients and seconds.

How PyHessian is compared: both get the same module, the same single batch, the same start (what
`torch.randn` gives for the seed) and the same attention kernel. Both build the graph of the one
batch's gradient once, and only differentiate it again for every product. Seconds are whole: the
graph and all products. Its products are counted in its own `hessian_vector_product`. For each of
its runs stands the shortest Lanczos run whose true error is no larger; below are the runs that our
own rule ends, which does not know the truth. True eigenvalues are those of a long Lanczos in
float64, the digits' true trace is that of the whole Hessian. Repetitions alternate between the two;
ratios of seconds are of neighbours, in the median, and of the fastest, and the verdict is on both.
Idle threads sleep (OMP_WAIT_POLICY=PASSIVE): on a machine that is shared they would otherwise spin
while another process holds the core.
"""

from __future__ import annotations

import copy
import importlib
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import CrossEntropyLoss, Linear, Module, ReLU, Sequential
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from benchmarks import harness
from benchmarks.harness import met
from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import Krylov, Stop, extremes_converged, lanczos, never
from mergekit_geo.curvature.levels import DIFFERENCES, EXACT, LEVELS
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.table import gradients_of
from mergekit_geo.curvature.trace import hutchinson, xtrace
from mergekit_geo.records.curvature import Trace

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.curvature.lanczos import Product
    from mergekit_geo.evaluation.objective import TaskObjective

THREADS = 2
SEEDS = range(5)
TRAINING_STEPS, RATE = 100, 1e-2
"""Of Adam on all digits: to a loss of 0.03."""
WINDOWS, LENGTH = 16, 64
"""Of the demo's one batch: examples, and tokens in each."""

TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5)
"""PyHessian's: of the change between two products."""
OWN_TOLERANCES = (1e-1, 1e-2, 1e-3)
"""Ours: of the residual. The error is about its square."""
MOST_STEPS = 100
TRUTH_STEPS, TRUTH_TOLERANCE = 100, 1e-5
MOST_PRODUCTS = {"digits": 1.0, "llama": 0.5}
"""Of PyHessian's, for the same error."""
REPEATS = {"digits": 9, "llama": 3}

LIKE_WITH_LIKE = (
    "Both have the same module, single batch, start and attention kernel (math); both build the "
    "graph of the gradient once; ms are of the graph and all products."
)

TRACE_PRODUCTS = (30, 60, 98)
MOST_ERROR = 1 / 3
"""Of Hutchinson's."""
TRACE_SEEDS = {"digits": 20, "llama": 5}
REFERENCE_PRODUCTS, REFERENCE_SEED = 600, 1000
CHUNK = 130
"""Rows of the whole Hessian made at once."""

MOST_GRADIENTS = {EXACT: 3.6, DIFFERENCES: 2.1}
"""Of a product."""
COST_ROUNDS = 11

# Problems


@dataclass(frozen=True)
class Problem:
    """A model on one batch, with the mean cross entropy of N targets.

    Attributes:
        model: From the inputs to logits (N, c).
        inputs: What it takes.
        targets: (N,)
    """

    model: Module
    inputs: Tensor
    targets: Tensor

    def loss(self) -> MeanLoss:
        """Its mean over the targets."""
        return MeanLoss(self.model, [self._piece])

    def start(self, seed: int) -> Tensor:
        """The vector that PyHessian starts from."""
        torch.manual_seed(seed)
        return torch.cat([torch.randn(p.size()).flatten() for p in self.model.parameters()])

    def double(self) -> Problem:
        """The same in float64 (Llama's norms and softmax remain in float32)."""
        inputs = self.inputs.double() if self.inputs.is_floating_point() else self.inputs
        return Problem(copy.deepcopy(self.model).double(), inputs, self.targets)

    def _piece(self, model: Module) -> tuple[Tensor, Tensor]:
        losses = cross_entropy(model(self.inputs), self.targets, reduction="none")
        return losses, torch.ones_like(losses)


def digits_of(seed: int) -> Problem:
    """A network trained on all digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    torch.manual_seed(seed)
    model = Sequential(Linear(64, 64), ReLU(), Linear(64, 10))
    problem = Problem(model, torch.tensor(data.data / 16).float(), torch.tensor(data.target))
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        cross_entropy(model(problem.inputs), problem.targets).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return problem


class NextToken(Module):
    """A causal model as one from ids (b, l) to logits (b * (l - 1), v) of what follows."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_bl: Tensor) -> Tensor:
        """Run it."""
        logits: Tensor = self.model(input_ids=ids_bl, use_cache=False).logits
        return logits[:, :-1].flatten(0, 1)


def llama_of(demo: Path) -> Problem:
    """The demo on whole windows of the sample: all tokens weigh the same, none is padding."""
    model, sample = open_demo(demo)
    whole = [example for example in sample.kept if example.size == LENGTH][:WINDOWS]
    assert len(whole) == WINDOWS, f"{len(whole)} windows of {LENGTH} tokens"
    ids = torch.tensor([example.fields["input_ids"] for example in whole])
    return Problem(NextToken(model), ids, ids[:, 1:].flatten())


def open_demo(demo: Path) -> tuple[Module, TaskObjective]:
    """The module, and the sample that `quick` measures it on."""
    from mergekit_geo.config.data import EvalData
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.curvature.sample import make_sample
    from mergekit_geo.curvature.suite import subject
    from mergekit_geo.evaluation.objective import TaskObjective
    from mergekit_geo.evaluation.plan import plan_losses

    checkpoint, cpu = open_checkpoint_at(demo), Compute(device="cpu")
    objective = plan_losses([checkpoint], EvalData(), cpu).objective
    assert objective is not None
    measured = make_sample(objective, LEVELS["quick"].examples, 0).measured
    assert isinstance(measured, TaskObjective)
    return subject(checkpoint, "model", cpu).load(), measured


def open_checkpoint_at(demo: Path) -> Checkpoint:
    from mergekit_geo.checkpoints.reference import open_checkpoint

    return open_checkpoint(demo)


def true_largest(problem: Problem) -> float:
    """λ_max of a long Lanczos in float64."""
    exact = problem.double()
    stop = extremes_converged(TRUTH_TOLERANCE)
    start = exact.start(0).double()
    found = lanczos(Hessian(exact.loss()).product, start, TRUTH_STEPS, stop=stop)
    assert stop(found), "the true eigenvalue was not found"
    return float(found.values[-1])


def true_trace(problem: Problem) -> float:
    """Of the whole Hessian in float64, made by other code than ours."""
    from torch.func import functional_call, grad, jacrev

    exact = problem.double()
    model, inputs, targets = exact.model, exact.inputs, exact.targets
    parameters = dict(model.named_parameters())
    sizes = [parameter.numel() for parameter in parameters.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(parameters.items(), flat.split(sizes), strict=True)
        own = {name: part.view_as(parameter) for (name, parameter), part in parts}
        return cross_entropy(functional_call(model, own, (inputs,)), targets)

    flat = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
    return float(jacrev(grad(loss), chunk_size=CHUNK)(flat).trace())


# Largest eigenvalue


@dataclass(frozen=True)
class Case:
    """A problem with its truth, and the seed of the start."""

    problem: Problem
    truth: float
    seed: int


@dataclass(frozen=True)
class Run:
    """What was found: products, true relative error, seconds of each repetition."""

    products: int
    error: float
    seconds: tuple[float, ...]


def by_pyhessian(case: Case, tolerance: float) -> Run:
    """PyHessian's power iteration, until it stops by itself."""
    problem = case.problem
    torch.manual_seed(case.seed)
    with counted() as products, sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        hessian = importlib.import_module("pyhessian").hessian(
            problem.model, CrossEntropyLoss(), data=(problem.inputs, problem.targets), cuda=False
        )
        value = hessian.eigenvalues(maxIter=1000, tol=tolerance)[0][0]
        seconds = time.perf_counter() - began
    problem.model.zero_grad(set_to_none=True)  # it leaves its graph there
    return Run(len(products), abs(value / case.truth - 1), (seconds,))


@contextmanager
def counted() -> Iterator[list[None]]:
    """One element for every product that PyHessian takes."""
    importlib.import_module("pyhessian")
    module: Any = sys.modules["pyhessian.hessian"]
    product = module.hessian_vector_product
    products: list[None] = []

    def counting(*arguments: object) -> object:
        products.append(None)
        return product(*arguments)

    module.hessian_vector_product = counting
    try:
        yield products
    finally:
        module.hessian_vector_product = product


def by_lanczos(case: Case, steps: int, stop: Stop = never) -> Run:
    """Ours, for so many steps or until a rule stops it."""
    products: list[None] = []
    start = case.problem.start(case.seed)
    began = time.perf_counter()
    hessian = Hessian(case.problem.loss())

    def counting(vector: Tensor) -> Tensor:
        products.append(None)
        return hessian.product(vector)

    found = lanczos(counting, start, steps, stop=stop)
    seconds = time.perf_counter() - began
    assert hessian.method == EXACT, hessian.reason
    return Run(len(products), abs(float(found.values[-1]) / case.truth - 1), (seconds,))


def steps_to(case: Case, error: float) -> int:
    """Fewest Lanczos products with a true error that is no larger."""

    def reached(found: Krylov) -> bool:
        return bool(abs(found.values[-1] / case.truth - 1) <= error)

    run = by_lanczos(case, MOST_STEPS, reached)
    assert run.error <= error, f"not reached in {MOST_STEPS} steps: {error:.1e}"
    return run.products


def alternating(works: Sequence[Callable[[], Run]], repeats: int) -> list[Run]:
    """Each work's run, with the seconds of all its repetitions."""
    return [
        replace(runs[0], seconds=tuple(run.seconds[0] for run in runs))
        for runs in harness.alternate(dict(enumerate(works)), repeats).values()
    ]


def pair(case: Case, tolerance: float, repeats: int) -> list[Run]:
    """PyHessian, and the shortest Lanczos that is as right."""
    steps = steps_to(case, by_pyhessian(case, tolerance).error)
    works = [partial(by_pyhessian, case, tolerance), partial(by_lanczos, case, steps)]
    return alternating(works, repeats)


def report_largest(name: str, cases: Sequence[Case], peer: Path | None) -> None:
    rows, began = [], time.perf_counter()
    if peer:
        sys.path.insert(0, str(peer))
        for tolerance in TOLERANCES:
            pairs = [pair(case, tolerance, REPEATS[name]) for case in cases]
            harness.say(f"{name}: PyHessian to {tolerance:g}", began)
            theirs, ours = zip(*pairs, strict=True)
            rows += pair_rows(tolerance, theirs, ours, MOST_PRODUCTS[name])
    for tolerance in OWN_TOLERANCES:
        rule = extremes_converged(tolerance)
        works = [partial(by_lanczos, case, MOST_STEPS, rule) for case in cases]
        found = alternating(works, REPEATS[name])
        rows.append([*run_cells("Lanczos", f"residual {tolerance:g}", found), "", ""])
    head = ["way", "until", "products", "true error", "largest error", "ms", "fastest ms"]
    harness.table([*head, f"products, at most {MOST_PRODUCTS[name]:g} x", "ms, at most 1 x"], rows)


def pair_rows(
    tolerance: float, theirs: Sequence[Run], ours: Sequence[Run], most: float
) -> list[list[str]]:
    """Medians over cases, and whether ours are within what is asked."""
    products = median(run.products for run in ours) / median(run.products for run in theirs)
    seconds = median(
        ratio for own, other in zip(ours, theirs, strict=True) for ratio in ratios(own, other)
    )
    fastest = median(
        min(own.seconds) / min(other.seconds) for own, other in zip(ours, theirs, strict=True)
    )
    verdict = met(max(seconds, fastest) <= 1)
    verdicts = [
        f"{products:.2f}: {met(products <= most)}",
        f"{seconds:.2f}, {fastest:.2f}: {verdict}",
    ]
    return [
        [*run_cells("PyHessian", f"change {tolerance:g}", theirs), "", ""],
        [*run_cells("Lanczos", "as right", ours), *verdicts],
    ]


def ratios(own: Run, other: Run) -> Iterator[float]:
    """Of the seconds of neighbours."""
    return (a / b for a, b in zip(own.seconds, other.seconds, strict=True))


def run_cells(way: str, until: str, runs: Sequence[Run]) -> list[str]:
    products = [run.products for run in runs]
    errors = [run.error for run in runs]
    return [
        way,
        until,
        f"{median(products):.0f} ({min(products)}-{max(products)})",
        f"{median(errors):.1e}",
        f"{max(errors):.1e}",
        f"{1000 * median(median(run.seconds) for run in runs):.1f}",
        f"{1000 * median(min(run.seconds) for run in runs):.1f}",
    ]


def report_digits(peer: Path | None) -> None:
    """λ_max of five networks."""
    prepare()
    problems = [digits_of(seed) for seed in SEEDS]
    cases = [Case(p, true_largest(p), seed) for seed, p in zip(SEEDS, problems, strict=True)]
    values = ", ".join(f"{case.truth:.3f}" for case in cases)
    print(f"\n## digits: 64-64-10, {len(problems[0].targets)} examples in one batch\n")
    print(f"True λ_max of the five: {values}. Medians over them. {LIKE_WITH_LIKE}\n")
    report_largest("digits", cases, peer)


def report_llama(peer: Path | None, demo: Path) -> None:
    """λ_max of the demo from five starts."""
    prepare()
    problem = llama_of(demo)
    truth = true_largest(problem)
    size = problem.loss().weights.size
    print(f"\n## llama: {size:,} parameters, {WINDOWS} x {LENGTH} tokens in one batch\n")
    print(f"True λ_max: {truth:.4f}. Medians over five starts. {LIKE_WITH_LIKE}\n")
    report_largest("llama", [Case(problem, truth, seed) for seed in SEEDS], peer)


# Trace


@dataclass(frozen=True)
class Reference:
    """A trace, and how far it may be off."""

    value: float
    error: float = 0.0


def report_trace(demo: Path) -> None:
    """XTrace beside Hutchinson."""
    prepare()
    began = time.perf_counter()
    network, llama = digits_of(0), llama_of(demo)
    exact = Reference(true_trace(network))
    harness.say("trace: whole Hessian of the digits", began)
    estimate = xtrace(*operator(llama), REFERENCE_PRODUCTS, REFERENCE_SEED)
    harness.say("trace: reference of the demo", began)
    known = Reference(estimate.value, estimate.standard_error)
    print("\n## trace: XTrace beside Hutchinson at equal products\n")
    print(f"Digits: {exact.value:.5g}, of the whole Hessian in float64. Demo: {known.value:.5g} ±")
    print(f"{known.error:.2g} (XTrace with {estimate.products} products). SE: the standard error")
    print("that is told, in the median; error: root mean square of the true one; both relative.\n")
    rows = [*trace_rows("digits", network, exact), *trace_rows("llama", llama, known)]
    head = ["model", "products", "seeds", "Hutchinson SE", "error", "XTrace SE", "error"]
    harness.table([*head, "ratio of errors", "ratio of SE, at most 1/3"], rows)


def operator(problem: Problem) -> tuple[Product, int, torch.dtype]:
    loss = problem.loss()
    return Hessian(loss).product, loss.weights.size, loss.weights.dtype


def trace_rows(name: str, problem: Problem, truth: Reference) -> Iterator[list[str]]:
    began = time.perf_counter()
    for products in TRACE_PRODUCTS:
        seeds = range(TRACE_SEEDS[name])
        cells: list[tuple[float, float]] = []
        for estimator in (hutchinson, xtrace):
            found = [estimator(*operator(problem), products, seed) for seed in seeds]
            cells.append(spread(found, truth.value))
        harness.say(f"trace: {name}, {products} products", began)
        (told, error), (told_x, error_x) = cells
        percent = [f"{share:.2%}" for share in (told, error, told_x, error_x)]
        ratio = told_x / told
        verdict = f"{ratio:.2f}: {met(ratio <= MOST_ERROR)}"
        yield [name, str(products), str(len(seeds)), *percent, f"{error_x / error:.2f}", verdict]


def spread(found: Sequence[Trace], truth: float) -> tuple[float, float]:
    """Median of the standard errors told, and the true error; both relative."""
    told = median(trace.standard_error for trace in found)
    error = math.sqrt(sum((trace.value - truth) ** 2 for trace in found) / len(found))
    return told / abs(truth), error / abs(truth)


# Costs


def costs_of(demo: Path) -> dict[str, Callable[[], object]]:
    """What is weighed, on the sample of `quick`."""
    model, sample = open_demo(demo)
    loss = MeanLoss(model, sample.batches())
    vector = torch.randn(loss.weights.size, generator=torch.Generator().manual_seed(0))
    return {
        "gradient": loss.gradient,
        EXACT: lambda: Hessian(loss).product(vector),
        DIFFERENCES: lambda: Hessian(loss, DIFFERENCES).product(vector),
    }


def seconds_of_costs(demo: Path) -> dict[str, list[float]]:
    """Of each work, after a round that does not count."""
    prepare()
    works = {name: partial(harness.timed, work) for name, work in costs_of(demo).items()}
    found = harness.alternate(works, COST_ROUNDS, warm_up=True)
    return {name: [cost.wall for cost in costs] for name, costs in found.items()}


def peak_of(demo: Path, name: str) -> tuple[float, float]:
    """Most megabytes resident before and after a work is done twice, in a process of its own."""
    prepare()
    work = costs_of(demo)[name]
    return harness.peak(), harness.timed(work, 2).rss


def report_costs(demo: Path) -> None:
    """A product in gradients; called in a process that stays small."""
    seconds = harness.in_child(seconds_of_costs, demo)
    gradient = seconds["gradient"]
    rows = []
    for name, taken in seconds.items():
        before, after = harness.in_child(peak_of, demo, name)
        shares = [harness.ratio(taken, gradient), min(taken) / min(gradient)]
        asked = MOST_GRADIENTS.get(name)
        verdict = f"{asked}: {met(shares[0] <= asked)}" if asked else ""
        cells = [f"{median(taken):.3f}", f"{min(taken):.3f}", *(f"{s:.2f}" for s in shares)]
        rows.append([name, *cells, verdict, f"{after:.0f}", f"{after - before:.0f}"])
    print(f"\n## costs: the demo on the sample of `quick`, {COST_ROUNDS} alternating rounds\n")
    head = ["work", "median s", "fastest s", "in gradients: median", "of the fastest", "at most"]
    harness.table([*head, "peak RSS MB", "above the model's load MB"], rows)


# The level


def report_quick(demo: Path) -> None:
    """The whole level as users call it, with an empty cache."""
    prepare()
    from mergekit_geo.commands.sharpness import sharpness
    from mergekit_geo.config.measures import Compute

    gradient = min(harness.timed(costs_of(demo)["gradient"]).wall for _ in range(3))
    with harness.empty_cache():
        began = time.perf_counter()
        result = sharpness(demo, compute=Compute(device="cpu", budget=0))
        seconds = time.perf_counter() - began
    (entry,) = result.measurements.sharpness
    most = gradients_of(LEVELS["quick"])
    print("\n## quick: the whole level on the demo, models and data opened, nothing kept\n")
    rows = [
        ["gradients spent", f"{entry.gradients:.1f}"],
        ["gradients at most", f"{most:.1f}"],
        ["seconds", f"{seconds:.1f}"],
        ["seconds of so many gradients", f"{gradient * entry.gradients:.1f}"],
        ["found", str(result)],
    ]
    harness.table(["what", "value"], rows)


# The command line


def prepare() -> None:
    """A fresh process."""
    torch.set_num_threads(THREADS)


SECTIONS = ("digits", "llama", "trace", "costs", "quick")


def main() -> None:
    parser = harness.parser(__doc__, only=SECTIONS)
    parser.add_argument("--pyhessian", type=Path, help="folder that holds PyHessian 0.1")
    parser.add_argument("--demo", type=Path, default=Path("demo/a"), help="the demo Llama")
    options = parser.parse_args()
    harness.work_offline(THREADS)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    demo, peer = options.demo.resolve(), options.pyhessian and options.pyhessian.resolve()
    sections: dict[str, Callable[[], None]] = {
        "digits": partial(harness.in_child, report_digits, peer),
        "llama": partial(harness.in_child, report_llama, peer, demo),
        "trace": partial(harness.in_child, report_trace, demo),
        "costs": partial(report_costs, demo),
        "quick": partial(harness.in_child, report_quick, demo),
    }
    for name in options.only:
        sections[name]()
    print(f"\n{harness.versions()}")


if __name__ == "__main__":
    main()
