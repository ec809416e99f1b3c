"""The file of an assembly: written some neuroids at a time, read back and compared; and read."""

import errno
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.core.atomic import written_whole
from nsd_prep.core.errors import OutputError
from nsd_prep.core.hdf5_lock import HDF5_LOCK, NETCDF_LOCK
from nsd_prep.core.netcdf import netcdf_errors
from nsd_prep.core.threads import each_in_threads

#: Bytes of an assembly that are read back at once to be compared with what was written.
_BYTES_AT_ONCE: Final = 16_000_000


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
        As `nsd_prep.assemblies.assembly.build_assembly` gives it, for its coordinates and
        attributes; its values are not used.
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
