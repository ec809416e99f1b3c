"""The assembly of a region, in the form that Brain-Score reads."""

import errno
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.core.atomic import written_whole
from nsd_prep.core.errors import OutputError
from nsd_prep.core.hdf5_lock import HDF5_LOCK, NETCDF_LOCK
from nsd_prep.core.netcdf import netcdf_errors
from nsd_prep.core.threads import each_in_threads
from nsd_prep.dataset.space import Space, SurfaceSpace, VolumeSpace

#: Bytes of an assembly that are read back at once to be compared with what was written.
_BYTES_AT_ONCE: Final = 16_000_000
#: Name of the one variable in a file.
VARIABLE: Final = "data"
PRESENTATION_COORDINATES: Final = ("stimulus_id", "nsd_id")
_VOXEL_INDEX: Final = "0-based index into the beta files' volume, axis"
#: What the values of an assembly and of its coordinates are, in the manner of the CF conventions:
#: names and ids have no units.
DESCRIPTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        VARIABLE: {
            "long_name": "response: z-score over the trials of a session, mean of 3 trials",
            "units": "1",
        },
        "stimulus_id": {"long_name": "image"},
        "nsd_id": {"long_name": "0-based index of the image among NSD's 73,000"},
        "repetition": {"long_name": "0-based repetition of the image", "units": "1"},
        "neuroid_id": {"long_name": "voxel or vertex, numbered within its region and subject"},
        "subject": {"long_name": "subject"},
        "region": {"long_name": "region"},
        "nc_testset": {"long_name": "noise ceiling of the mean of 3 trials", "units": "percent"},
        "voxel_x": {"long_name": f"{_VOXEL_INDEX} 0 (NIfTI k)", "units": "1"},
        "voxel_y": {"long_name": f"{_VOXEL_INDEX} 1 (NIfTI j)", "units": "1"},
        "voxel_z": {"long_name": f"{_VOXEL_INDEX} 2 (NIfTI i)", "units": "1"},
        "hemisphere": {"long_name": "hemisphere"},
        "vertex_index": {
            "long_name": "0-based index of the vertex in its hemisphere",
            "units": "1",
        },
        "time_bin_start": {"long_name": "start of the time bin", "units": "ms"},
        "time_bin_end": {"long_name": "end of the time bin", "units": "ms"},
    }
)


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
    published, and 0 in what is packaged. Coordinates are those of the assembly given, not copies.
    """
    gaps = np.isnan(assembly.to_numpy())
    if not gaps.any():
        return assembly
    return assembly.copy(deep=False, data=np.where(gaps, np.float32(0), assembly))


def without_values(assembly: xr.DataArray) -> xr.DataArray:
    """Return an assembly whose coordinates are in memory, and whose values are 0 that take none."""
    values = np.broadcast_to(assembly.dtype.type(0), assembly.shape)
    return xr.DataArray(
        values, dims=assembly.dims, name=assembly.name, attrs=assembly.attrs
    ).assign_coords(assembly.coords.to_dataset().load().coords)


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
        coordinates_of_sites = voxels.space.table(voxels.voxels)
        if isinstance(voxels.space, SurfaceSpace):
            sides = coordinates_of_sites["hemisphere"].tolist()
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
            **coordinates_of_sites,
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
        What determines the data. `DESCRIPTIONS` are added; those of the data can be overridden.
    coordinates : sequence of str
        Which columns say where a neuroid lies: `nsd_prep.dataset.space.Space.coordinates`.

    Returns
    -------
    DataArray, dims (presentation, neuroid)
        Without index variables; coordinates in the consumer's order.
    """
    ceiling = voxels["noise_ceiling"].to_numpy(dtype=np.float64, copy=True)
    if tuple(coordinates) == SurfaceSpace.coordinates:
        ceiling = np.where(voxels["ncsnr"].isna(), np.nan, ceiling)
    names = ("neuroid_id", "subject", "region")
    columns = {
        **{name: voxels[name].to_numpy(dtype=str, copy=True) for name in names},
        "nc_testset": ceiling,
    }
    for name in coordinates:
        kind = str if name == "hemisphere" else np.int64
        columns[name] = voxels[name].to_numpy(dtype=kind, copy=True)
    values = {
        "stimulus_id": ("presentation", np.array(stimulus_ids(nsd_ids))),
        "nsd_id": ("presentation", nsd_ids.copy()),
        **{name: ("neuroid", columns[name]) for name in neuroid_coordinates(coordinates)},
    }
    return with_coordinates(
        xr.DataArray(
            responses,
            dims=("presentation", "neuroid"),
            name=VARIABLE,
            attrs={**DESCRIPTIONS[VARIABLE], **attributes},
        ),
        values,
    )


def with_coordinates(
    values: xr.DataArray, coordinates: Mapping[str, tuple[str, NDArray[Any]]]
) -> xr.DataArray:
    """Give values their coordinates, each a dimension and its values, with its `DESCRIPTIONS`.

    They are not copied: `xr.DataArray` would copy its ``coords``, 50 MB of 260,000 neuroids.
    """
    described = {
        name: xr.Variable(dimension, given, DESCRIPTIONS[name])
        for name, (dimension, given) in coordinates.items()
    }
    return values.assign_coords(xr.Coordinates(described, indexes={}))


class AssemblyFile:
    """An assembly that is being written, some neuroids at a time.

    Parameters
    ----------
    path : Path
        The final name, for errors.
    partial : Path
        The name under which it is written.
    form : DataArray
        Its coordinates and attributes.
    storage : mapping
        How netCDF stores the values.
    """

    def __init__(
        self, path: Path, partial: Path, form: xr.DataArray, storage: Mapping[str, Any]
    ) -> None:
        # As xarray writes an array: coordinates in their order, then the values.
        variables = {str(name): values for name, values in form.coords.items()}
        variables[str(form.name)] = form
        arrays = {str(name): values.to_numpy() for name, values in form.coords.items()}
        with netcdf_errors(path), NETCDF_LOCK:
            self._file = netCDF4.Dataset(partial, "w", format="NETCDF4")
            for dimension, size in form.sizes.items():
                self._file.createDimension(str(dimension), size)
            for name, values in variables.items():
                kind = str if values.dtype.kind in "OUT" else values.dtype
                options = storage if values is form else {}
                variable = self._file.createVariable(name, kind, values.dims, **options)
                if values is form:
                    names = " ".join(sorted(map(str, form.coords)))
                    variable.setncatts(form.attrs | ({"coordinates": names} if names else {}))
                    self._values = variable
                else:
                    variable.setncatts(values.attrs)
                    variable[...] = arrays[name].astype(object if kind is str else kind)
        self._path, self._partial, self._form = path, partial, form
        #: Of the bytes that were written, by their first column and the one after the last.
        self._digests: dict[tuple[int, int], int] = {}

    def write(self, start: int, values: NDArray[np.float32]) -> None:
        """Write the values of some neuroids, from a column (0-based) on; from several threads.

        They have the dimensions of the assembly, all rows of them.
        """
        columns = start, start + values.shape[1]
        self._digests[columns] = zlib.crc32(np.ascontiguousarray(values).data)
        with netcdf_errors(self._path), NETCDF_LOCK:
            self._values[:, slice(*columns)] = values

    def close(self) -> None:
        """Close the file, for good."""
        with NETCDF_LOCK:
            if self._file.isopen():
                self._file.close()

    def verify(self) -> None:
        """Close the file, read it back, and compare it with what was written.

        Raises
        ------
        OutputError
            It cannot be written, or holds something else.
        ValueError
            Some neuroids were not written, or twice.
        """
        form, written_columns = self._form, sorted(self._digests)
        ends = [0, *(stop for _, stop in written_columns)]
        if [start for start, _ in written_columns] != ends[:-1] or ends[-1] != form.shape[1]:
            raise ValueError(
                f"{self._path}: expected the values of neuroids 0 to {form.shape[1] - 1}, each "
                f"once, found columns {written_columns}; write the ones that are missing."
            )
        with netcdf_errors(self._path):
            self.close()
            with opened_assembly(self._partial) as written:
                is_same = (written.shape, written.dtype) == (form.shape, form.dtype)
                is_same = is_same and all(  # names, attributes, each axis' coordinates
                    written[nothing].identical(form[nothing])
                    for nothing in (slice(0), (slice(None), slice(0)))
                )
                is_same = is_same and all(
                    each_in_threads(
                        lambda columns: self._is_same(written, columns), written_columns
                    )
                )
        if not is_same:
            raise OutputError(
                f"{self._path} was not written correctly: reading it back gives different bytes; "
                "check the disk and run the same command again."
            )

    def _is_same(self, written: xr.DataArray, columns: tuple[int, int]) -> bool:
        """Return whether columns were read back as they were written, some rows at a time."""
        row_bytes = (columns[1] - columns[0]) * written.dtype.itemsize
        n_rows, digest = max(1, _BYTES_AT_ONCE // max(1, row_bytes)), 0
        for start in range(0, len(written), n_rows):
            read = written[start : start + n_rows, slice(*columns)].to_numpy()
            digest = zlib.crc32(np.ascontiguousarray(read).data, digest)
        return digest == self._digests[columns]


@contextmanager
def assembly_in_columns(
    form: xr.DataArray, path: Path, storage: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[AssemblyFile]:
    """Write an assembly of which some neuroids are in memory at a time.

    At the end of the block the file, netCDF-4, is read back, compared, and moved into place.

    Parameters
    ----------
    form : DataArray
        As `build_assembly` gives it, for its coordinates and attributes; its values are not used.
    path : Path
        The final name.
    storage : mapping
        How netCDF stores the values: zlib, complevel, chunksizes; in one piece, uncompressed,
        where nothing is given.

    Yields
    ------
    AssemblyFile
        Takes the values; all neuroids must be written.

    Raises
    ------
    OutputError
        The disk is full, cannot be written, or gives back something else.
    """
    with written_whole(path) as partial:
        file = AssemblyFile(path, partial, form, storage)
        try:
            yield file
            file.verify()
        finally:
            with suppress(RuntimeError, OSError):  # of a disk that failed before
                file.close()


def write_assembly(
    assembly: xr.DataArray, path: Path, storage: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write an assembly that is in memory; arguments and errors are `assembly_in_columns`'."""
    with assembly_in_columns(assembly, path, storage) as file:
        file.write(0, assembly.to_numpy())


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
def opened_assembly(path: Path, drop_variables: Iterable[str] = ()) -> Iterator[xr.DataArray]:
    """Open an assembly, whose values are read when they are used, and not kept.

    Dimensions and errors are those of `read_assembly`. Names among its coordinates are read at
    once, unless they are to be dropped: 40 MB of 260,000 neuroids.
    """
    try:
        with HDF5_LOCK:
            assembly = xr.open_dataarray(
                path,
                engine="netcdf4",
                cache=False,
                lock=NETCDF_LOCK,
                drop_variables=list(drop_variables),
            )
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
