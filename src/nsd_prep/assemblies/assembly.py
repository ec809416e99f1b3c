"""The assembly of a region, in the form that Brain-Score reads."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.core.atomic import written_whole
from nsd_prep.core.errors import OutputError
from nsd_prep.core.hdf5_lock import HDF5_LOCK
from nsd_prep.core.netcdf import netcdf_errors
from nsd_prep.dataset.space import Space, SurfaceSpace, VolumeSpace

#: Bytes of an assembly that are read back at once to be compared with what was written.
_BYTES_AT_ONCE: Final = 16_000_000
#: Name of the one variable in a file.
VARIABLE: Final = "data"
PRESENTATION_COORDINATES: Final = ("stimulus_id", "nsd_id")


def neuroid_coordinates(places: Sequence[str]) -> tuple[str, ...]:
    """Return the coordinates of neuroids, in the consumer's order.

    Parameters
    ----------
    places : sequence of str
        Which of them say where a neuroid lies: `nsd_prep.dataset.space.Space.coordinates`.
    """
    if tuple(places) == SurfaceSpace.coordinates:
        return ("neuroid_id", "subject", *places, "region", "nc_testset")
    return ("neuroid_id", "subject", "region", "nc_testset", *places)


def places_of(assembly: xr.DataArray) -> tuple[str, ...]:
    """Return which coordinates of an assembly say where a neuroid lies."""
    on_surface = any(name in assembly.coords for name in SurfaceSpace.coordinates)
    return SurfaceSpace.coordinates if on_surface else VolumeSpace.coordinates


def without_gaps(assembly: xr.DataArray) -> xr.DataArray:
    """Return an assembly with 0 where a vertex has no data; the same one where all have.

    In a volume, responses without data are 0; on surfaces they are NaN in a region's assembly, as
    published, and 0 in what is packaged.
    """
    gaps = np.isnan(assembly.to_numpy())
    return assembly.copy(data=np.where(gaps, np.float32(0), assembly)) if gaps.any() else assembly


@dataclass(frozen=True)
class SubjectVoxels:
    """Voxels of a region in a subject, and what is known of each.

    Attributes
    ----------
    subject : int
        1-based.
    space : Space
        Where they lie.
    voxels : ndarray of int64, shape (n_voxels,)
        Sites of the space, ascending.
    ncsnr : ndarray of float32, shape (n_voxels,)
        NaN where a voxel has no data in any session.
    noise_ceiling : ndarray of float64, shape (n_voxels,)
        Percent, 0 where ncsnr is NaN.
    sessions_without_data : ndarray of int64, shape (n_voxels,)
        In how many of the sessions read a voxel is constant.
    kept : ndarray of bool, shape (n_voxels,), optional
        Voxels that become neuroids; all where nothing is given.
    """

    subject: int
    space: Space
    voxels: NDArray[np.int64]
    ncsnr: NDArray[np.float32]
    noise_ceiling: NDArray[np.float64]
    sessions_without_data: NDArray[np.int64]
    kept: NDArray[np.bool_] | None = None


def stimulus_ids(nsd_ids: NDArray[np.int64]) -> list[str]:
    """Return ``nsd_`` and the 0-based id in five digits, for each image (n_images,)."""
    return [f"nsd_{nsd_id:05d}" for nsd_id in nsd_ids.tolist()]


def voxel_table(region: str, subjects: Sequence[SubjectVoxels]) -> pd.DataFrame:
    """Return a row for each voxel of a region.

    Parameters
    ----------
    region : str
        Its name.
    subjects : sequence of SubjectVoxels
        In the order of the neuroids.

    Returns
    -------
    DataFrame
        The columns of ``voxels.csv``: neuroid_id, subject, region, the columns of the space
        (`nsd_prep.dataset.space.Space`), ncsnr, noise_ceiling (percent) and
        sessions_without_data; and ``kept``: whether the voxel becomes a neuroid; one that does not
        has no neuroid_id. On surfaces ids name the hemisphere, and count on over both.
    """
    tables = []
    for voxels in subjects:
        name = f"subj{voxels.subject:02d}"
        n_voxels = len(voxels.voxels)
        kept = np.ones(n_voxels, dtype=np.bool_) if voxels.kept is None else voxels.kept
        number = np.cumsum(kept) - 1
        places = voxels.space.table(voxels.voxels)
        if isinstance(voxels.space, SurfaceSpace):
            sides = places["hemisphere"].tolist()
            named = [
                f"{name}_{side}_{region}_v{n:05d}"
                for side, n in zip(sides, number.tolist(), strict=True)
            ]
        else:
            named = [f"{name}_{region}_v{n:04d}" for n in number.tolist()]
        columns = {
            "neuroid_id": np.where(kept, named, "").tolist(),
            "subject": name,
            "region": region,
            **places,
            "ncsnr": voxels.ncsnr,
            "noise_ceiling": voxels.noise_ceiling,
            "sessions_without_data": voxels.sessions_without_data,
            "kept": kept,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def build_assembly(
    responses: NDArray[np.float32],
    nsd_ids: NDArray[np.int64],
    voxels: pd.DataFrame,
    attributes: Mapping[str, str | int | float],
    coordinates: Sequence[str] = VolumeSpace.coordinates,
) -> xr.DataArray:
    """Give a region's averaged responses their coordinates.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, n_neuroids)
        Averaged z-scores; on surfaces NaN where a vertex has no data.
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based, ascending.
    voxels : DataFrame, n_neuroids rows
        As `voxel_table` gives it; kept ones alone.
    attributes : mapping of str to str or number
        What determines the data.
    coordinates : sequence of str
        Which columns say where a neuroid lies: `nsd_prep.dataset.space.Space.coordinates`.

    Returns
    -------
    DataArray, dims (presentation, neuroid)
        Without index variables; coordinates in the consumer's order.
    """
    ceiling = voxels["noise_ceiling"].to_numpy(dtype=np.float64)
    if tuple(coordinates) == SurfaceSpace.coordinates:
        ceiling = np.where(voxels["ncsnr"].isna(), np.nan, ceiling)
    columns = {
        "neuroid_id": voxels["neuroid_id"].to_numpy(dtype=str),
        "subject": voxels["subject"].to_numpy(dtype=str),
        "region": voxels["region"].to_numpy(dtype=str),
        "nc_testset": ceiling,
    }
    for name in coordinates:
        kind = str if name == "hemisphere" else np.int64
        columns[name] = voxels[name].to_numpy(dtype=kind)
    of_neuroids = {name: ("neuroid", columns[name]) for name in neuroid_coordinates(coordinates)}
    return xr.DataArray(
        responses,
        coords={
            "stimulus_id": ("presentation", np.array(stimulus_ids(nsd_ids))),
            "nsd_id": ("presentation", nsd_ids),
            **of_neuroids,
        },
        dims=("presentation", "neuroid"),
        name=VARIABLE,
        attrs=dict(attributes),
    )


def write_assembly(
    assembly: xr.DataArray, path: Path, storage: Mapping[str, Any] | None = None
) -> None:
    """Write an assembly as netCDF-4, read it back, compare, and move it into place.

    Parameters
    ----------
    assembly : DataArray
        As `build_assembly` gives it.
    path : Path
        The final name.
    storage : mapping, optional
        How netCDF stores the values: zlib, complevel, chunksizes; in one piece, uncompressed,
        where it is not given.

    Raises
    ------
    OutputError
        The disk is full, cannot be written, or gives back something else.
    """
    # xarray would mark missing values in the files; there are none.
    encoding: dict[Any, dict[str, Any]] = {
        name: {"_FillValue": None} for name in (VARIABLE, *assembly.coords)
    }
    encoding[VARIABLE].update(storage or {})
    with written_whole(path) as partial:
        with netcdf_errors(path):
            with HDF5_LOCK:
                assembly.to_netcdf(partial, engine="netcdf4", encoding=encoding)
            with opened_assembly(partial) as written:
                same = _is_same(written, assembly)
        if not same:
            raise OutputError(
                f"{path} was not written correctly: reading it back gives different bytes; check "
                "the disk and run the same command again."
            )


def _is_same(written: xr.DataArray, assembly: xr.DataArray) -> bool:
    """Return whether an open file holds an assembly, of which some rows are read at a time."""
    for nothing in (slice(0), (slice(None), slice(0))):  # names, attributes, each axis' coordinates
        if not written[nothing].identical(assembly[nothing]):
            return False
    n_rows = max(1, _BYTES_AT_ONCE // max(1, assembly[:1].nbytes))
    return (written.shape, written.dtype) == (assembly.shape, assembly.dtype) and all(
        np.array_equal(written[rows].to_numpy(), assembly[rows].to_numpy(), equal_nan=True)
        for start in range(0, len(assembly), n_rows)
        for rows in [slice(start, start + n_rows)]
    )


def read_assembly(path: Path) -> xr.DataArray:
    """Read an assembly, as `write_assembly` writes it, into memory.

    Returns
    -------
    DataArray, dims (presentation, neuroid[, time_bin])
        With its coordinates and attributes.

    Raises
    ------
    OSError
        There is no such file, it is damaged, or the disk fails.
    """
    with opened_assembly(path) as assembly:
        return assembly.load()


@contextmanager
def opened_assembly(path: Path) -> Iterator[xr.DataArray]:
    """Open an assembly, whose values are read when they are used, and not kept.

    Dimensions and errors are those of `read_assembly`.
    """
    try:
        with HDF5_LOCK:
            assembly = xr.open_dataarray(path, engine="netcdf4", cache=False, lock=HDF5_LOCK)
        try:
            yield assembly
        finally:
            with HDF5_LOCK:
                assembly.close()
    except RuntimeError as error:
        if not str(error).startswith("NetCDF"):
            raise
        raise OSError(  # of a disk that fails
            errno.EIO, f"The disk fails, or the file is damaged ({error})", path
        ) from error
