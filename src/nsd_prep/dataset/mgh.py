"""What MGH files of surfaces are made of: big-endian float32 values of vertices."""

import struct
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Where values begin.
MGH_HEADER_BYTES: Final = 284
#: Scan parameters at the end, which mean nothing of a surface.
MGH_TRAILER: Final = bytes(16)
_VERSION: Final = 1
_FLOAT32: Final = 3


def mgh_header(*shape: int) -> bytes:
    """Return the header of an MGH file of float32, (V, 1, 1) or up to four axes.

    The first axis runs fastest; where the vertices lie is not in it.
    """
    axes = (*shape, *(1,) * (4 - len(shape)))
    # The last two: degrees of freedom, and whether what follows says where voxels lie.
    return struct.pack(">7ih", _VERSION, *axes, _FLOAT32, 0, 0).ljust(MGH_HEADER_BYTES, b"\0")


def mgh_content(values: ArrayLike) -> bytes:
    """Return an MGH file of a value for each vertex, (V,), or of several, (V, n)."""
    of_vertices: NDArray[np.float32] = np.asarray(values, dtype=np.float32)
    return mgh_header(*of_vertices.shape) + of_vertices.astype(">f4").tobytes("F") + MGH_TRAILER
