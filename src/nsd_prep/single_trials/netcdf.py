"""Single trials in a netCDF-4 file: rows that lie one after the other, in one piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.core.atomic import written_whole
from nsd_prep.core.hdf5_lock import HDF5_LOCK, NETCDF_LOCK
from nsd_prep.core.netcdf import netcdf_errors


@contextmanager
def netcdf_rows(
    path: Path, labels: xr.Dataset, name: str, dtype: np.dtype[Any], attributes: dict[str, Any]
) -> Iterator[Any]:
    """Give the variable of the responses to be filled, and move the file into place at the end.

    The variable is contiguous, not chunked: with chunks of a session a batch of random trials
    would read most of the file, and with chunks of a trial the index grows for nothing.

    Parameters
    ----------
    path : Path
        The final name; nothing is there until the block ends.
    labels : Dataset
        Coordinates and attributes; its two dimensions are those of the responses, in order.
    name : str
        Of the variable.
    dtype : dtype
        float32 or int16.
    attributes : dict
        Of the variable.

    Yields
    ------
    indexable, shape (n_rows, n_voxels)
        Takes and gives rows as they are stored.

    Raises
    ------
    OutputError
        The disk is full or cannot be written.
    """
    encoding: dict[Any, dict[str, Any]] = {}
    for coordinate, values in labels.coords.items():
        encoding[coordinate] = {"_FillValue": None}
        if values.dtype == object:
            encoding[coordinate] = {"dtype": "S1"}
    with written_whole(path) as partial:
        with netcdf_errors(path), HDF5_LOCK:
            labels.to_netcdf(partial, engine="netcdf4", encoding=encoding)
        with netcdf_errors(path), NETCDF_LOCK:
            file = netCDF4.Dataset(partial, "a")
        try:
            with netcdf_errors(path), NETCDF_LOCK:
                variable = file.createVariable(
                    name, dtype, tuple(map(str, labels.sizes)), contiguous=True, fill_value=False
                )
                variable.set_auto_maskandscale(False)
                variable.setncatts(attributes)
            yield _LockedRows(variable)
        finally:
            with NETCDF_LOCK:
                file.close()


class _LockedRows:
    """A variable of netCDF, used by one thread at a time."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        with NETCDF_LOCK:
            return np.asarray(self._variable[rows])

    def __setitem__(self, rows: slice, values: NDArray[Any]) -> None:
        with NETCDF_LOCK:
            self._variable[rows] = values
