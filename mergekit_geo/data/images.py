"""Pictures as arrays, whatever they are kept in."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mergekit_geo.errors import DataError
from mergekit_geo.files.local_path import local_path
from mergekit_geo.files.regular import require_regular

AS_THEY_ARE = ("L", "RGB", "I", "I;16", "F")
"""Modes of PIL whose arrays are pixel values; palettes, transparency and print colours are not."""


def decode_image(cell: Any, beside: Path) -> NDArray[Any]:
    """A picture as an array of the numbers it is stored in.

    Args:
        cell: A PIL image, an array, nested lists, encoded bytes, a path, or a mapping with `bytes`
            or `path`, as datasets keeps images.
        beside: Folder that relative paths are looked up in, after the current one.

    Raises:
        DataError: No such file, or not a picture.

    Example:
        >>> decode_image([[0, 1], [2, 3]], Path()).shape
        (2, 2)
    """
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return _opened(BytesIO(cell))
    if isinstance(cell, str):
        return _opened(_place(cell, beside))
    if hasattr(cell, "convert"):
        return _pixels(cell)
    try:
        found = np.asarray(cell)
    except ValueError as error:
        raise DataError(f"not a picture: {error}") from error
    if found.dtype.kind not in "biuf":
        raise DataError(f"not a picture: found {type(cell).__name__}")
    return found


def picture_of(cell: Any, beside: Path) -> Image.Image:
    """A picture in colours, as processors of images and text take it.

    Args:
        cell: As of `decode_image`, or a `data:` URL.
        beside: Folder that relative paths are looked up in, after the current one.

    Raises:
        DataError: No such file, not a picture, or numbers that are no colours.

    Example:
        >>> picture_of(np.zeros((2, 3), np.uint8), Path()).size
        (3, 2)
    """
    found = decode_image(_local(cell), beside)
    if found.dtype.kind not in "biu" or found.min(initial=0) < 0 or found.max(initial=0) > 255:  # noqa: PLR2004
        raise DataError(
            f"expected a picture of whole numbers from 0 to 255, found {found.dtype}",
            remedy="save it as PNG",
        )
    pixels = found.astype(np.uint8)
    if pixels.ndim == 3:  # noqa: PLR2004
        pixels = channels_first(pixels, None).transpose(1, 2, 0)
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return Image.fromarray(pixels).convert("RGB")


def _local(cell: Any) -> Any:
    """A cell without the scheme of its URL, or what a `data:` URL holds."""
    if not isinstance(cell, str):
        return cell
    if cell.startswith("data:"):
        try:
            return b64decode(cell.partition(",")[2], validate=True)
        except ValueError as error:
            raise DataError(f"not a picture: {error}") from error
    if cell.startswith(("http://", "https://")):
        raise DataError(
            f"pictures are not fetched from the network: {cell[:80]}",
            remedy="download it, and name the file",
        )
    return cell.removeprefix("file://")


def stated_file(cell: Any, beside: Path) -> tuple[int, ...]:
    """Size and times of the file that a cell names, which tell whether it is the same.

    Args:
        cell: As of `decode_image`.
        beside: Folder that relative paths are looked up in.

    Returns:
        Nothing where the cell itself holds the picture.

    Raises:
        DataError: No such file.
    """
    if isinstance(cell, Mapping):
        cell = None if cell.get("bytes") else cell.get("path")
    cell = _local(cell)
    if not isinstance(cell, str):
        return ()
    try:
        status = _place(cell, beside).stat()
    except (OSError, ValueError) as error:
        raise DataError(f"no such picture: {cell}") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def channels_first(
    image: NDArray[Any], channels: int | None, *, prefer_first: bool = False
) -> NDArray[Any]:
    """A picture as channels × height × width; one channel is repeated where more are wanted.

    Args:
        image: height × width, with channels last, first, or none.
        channels: How many the model takes; as many as there are if None.
        prefer_first: Where both ends could be channels, they are the first axis.

    Raises:
        DataError: Another shape, or another number of channels.

    Example:
        >>> channels_first(np.zeros((8, 9)), 3).shape, channels_first(np.zeros((8, 9, 3)), 3).shape
        ((3, 8, 9), (3, 8, 9))
    """
    if image.ndim == 2:  # noqa: PLR2004
        image = image[None]
    elif image.ndim != 3:  # noqa: PLR2004
        raise DataError(
            f"expected height × width, with channels first or last; found shape {image.shape}"
        )
    elif not _is_first(image.shape, channels, prefer_first=prefer_first):
        image = image.transpose(2, 0, 1)
    if channels is None or len(image) == channels:
        return image
    if len(image) != 1:
        raise DataError(f"the model takes {channels} channels, found shape {image.shape}")
    return image.repeat(channels, axis=0)


def as_given(image: NDArray[Any]) -> NDArray[np.float32]:
    """Values as they are; unsigned integers as shares of their largest, such as 255.

    Example:
        >>> as_given(np.array([0, 51], dtype=np.uint8)).tolist()
        [0.0, 0.20000000298023224]
    """
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    return (image / scale).astype(np.float32)


def _is_first(shape: tuple[int, ...], channels: int | None, *, prefer_first: bool) -> bool:
    """Whether the first of three axes is the channels rather than the last."""
    for counts in ((channels,), (1,), (3, 4)):
        first, last = shape[0] in counts, shape[-1] in counts
        if first or last:
            return first and (prefer_first or not last)
    return prefer_first


def _place(stated: str, beside: Path) -> Path:
    path = local_path(stated)
    return path if path.is_file() else beside / path


def _opened(source: Path | BytesIO) -> NDArray[Any]:
    try:
        if isinstance(source, Path):
            require_regular(source)
        with Image.open(source) as image:
            return _pixels(image)
    except FileNotFoundError as error:
        raise DataError(f"no such picture: {source}") from error
    except Exception as error:  # Pillow's formats raise anything on damaged files
        raise DataError(f"not a picture: {error}") from error


def _pixels(image: Any) -> NDArray[Any]:
    if image.mode == "1":
        image = image.convert("L")
    return np.asarray(image if image.mode in AS_THEY_ARE else image.convert("RGB"))
