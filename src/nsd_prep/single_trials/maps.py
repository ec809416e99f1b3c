"""Maps: a value for each voxel, put back into the subject's volume."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nsd_prep.core.atomic import written_whole
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.single_trials.reading import open_single_trials

_ENDINGS = (".nii.gz", ".nii")


def brain_map(
    values: ArrayLike,
    voxels: pd.DataFrame | xr.Dataset,
    grid: Sequence[int],
    affine: ArrayLike,
    outside: float = float("nan"),
) -> nibabel.Nifti1Image:
    """Put a value for each voxel back into the volume.

    Parameters
    ----------
    values : array_like of float, shape (n_voxels,)
        In the order of `voxels`.
    voxels : DataFrame or Dataset
        With nifti_i, nifti_j and nifti_k (0-based): as `trial_voxels` gives it, or single trials
        as they are opened.
    grid : sequence of int
        (Z, Y, X), the order of the betas: the NIfTI's dimensions reversed.
    affine : array_like of float, shape (4, 4)
        From the indices (i, j, k) of a voxel to millimetres.
    outside : float
        What all other voxels get.

    Returns
    -------
    Nifti1Image of float32, shape (X, Y, Z)
        In the space of the subject's NIfTI files.

    Raises
    ------
    ParameterError
        There are not as many values as voxels, or a voxel lies outside the grid.
    """
    of_voxels = np.asarray(values, dtype=np.float32)
    z, y, x = grid
    space = VolumeSpace((z, y, x), np.asarray(affine))
    sites = space.sites(voxels)
    if of_voxels.shape != sites.shape:
        raise ParameterError(
            f"The values of a map have the shape {of_voxels.shape}: expected {sites.shape}, a "
            "value for each voxel; give the voxels that the values belong to."
        )
    volume = space.volume(of_voxels, sites, outside).transpose()
    return nibabel.Nifti1Image(volume, space.affine)  # type: ignore[no-untyped-call]


def write_map(
    path: Path,
    values: ArrayLike,
    voxels: pd.DataFrame | xr.Dataset,
    grid: Sequence[int],
    affine: ArrayLike,
    outside: float = float("nan"),
) -> None:
    """Write a value for each voxel as a NIfTI file; the same values give the same bytes.

    Parameters
    ----------
    path : Path
        ``.nii.gz`` or ``.nii``.
    values, voxels, grid, affine, outside
        As in `brain_map`.

    Raises
    ------
    ParameterError
        As `brain_map`, or the path has another ending.
    OutputError
        The disk is full or cannot be written.
    """
    if not path.name.endswith(_ENDINGS):
        raise ParameterError(
            f"A map cannot be written to {path}: expected a name that ends in "
            f"{' or '.join(_ENDINGS)}; choose such a name."
        )
    content = brain_map(values, voxels, grid, affine, outside).to_bytes()
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_map_of_trials(
    trials: Path, path: Path, values: str = "noise_ceiling", outside: float = float("nan")
) -> None:
    """Write a value for each voxel of a file of single trials as a NIfTI file.

    Parameters
    ----------
    trials : Path
        The file, or Zarr store.
    path : Path
        ``.nii.gz`` or ``.nii``.
    values : str
        A column of the voxels, or the path of a ``.npy`` file that holds (n_voxels,) numbers in
        their order.
    outside : float
        What all other voxels get.

    Raises
    ------
    ParameterError
        There is no such column, or as `write_map`.
    InputFileError, OSError
        A file is not there, or holds something else.
    OutputError
        The disk is full or cannot be written.
    """
    with open_single_trials(trials) as dataset:
        columns = {
            str(name): column
            for name, column in dataset.coords.items()
            if column.dims == ("voxel",) and column.dtype.kind in "biuf"
        }
        if values.endswith(".npy"):
            chosen = _read_numbers(Path(values))
        elif values in columns:
            chosen = columns[values].to_numpy()
        else:
            raise ParameterError(
                f"{trials} has no numbers {values!r} for its voxels: expected one of "
                f"{', '.join(columns)}, or a .npy file; choose one."
            )
        space = VolumeSpace.from_attributes(dataset.attrs)
        write_map(path, chosen, dataset, space.grid, space.affine, outside)


def _read_numbers(path: Path) -> NDArray[np.generic]:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputFileError(
            f"{path} cannot be read as an array ({error}): expected what numpy.save writes."
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise InputFileError(f"{path} holds no array of real numbers: give one that does.")
    return found
