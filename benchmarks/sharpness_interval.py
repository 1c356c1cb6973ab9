"""What the ± of λ_max covers: samples of digits, beside λ_max of all of them.

Usage:
    python benchmarks/sharpness_interval.py                 # 400 repetitions a row, two minutes
    python benchmarks/sharpness_interval.py --repeats 100

A small network is trained on scikit-learn's digits. Each repetition draws images with replacement,
finds λ_max on them by Lanczos, and takes the jackknife over images of v^T H_i v at the v found, as
`geo-merge sharpness` does. What is right is λ_max of all 1,797 images. Columns:

    λ / truth    mean of λ_max on the samples, over the truth: the bias up of small samples, which
                 no interval holds
    spread       standard deviation of λ_max over the samples, over the truth
    error        mean standard error by the jackknife, over the truth
    covered      how often the 95 % interval holds the truth
    centred      the same for the mean over all samples: what the interval is of
    residual     how often Lanczos' residual, which was printed before, holds the truth
    paired       how often the interval of the difference between two networks, on the same images,
                 holds the true difference
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks import harness
from mergekit_geo.curvature.direction import quotients
from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import extremes_converged, lanczos, random_start
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.objective import FunctionObjective
from mergekit_geo.evaluation.statistics import DocumentMean, document_mean, mean_loss
from mergekit_geo.tasks.losses import Losses

SIZES = (16, 27, 64, 128, 256, 512)
STEPS, TOLERANCE = 40, 1e-3


@dataclass(frozen=True)
class Found:
    """λ_max on a sample.

    Attributes:
        value: The Ritz value.
        residual: Of Lanczos.
        quotients: v^T H_i v of every image.
    """

    value: float
    residual: float
    quotients: Losses

    @property
    def sure(self) -> DocumentMean:
        """With its interval."""
        return mean_loss(self.quotients)


def images() -> tuple[Tensor, Tensor]:
    """All digits: (1797, 64) in float64, and their labels."""
    data, labels = load_digits(return_X_y=True)
    return torch.tensor(data / 16), torch.tensor(labels)


def network(seed: int, steps: int = 60) -> nn.Module:
    """Trained on all digits: 1,210 parameters."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()
    inputs, labels = images()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Of every image."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def sharpness(model: nn.Module, rows: Tensor) -> Found:
    """λ_max on some images, and v^T H_i v of each."""
    inputs, labels = images()
    objective = FunctionObjective(losses_of, [(inputs[rows], labels[rows])])
    loss = MeanLoss(model, objective.batches())
    start = random_start(loss.weights.size, loss.weights.dtype, 0)
    krylov = lanczos(Hessian(loss).product, start, STEPS, stop=extremes_converged(TOLERANCE))
    value = float(krylov.values[-1])
    each = quotients(loss, objective, krylov.vector(-1), value)
    return Found(value, float(krylov.residuals[-1]), each)


def covered(models: Sequence[nn.Module], size: int, repeats: int) -> list[str]:
    """A row of the table."""
    everything = torch.arange(len(images()[1]))
    truth, other = (sharpness(model, everything).value for model in models)
    draw = torch.Generator().manual_seed(size)
    drawn = [torch.randint(len(everything), (size,), generator=draw) for _ in range(repeats)]
    pairs = [tuple(sharpness(model, rows) for model in models) for rows in drawn]
    found = [first for first, _ in pairs]
    values = np.array([one.value for one in found])
    errors = np.array([one.sure.error for one in found])
    cells = [
        f"{values.mean() / truth:.2f}",
        f"{values.std() / truth:.2f}",
        f"{errors.mean() / truth:.2f}",
        share([holds(one.sure, one.value, truth) for one in found]),
        share([holds(one.sure, one.value, float(values.mean())) for one in found]),
        share([abs(one.value - truth) <= one.residual for one in found]),
        share([holds(paired(a, b), a.value - b.value, truth - other) for a, b in pairs]),
    ]
    return [str(size), *cells]


def paired(first: Found, second: Found) -> DocumentMean:
    """The difference of two networks on the same images."""
    one, other = first.quotients, second.quotients
    return document_mean(one.loss - other.loss, one.weight, one.document)


def holds(mean: DocumentMean, value: float, truth: float) -> bool:
    """Whether an interval, moved to a value, holds the truth."""
    found = mean.estimate
    assert found.low is not None, "too few documents"
    assert found.high is not None, "too few documents"
    return abs(value - truth) <= (found.high - found.low) / 2


def share(held: Sequence[bool]) -> str:
    """In percent."""
    return f"{np.mean(held):.0%}"


def main() -> None:
    """Print the table."""
    parser = harness.parser(__doc__, repeats=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="images of a sample")
    parser.add_argument("--steps", type=int, default=60, help="of training; more is sharper")
    args = parser.parse_args()
    models = [network(seed, args.steps) for seed in (0, 1)]
    head = ["images", "λ / truth", "spread", "error", "covered", "centred", "residual", "paired"]
    harness.table(head, (covered(models, size, args.repeats) for size in args.sizes))


if __name__ == "__main__":
    main()
