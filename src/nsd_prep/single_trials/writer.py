"""Writing single trials: a file a subject, filled session by session, whole or not at all."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError, OutputError, ParameterError
from nsd_prep.core.netcdf import netcdf_errors
from nsd_prep.core.parameters import StoredFormat, StoredType
from nsd_prep.core.tables import variables
from nsd_prep.single_trials.netcdf import netcdf_rows
from nsd_prep.single_trials.zarr import zarr_libraries, zarr_rows

FORMATS: Final[Mapping[StoredFormat, str]] = {"netcdf": ".nc", "zarr": ".zarr"}

#: Name of the one variable that is not a coordinate.
RESPONSE: Final = "response"
#: Rows of a shard of a Zarr store, where rows are images.
_IMAGES_OF_A_SHARD: Final = 500


def check_storage(dtype: StoredType, format: StoredFormat) -> None:
    """Raise a ParameterError where a format cannot hold a type's values, or lacks its libraries."""
    if format == "zarr":
        zarr_libraries(', or choose format="netcdf"')
    if (dtype, format) == ("float16", "netcdf"):
        raise ParameterError(
            'netCDF has no float16: choose dtype="int16", which takes as little space, or '
            'format="zarr".'
        )


def checked_sessions(
    sessions: Iterable[tuple[int, NDArray[np.float32]]], table: pd.DataFrame
) -> Iterator[NDArray[np.float32]]:
    """Give the trials of each session, and see that they are those of the table of trials.

    Parameters
    ----------
    sessions : iterable of (int, ndarray of float32, shape (n_trials, n_voxels))
        Each session (1-based) of `table` with its trials, in the order of `table`.
    table : DataFrame
        Rows of `nsd_prep.dataset.trials.trial_table`.

    Yields
    ------
    ndarray of float32, shape (n_trials, n_voxels)
        For `write_rows`.

    Raises
    ------
    InputFileError
        The sessions are not those of the table, or hold values that are not finite.
    """
    n_trials = table["session"].value_counts(sort=False)
    expected = iter(table["session"].drop_duplicates().tolist())
    for session, values in sessions:
        due = next(expected, None)
        if session != due:
            raise InputFileError(
                f"Session {session} came where {f'session {due}' if due else 'no other'} was "
                "expected: give the sessions of the table once each, in its order."
            )
        if len(values) != n_trials[session]:
            raise InputFileError(
                f"Session {session} has {len(values)} trials: expected {n_trials[session]}, as the "
                "table of trials has; give the trials that the table was made for."
            )
        if not np.isfinite(values).all():
            raise InputFileError(
                f"Session {session} holds values that are not finite: expected numbers; extract "
                "the session again."
            )
        yield values
        del values  # before the next session is made


def write_rows(
    path: Path,
    blocks: Iterable[NDArray[np.float32]],
    table: pd.DataFrame,
    voxels: pd.DataFrame,
    *,
    dtype: StoredType = "float32",
    format: StoredFormat = "netcdf",
    attributes: Mapping[str, Any],
    step: float = 0.001,
) -> None:
    """Write single trials, or their averages, block by block; same inputs, same bytes.

    Parameters
    ----------
    path : Path
        The final name: a file for netCDF, a folder for Zarr. Nothing is there, or what was there
        stays, until all is written, read back and compared.
    blocks : iterable of ndarray of float32, shape (n_some_rows, n_voxels)
        All rows of `table`, in its order: as `checked_sessions` gives them, or
        `nsd_prep.single_trials.average.averaged_images`.
    table : DataFrame
        Rows of `nsd_prep.dataset.trials.trial_table`, with columns of behaviour or not; or
        `nsd_prep.dataset.trials.image_table`.
    voxels : DataFrame
        As `nsd_prep.single_trials.voxels.trial_voxels` gives it; for averages as
        `nsd_prep.single_trials.voxels.with_averaged_noise_ceiling`.
    dtype : {"float32", "float16", "int16"}
        How values are stored. int16 are multiples of `step`, recorded as scale_factor, by which
        xarray and netCDF libraries multiply when they read; float16 is for Zarr alone.
    format : {"netcdf", "zarr"}
        As said.
    attributes : mapping of str to str, number or sequence of numbers
        What determines the data; what is under ``units`` is the responses' unit, too.
    step : float
        Of int16, as in `nsd_prep.single_trials.normalise.INT16_STEP`.

    Raises
    ------
    ParameterError
        As `check_storage`.
    InputFileError
        The blocks are not the rows of the table.
    OutputError
        The disk is full, cannot be written, or gives back something else; or a value is too large
        for `dtype`.
    """
    check_storage(dtype, format)
    labels = _labels(table, voxels, attributes)
    of_variable = description_of_responses(attributes)
    if dtype == "int16":
        of_variable["scale_factor"] = np.float32(step) if format == "netcdf" else step
    rows_in: AbstractContextManager[Any]
    if format == "netcdf":
        rows_in = netcdf_rows(path, labels, RESPONSE, np.dtype(dtype), of_variable)
    else:
        of_a_shard = (
            int(table["session"].value_counts().max())
            if "session" in table
            else min(_IMAGES_OF_A_SHARD, len(table))
        )
        rows_in = zarr_rows(path, labels, RESPONSE, np.dtype(dtype), of_variable, of_a_shard)
    written: list[tuple[slice, int]] = []
    stop = 0
    with rows_in as rows:
        for values in blocks:
            start, stop = stop, stop + len(values)
            if stop > len(table) or values.shape[1:] != (len(voxels),):
                raise InputFileError(
                    f"A block of the shape {values.shape} came for the rows {start} and on: "
                    f"expected {len(table)} rows in all, of {len(voxels)} voxels; give the rows of "
                    "the table."
                )
            stored = np.ascontiguousarray(_stored(path, values, dtype, step))
            with netcdf_errors(path):
                rows[start:stop] = stored
            written.append((slice(start, stop), zlib.crc32(stored.data)))
            del values, stored  # before the next block is made
        if stop != len(table):
            raise InputFileError(
                f"{path} would hold {stop} rows: expected {len(table)}, as the table has; give "
                "every session of the table."
            )
        for row_slice, checksum in written:
            with netcdf_errors(path):
                stored = np.ascontiguousarray(rows[row_slice])
            if zlib.crc32(stored.data) != checksum:
                raise OutputError(
                    f"{path} was not written correctly: reading it back gives different bytes in "
                    f"the rows {row_slice.start} to {row_slice.stop}; check the disk and run the "
                    "same command again."
                )


def description_of_responses(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of responses, by those of their file: ``long_name`` and ``units``."""
    if "units" not in attributes:
        return {}
    return {"long_name": f"response, in {attributes['units']}", "units": attributes["units"]}


def _labels(table: pd.DataFrame, voxels: pd.DataFrame, attributes: Mapping[str, Any]) -> xr.Dataset:
    """Return a dataset of the coordinates alone, its dimensions in the order of the responses."""
    return xr.Dataset(coords=variables(table, voxels), attrs=dict(attributes))


def _stored(
    path: Path, values: NDArray[np.float32], dtype: StoredType, step: float
) -> NDArray[Any]:
    if dtype == "float32":
        return values
    if dtype == "float16":
        with np.errstate(over="ignore"):
            stored = values.astype(np.float16)
        too_large = np.isinf(stored)
    else:
        steps = np.rint(values / np.float32(step))
        limits = np.iinfo(np.int16)
        too_large = (steps < limits.min) | (steps > limits.max)
        stored = steps.astype(np.int16)
    if too_large.any():
        raise OutputError(
            f"{path} cannot hold the value {values[too_large].flat[0]:g} as {dtype}: choose "
            'dtype="float32".'
        )
    return stored
