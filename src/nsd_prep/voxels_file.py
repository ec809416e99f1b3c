"""The voxels of a subject's regions, as tasks hand them on: a file named by what it holds."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.files import read_whole, replaced, sha256_of_json

_REGION: Final = "region "


def digest_of_voxels(voxels: NDArray[np.int64], grid: Sequence[int]) -> str:
    """Return the digest of a region's voxels in a grid.

    Parameters
    ----------
    voxels : ndarray of int64, shape (n_voxels,)
        Indices into the raveled grid.
    grid : sequence of int
        (Z, Y, X).

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(tuple(grid)).encode())
    digest.update(voxels.astype("<i8").tobytes())
    return digest.hexdigest()


def write_voxels(
    folder: Path, subject: int, grid: tuple[int, int, int], regions: Mapping[str, NDArray[np.int64]]
) -> Path:
    """Write the voxels of a subject's regions to a file that is named by what it holds.

    Parameters
    ----------
    folder : Path
        Where it goes.
    subject : int
        1-based.
    grid : tuple of int
        (Z, Y, X).
    regions : mapping of str to ndarray of int64, shape (n_voxels,)
        Indices into the raveled grid, ascending.

    Returns
    -------
    Path
        An ``.npz`` file.
    """
    digest = sha256_of_json(
        {name: digest_of_voxels(voxels, grid) for name, voxels in regions.items()}
    )
    path = folder / f"subj{subject:02d}-{digest[:16]}.npz"
    with replaced(path) as partial, partial.open("wb") as file:
        arrays = {f"{_REGION}{name}": voxels for name, voxels in regions.items()}
        np.savez(file, allow_pickle=False, grid=np.asarray(grid, np.int64), **arrays)
    return path


def read_voxels_file(path: Path) -> tuple[tuple[int, int, int], dict[str, NDArray[np.int64]]]:
    """Read a file that `write_voxels` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    grid : tuple of int
        (Z, Y, X).
    regions : dict of str to ndarray of int64, shape (n_voxels,)
        Voxels of each region.
    """
    with np.load(io.BytesIO(read_whole(path)), allow_pickle=False) as arrays:
        z, y, x = arrays["grid"].tolist()
        regions = {
            name.removeprefix(_REGION): arrays[name]
            for name in arrays.files
            if name.startswith(_REGION)
        }
    return (z, y, x), regions
