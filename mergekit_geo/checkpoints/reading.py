"""Bytes of a file, read by position into a buffer that is kept.

Mapping whole files would count every page touched as resident; this holds memory constant.
"""

from __future__ import annotations

import os
from io import FileIO

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.errors import ChangedError

Bytes = NDArray[np.uint8]
"""A contiguous one-dimensional buffer of bytes."""


def read_into(file: FileIO, position: int, out: Bytes) -> None:
    """Fill `out` with the bytes from `position` on.

    Raises:
        ChangedError: The file ends before that, as it did not when its header was read.
    """
    done = 0
    while done < len(out):
        count = _pread_into(file, out[done:], position + done)
        if count == 0:
            raise ChangedError(
                "the file was cut short while it was read",
                where=str(file.name),
                remedy="let whatever writes it finish, and run the command again",
            )
        done += count


if hasattr(os, "preadv"):

    def _pread_into(file: FileIO, out: Bytes, position: int) -> int:
        return os.preadv(file.fileno(), [out.data], position)

else:  # macOS and Windows

    def _pread_into(file: FileIO, out: Bytes, position: int) -> int:
        with FileIO(file.name) as own:
            own.seek(position)
            return own.readinto(out.data)
