"""Reading single trials: as labelled data, and in random batches."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nsd_prep.core.errors import InputFileError
from nsd_prep.single_trials.writer import RESPONSE
from nsd_prep.single_trials.zarr import opened_rows, zarr_libraries


def open_single_trials(path: Path | str) -> xr.Dataset:
    """Open a subject's single trials; responses are read where they are asked for.

    Parameters
    ----------
    path : Path or str
        A file or a Zarr store that `nsd_prep.single_trials.writer` wrote.

    Returns
    -------
    Dataset, dims (trial, voxel) or (image, voxel)
        The variable ``response``, float32 (float16 where it is stored so), with a coordinate for
        each column of the tables. Close it, or use it as a context manager.

    Raises
    ------
    OSError
        There is no such file, it is damaged, or the disk fails.
    InputFileError
        The file holds something else.
    ParameterError
        The libraries for Zarr are not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "No such file or store of single trials", str(path))
    if path.is_dir():
        zarr_libraries()
        dataset = xr.open_zarr(path, chunks=None, consolidated=False, mask_and_scale=False)
        step = dataset.get(RESPONSE, dataset).attrs.get("scale_factor")
        if step is not None:
            # JSON does not tell float32 from float64, and xarray would compute in the latter.
            dataset[RESPONSE].attrs["scale_factor"] = np.float32(step)
            dataset = xr.decode_cf(dataset)
    else:
        dataset = xr.open_dataset(path, engine="netcdf4")
    if RESPONSE not in dataset:
        dataset.close()
        raise InputFileError(
            f"{path} holds no single trials: expected the variable {RESPONSE}, found "
            f"{', '.join(map(str, dataset.variables)) or 'nothing'}; give a file that nsd-prep "
            "trials wrote."
        )
    return dataset


class TrialReader:
    """The responses of a file or store, for random batches.

    It has what `torch.utils.data.Dataset` asks for, and can be sent to other processes: each opens
    the file itself, at the first batch.

    Parameters
    ----------
    path : Path or str
        A file or a Zarr store that `nsd_prep.single_trials.writer` wrote.

    Attributes
    ----------
    shape : tuple of int
        (n_rows, n_voxels).
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        with open_single_trials(self._path) as dataset:
            stored = dataset[RESPONSE]
            n_rows, n_voxels = stored.shape
            self.shape = (n_rows, n_voxels)
            self._step = stored.encoding.get("scale_factor")
        self._stored: Callable[[NDArray[np.int64]], NDArray[Any]] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return rows (0-based): one for an integer, several for a sequence in any order."""
        if self._stored is None:
            self._stored = _rows_of_store(self._path) if self._path.is_dir() else self._rows()
        index = np.asarray(rows)
        if index.dtype == np.bool_:
            index = np.flatnonzero(index)
        index = np.where(index < 0, index + len(self), index)
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"{self._path} has the rows 0 to {len(self) - 1}, not {rows!r}")
        values: NDArray[np.float32] = self._stored(index).astype(np.float32, copy=False)
        if self._step is not None:
            values *= np.float32(self._step)
        return values

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stored": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stored = None

    def _rows(self) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
        with h5py.File(self._path, "r") as file:
            variable = file[RESPONSE]
            dtype, offset = variable.dtype, variable.id.get_offset()
        if offset is None:
            raise InputFileError(
                f"{self._path} was rewritten in chunks by another program: expected the responses "
                "in one piece; open it with xarray, or write it again."
            )
        # As bytes: the values need not lie at a multiple of their size.
        shape = (self.shape[0], self.shape[1] * dtype.itemsize)

        def stored(index: NDArray[np.int64]) -> NDArray[Any]:
            # Mapped for one batch: pages that stay mapped count as memory of the process.
            mapped = np.memmap(self._path, np.uint8, "r", offset, shape)
            return np.asarray(mapped)[index].view(dtype)

        return stored


def _rows_of_store(path: Path) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    rows = opened_rows(path, RESPONSE)
    return lambda index: np.asarray(rows[index])
