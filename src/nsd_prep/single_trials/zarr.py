"""Single trials in a Zarr store (version 3): a shard for each session, a chunk for each row."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr

from nsd_prep.core.atomic import explained_write_errors, replaced_folder
from nsd_prep.core.counts import counted
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.core.threads import require_not_forked


def zarr_libraries(otherwise: str = "") -> tuple[ModuleType, ModuleType]:
    """Return the modules zarr and tensorstore, which are installed on demand.

    Parameters
    ----------
    otherwise : str
        What else can be done without them, for the error.

    Raises
    ------
    ParameterError
        They are not installed.
    """
    try:
        import tensorstore
        import zarr
    except ImportError as error:
        raise ParameterError(
            f"Zarr stores need libraries that are not installed ({error}): pip install zarr "
            f"tensorstore{otherwise}."
        ) from error
    return zarr, tensorstore


def opened_rows(path: Path, name: str, mode: str = "r") -> Any:
    """Open the responses of a store with TensorStore, which reads random rows at disk speed.

    As stored, (n_rows, n_voxels); with the mode "r+" they can be written too.
    """
    _, tensorstore = zarr_libraries()
    require_not_forked("TensorStore", path)
    where = {"driver": "file", "path": str(path.absolute() / name)}
    opening = tensorstore.open(
        # Rows of zeros are written too: what is not there is missing, not zero.
        {"driver": "zarr3", "kvstore": where, "store_data_equal_to_fill_value": True},
        read=True,
        write=mode == "r+",
        open=True,
    )
    return opening.result()


def require_all_shards(path: Path, name: str) -> None:
    """Raise InputFileError where responses of a store are missing: they would read as zeros."""
    zarr, _ = zarr_libraries()
    array = zarr.open_array(path / name, mode="r")
    n_rows, n_voxels = array.shape
    rows_of_a_shard, voxels_of_a_shard = array.shards or array.chunks
    missing = [
        f"c/{row}/{column}"
        for row in range(-(-n_rows // rows_of_a_shard))
        for column in range(-(-n_voxels // voxels_of_a_shard))
        if not (path / name / f"c/{row}/{column}").is_file()
    ]
    if missing:
        raise InputFileError(
            f"{path} is not whole: it lacks {counted(len(missing), 'shard')} of its responses, "
            f"{missing[0]} first; copy the store again, or write it again with nsd-prep trials."
        )


@contextmanager
def zarr_rows(
    path: Path,
    labels: xr.Dataset,
    name: str,
    dtype: np.dtype[Any],
    attributes: dict[str, Any],
    rows_of_a_shard: int,
) -> Iterator[Any]:
    """Give the array of the responses to be filled, and move the store into place at the end.

    A shard is one file; within it each row is a chunk of its own, uncompressed, so that a batch of
    random trials reads these rows and nothing else.

    Parameters
    ----------
    path : Path
        The final name, a folder; what is there stays as it was until the block ends.
    labels, name, dtype, attributes
        As in `nsd_prep.single_trials.netcdf.netcdf_rows`; float16 too.
    rows_of_a_shard : int
        A session's, where rows are trials.

    Yields
    ------
    tensorstore.TensorStore, shape (n_rows, n_voxels)
        Takes and gives rows as they are stored.

    Raises
    ------
    ParameterError
        The libraries for Zarr are not installed.
    OutputError
        The disk is full or cannot be written.
    """
    zarr, _ = zarr_libraries()
    n_rows, n_voxels = labels.sizes.values()
    with replaced_folder(path) as partial, explained_write_errors(path):
        labels.to_zarr(partial, zarr_format=3, consolidated=False)
        zarr.open_group(partial, mode="r+").create_array(
            name,
            shape=(n_rows, n_voxels),
            dtype=dtype,
            chunks=(1, n_voxels),
            shards=(rows_of_a_shard, n_voxels),
            compressors=None,
            filters=None,
            fill_value=0,
            dimension_names=tuple(labels.sizes),
            attributes=attributes,
        )
        yield opened_rows(partial, name, "r+")
