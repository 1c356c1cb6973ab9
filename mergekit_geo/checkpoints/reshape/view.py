"""A checkpoint seen as one of another shape: other tensors, another configuration, same source."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reading import Read
from mergekit_geo.checkpoints.reshape.frame import Frame


def view(
    checkpoint: Checkpoint,
    tensors: Mapping[str, TensorInfo],
    reader: Callable[[Checkpoint], Read],
    frame: Frame,
    said: object,
    config: Config | None = None,
) -> Checkpoint:
    """A checkpoint that reads through to another, as a model of the frame's configuration.

    A module of it is made of its own tensors, and whatever is copied is the frame's; where it comes
    from is told of the other. It can be merged, measured and viewed again like any checkpoint.

    Args:
        checkpoint: What is read.
        tensors: Dtypes and shapes as they are seen, by name.
        reader: Makes the function that reads these, of the checkpoint once its data is local.
        frame: Configuration and side files; views of one merge share it.
        said: A JSON value that tells this view from others of the checkpoint, for fingerprints.
        config: Its own configuration, where that is not the frame's.

    Example:
        >>> from mergekit_geo.checkpoints.header import TensorInfo
        >>> from mergekit_geo.checkpoints.reference import open_checkpoint
        >>> import numpy as np, torch
        >>> found = open_checkpoint({"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
        >>> first = view(found, {"w": TensorInfo("F32", (1, 2))}, lambda one: one.read,
        ...              Frame(found, {}), "first row")
        >>> data = np.empty(8, np.uint8)
        >>> first.read("w", 0, 2, data)
        >>> data.view(np.float32).tolist(), first.tensors["w"].shape
        ([1.0, 2.0], (1, 2))
    """
    return Checkpoint(
        name=checkpoint.name,
        tensors=tensors,
        read=reader(checkpoint),
        fingerprint=lambda: [checkpoint.fingerprint(), said],
        config=frame.config if config is None else config,
        folder=frame.folder,
        revision=checkpoint.revision,
        stamps=checkpoint.stamps,
        is_local=checkpoint.is_local,
        fetched=lambda _: view(checkpoint.fetch(), tensors, reader, frame, said, config),
        ties={own: name for own, name in checkpoint.ties.items() if name in tensors},
        license=checkpoint.license,
        of=checkpoint,
        inside=frame.inside,
        stored={name: name for name in tensors},
        reshaped=True,
        frame=frame,
    )
