"""Merging in short chunks, by either implementation of the mask operations."""

import pytest

from mergekit_geo.merging import masked, tensor
from mergekit_geo.merging.mask_kernel import MaskKernel
from mergekit_geo.merging.native_masks import NativeMasks
from mergekit_geo.merging.plain_masks import PlainMasks


@pytest.fixture(params=[NativeMasks(), PlainMasks()], ids=["native", "plain"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MaskKernel:
    """Short chunks, so that every tensor has several."""
    monkeypatch.setattr(masked, "mask_kernel", lambda: request.param)
    monkeypatch.setattr(tensor, "CHUNK", 500)
    return request.param  # type: ignore[no-any-return]
