"""The Gram matrix of whole models: the same bits however threads share the tensors."""

import numpy as np
import pytest
import torch

from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import NonFiniteError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.gram import gram_of


def blend(seed: int = 0) -> Blend:
    draw = torch.Generator().manual_seed(seed)
    models = [
        {f"w{i}": torch.randn(50 + 7 * i, generator=draw) for i in range(20)}
        | {"n.running_mean": torch.randn(9, generator=draw), "count": torch.tensor(1)}
        for _ in range(3)
    ]
    anchors = tuple(of_state(model, f"m{i}") for i, model in enumerate(models))
    return Blend(anchors, Linear((1.0, 0.0, 0.0)))


def test_it_is_that_of_the_parameters_alone() -> None:
    found = blend()
    vectors = [
        torch.cat([tensor.double() for name, tensor in anchor.state.items() if name[0] == "w"])
        for anchor in found.anchors
        if anchor.state is not None
    ]
    expected = Gram.of(torch.stack(vectors).numpy())
    np.testing.assert_allclose(gram_of(found).differences, expected.differences, rtol=1e-12)
    assert gram_of(found).count == expected.count


def test_it_is_the_same_to_the_bit_every_time() -> None:
    found = blend()
    first = gram_of(found).differences
    assert all(np.array_equal(first, gram_of(found).differences) for _ in range(20))


def test_what_is_not_finite_is_refused_if_asked() -> None:
    found = blend()
    assert found.donor.state is not None
    found.donor.state["w3"][2] = torch.nan
    assert gram_of(found).count > 0
    with pytest.raises(NonFiniteError, match=r"NaN or infinite elements in m0 \(1\)"):
        gram_of(found, allow_nonfinite=False)
