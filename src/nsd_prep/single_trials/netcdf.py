"""Single trials in a netCDF-4 file: rows that lie one after the other, in one piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from nsd_prep.core.atomic import written_whole
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
    netCDF4.Variable, shape (n_rows, n_voxels)
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
        with netcdf_errors(path):
            labels.to_netcdf(partial, engine="netcdf4", encoding=encoding)
            file = netCDF4.Dataset(partial, "a")
        with file:
            with netcdf_errors(path):
                variable = file.createVariable(
                    name, dtype, tuple(map(str, labels.sizes)), contiguous=True, fill_value=False
                )
                variable.set_auto_maskandscale(False)
                variable.setncatts(attributes)
            yield variable
