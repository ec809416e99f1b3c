"""Reading single trials: as labelled data, and in random batches."""

import errno
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nsd_prep.core.errors import InputFileError
from nsd_prep.core.folders import absolute
from nsd_prep.core.hdf5_lock import HDF5_LOCK, NETCDF_LOCK
from nsd_prep.core.threads import require_not_forked
from nsd_prep.dataset.hdf5.opening import opened_to_read
from nsd_prep.single_trials.held import Held, version_of
from nsd_prep.single_trials.writer import RESPONSE
from nsd_prep.single_trials.zarr import (
    opened_rows,
    require_all_shards,
    zarr_libraries,
)


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
        each column of the tables. Close it, or use it as a context manager. What is read later is
        of the file that was there; from a store that was written again meanwhile nothing is read,
        and an InputFileError is raised.

    Raises
    ------
    OSError
        There is no such file, it is damaged, or the disk fails.
    InputFileError
        The file holds something else, or only a part of the responses.
    ParameterError
        The libraries for Zarr are not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "No such file or store of single trials", str(path))
    if path.is_dir():
        zarr_libraries()
        from nsd_prep.single_trials.held_store import HeldStore

        store = HeldStore(path)
        dataset = xr.open_zarr(store, chunks=None, consolidated=False, mask_and_scale=False)
        step = dataset.get(RESPONSE, dataset).attrs.get("scale_factor")
        if step is not None:
            # JSON does not tell float32 from float64, and xarray would compute in the latter.
            dataset[RESPONSE].attrs["scale_factor"] = np.float32(step)
            dataset = xr.decode_cf(dataset)
    else:
        with HDF5_LOCK:
            dataset = xr.open_dataset(path, engine="netcdf4", lock=NETCDF_LOCK)
    if RESPONSE not in dataset:
        dataset.close()
        raise InputFileError(
            f"{path} holds no single trials: expected the variable {RESPONSE}, found "
            f"{', '.join(map(str, dataset.variables)) or 'nothing'}; give a file that nsd-prep "
            "trials wrote."
        )
    if path.is_dir():
        require_all_shards(path, RESPONSE)
    return dataset


class TrialReader:
    """The responses of a file or store, for random batches.

    It implements the interface of `torch.utils.data.Dataset`, and can be sent to other processes:
    each opens the file itself, at the first batch. All batches come from the file as it was when
    the reader was created. Threads may share a reader.

    Parameters
    ----------
    path : Path or str
        A file or a Zarr store that `nsd_prep.single_trials.writer` wrote.

    Attributes
    ----------
    shape : tuple of int
        (n_rows, n_voxels).

    Raises
    ------
    OSError, InputFileError, ParameterError
        As `open_single_trials`; InputFileError also where responses lie in chunks.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = absolute(path)  # whatever the current folder is later
        # Before anything is read of it: all of that must be of this version.
        self._version = version_of(self._path)
        with open_single_trials(self._path) as dataset:
            stored = dataset[RESPONSE]
            n_rows, n_voxels = stored.shape
            self.shape = (n_rows, n_voxels)
            self._step = stored.encoding.get("scale_factor")
        self._layout = None if self._path.is_dir() else _layout_in_file(self._path)
        self._opened: _OpenedFile | _OpenedStore | None = self._open()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: ArrayLike | slice) -> NDArray[np.float32]:
        """Return rows (0-based), which are chosen as in a NumPy array of one dimension.

        Parameters
        ----------
        rows : int, slice, sequence of int, or sequence of bool of the length of the reader
            In any order; negative integers count from the end.

        Returns
        -------
        ndarray of float32, shape (n_voxels,) or (n_chosen, n_voxels)
            A copy.

        Raises
        ------
        IndexError
            There is no such row, or the rows are chosen by something else.
        InputFileError
            The file was written again since the reader was made.
        OSError
            The disk fails.
        """
        try:
            index: NDArray[np.int64] = np.asarray(np.arange(len(self))[rows])  # type: ignore[index]
        except (IndexError, OverflowError) as error:
            raise IndexError(
                f"{self._path} has the rows 0 to {len(self) - 1}: {error}; give integers, a slice, "
                f"or a mask of {len(self)} values."
            ) from error
        if self._opened is None:
            self._opened = self._open()
        try:
            values = self._opened.read(index.ravel()).astype(np.float32, copy=False)
        finally:
            self._opened.require_current(self._path, self._version)
        if self._step is not None:
            values *= np.float32(self._step)
        return values.reshape(*index.shape, self.shape[1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def _open(self) -> "_OpenedFile | _OpenedStore":
        opened: _OpenedFile | _OpenedStore
        if self._layout is None:
            opened = _OpenedStore(self._path)
        else:
            opened = _OpenedFile(self._path, *self._layout, self.shape[1])
        opened.require_current(self._path, self._version)
        return opened


def _layout_in_file(path: Path) -> tuple[np.dtype[Any], int]:
    """Return the responses' dtype, and the byte at which they begin."""
    with HDF5_LOCK, opened_to_read(path) as file:
        variable = file[RESPONSE]
        dtype, offset = variable.dtype, variable.id.get_offset()
    if offset is None:
        raise InputFileError(
            f"{path} was rewritten in chunks by another program: expected the responses "
            "in one piece; open it with xarray, or write it again."
        )
    return dtype, offset


class _OpenedFile(Held):
    """Rows that lie one after the other in a file; read without HDF5, by any number of threads."""

    def __init__(self, path: Path, dtype: np.dtype[Any], offset: int, n_voxels: int) -> None:
        super().__init__(path)
        self._dtype, self._offset, self._n_voxels = dtype, offset, n_voxels

    def read(self, index: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.empty((len(index), self._n_voxels), self._dtype)
        length = rows.itemsize * self._n_voxels
        offsets = (self._offset + index * length).tolist()
        for offset, row in zip(offsets, rows.view(np.uint8), strict=True):
            # Read, not mapped: where a disk fails, a mapped file ends the process.
            n_read = os.preadv(self.descriptor, [row.data], offset)
            if n_read != length:
                raise OSError(errno.EIO, f"The disk gave {n_read} of the {length} bytes of a row")
        return rows


class _OpenedStore(Held):
    """Rows of a store, opened when some are first read, so that processes can be forked before."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path
        self._rows: Any = None

    def read(self, index: NDArray[np.int64]) -> NDArray[Any]:
        require_not_forked("TensorStore", self._path)
        if self._rows is None:
            self._rows = opened_rows(self._path, RESPONSE)
        return np.array(self._rows[index])
