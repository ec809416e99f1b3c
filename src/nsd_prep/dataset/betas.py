"""Betas of a session: read for some voxels, or vertices of a hemisphere.

This is the only module that touches beta files: voxels go in, (voxel, trial) comes out. Another
way of storing betas is another way to fill `read_voxels`: HDF5 has one of its own, MGH one in
`nsd_prep.dataset.frames`.
"""

import logging
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError, NSDPrepError, RemoteFaultError
from nsd_prep.core.hdf5_lock import HDF5_LOCK
from nsd_prep.dataset.frames import check_frames, read_frames
from nsd_prep.dataset.hdf5.blocks import read_blocks
from nsd_prep.dataset.hdf5.content import Content, LocalContent
from nsd_prep.dataset.hdf5.gather import find_chunks, gather_chunks, look_up_chunks
from nsd_prep.dataset.hdf5.index import ChunkIndex, index_of
from nsd_prep.dataset.hdf5.opening import errno_of, files_elsewhere, opened_to_read
from nsd_prep.dataset.published import BETA_SCALE

#: Betas as they are stored: int16 (300 times the percent signal change) in HDF5, float32 (percent
#: signal change) in MGH.
Betas = NDArray[Any]

DATASET_NAME: Final = "betas"
MGH: Final = ".mgh"

_logger: Final = logging.getLogger(__name__)


class StorageForm(NamedTuple):
    """How a session's betas are stored.

    Attributes
    ----------
    dtype : dtype
        Of the values.
    chunks : tuple of int, or None
        Shape of a chunk; None where the values lie in one block.
    is_plain : bool
        Whether each voxel's trials are one chunk, stored as they are.
    chunk_index : ChunkIndex or None
        Of chunks of a voxel each, where it can be searched.
    """

    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    is_plain: bool
    chunk_index: ChunkIndex | None


def stored_type(path: Path) -> str:
    """Return the type of values in a file of betas, as NumPy writes it: int16, in MGH float32."""
    return "<f4" if path.suffix == MGH else "<i2"


def check_session_file(
    path: Path | str, shape: tuple[int, ...], n_trials: int, content: Content | None = None
) -> None:
    """Raise where a session's betas are not of the expected form.

    Arguments and errors are those of `read_voxels`.
    """
    with _content(path, content) as opened:
        if Path(path).suffix == MGH:
            check_frames(path, shape[0], n_trials, opened)
        else:
            storage_form(path, shape, n_trials, opened)


def read_voxels(
    path: Path | str,
    voxels: NDArray[np.int64],
    shape: tuple[int, ...],
    n_trials: int,
    content: Content | None = None,
) -> Betas:
    """Read all trials of some voxels of a session, and little else.

    Files stored voxel by voxel, as NSD's are, are read chunk by chunk, where the file's own index
    says that they lie. Any other storage form is read by HDF5, in blocks that hold whole chunks.

    Parameters
    ----------
    path : Path
        A session's HDF5 file, its dataset ``betas`` of shape (n_trials, *shape); or its MGH file of
        shape (V, 1, 1, n_trials).
    voxels : ndarray of int64, shape (n_voxels,)
        Sites (0-based), ascending: indices into the raveled `shape` (C order).
    shape : tuple of int
        (Z, Y, X) of a volume, (V,) of a hemisphere.
    n_trials : int
        750 in NSD.
    content : Content, optional
        What gives the bytes in place of `path`, which is then a name for messages.

    Returns
    -------
    ndarray of int16, shape (n_voxels, n_trials)
        As stored: 300 times the percent signal change. Of MGH float32, percent signal change.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file is truncated, not HDF5 or MGH, or holds something else.
    """
    with _content(path, content) as opened:
        if Path(path).suffix == MGH:
            return read_frames(path, voxels, shape[0], n_trials, opened)
        form = storage_form(path, shape, n_trials, opened)
        if not len(voxels):
            return np.zeros((0, n_trials), dtype=np.int16)
        values = None
        if form.is_plain:
            values = _read_voxel_chunks(path, voxels, shape, n_trials, opened, form)
        if values is None:
            if form.chunk_index is None and not opened.is_local:
                _logger.warning(
                    "%s is stored as %s, so that its voxels cannot be fetched alone: up to %.1f MB "
                    "of it are fetched for %.1f MB of betas.",
                    path,
                    f"chunks of {form.chunks}" if form.chunks else "one block",
                    opened.size / 1e6,
                    len(voxels) * n_trials * form.dtype.itemsize / 1e6,
                )
            with opened_betas(path, shape, n_trials, opened) as betas:
                values = read_blocks(betas, opened, voxels)
    return values.astype(np.int16, copy=False)


def _content(path: Path | str, content: Content | None) -> AbstractContextManager[Content]:
    return LocalContent(Path(path)) if content is None else nullcontext(content)


def _read_voxel_chunks(
    path: Path | str,
    voxels: NDArray[np.int64],
    shape: tuple[int, ...],
    n_trials: int,
    content: Content,
    form: StorageForm,
) -> NDArray[Any] | None:
    """Return the betas (voxel, trial) of a file where each voxel's trials are one plain chunk.

    None where one is said to lie outside of the file: HDF5 will tell of it.
    """
    chunk_bytes = n_trials * form.dtype.itemsize
    table, fill = None, 0
    if form.chunk_index is not None:
        table = find_chunks(content, form.chunk_index, voxels)
    if table is None or (table.lengths != chunk_bytes).any():
        # Another kind of index, a damaged one, or chunks that were never written.
        with opened_betas(path, shape, n_trials, content) as betas:
            table, fill = look_up_chunks(betas, content, voxels), betas.fillvalue
    written = table.lengths == chunk_bytes
    chunks = gather_chunks(content, table.starts[written], chunk_bytes)
    if chunks is None or table.lengths[~written].any():
        return None
    if written.all():
        return chunks.view(form.dtype)
    values = np.full((len(voxels), n_trials), fill, dtype=form.dtype)
    values[written] = chunks.view(form.dtype)
    return values


def storage_form(
    path: Path | str, shape: tuple[int, ...], n_trials: int, content: Content
) -> StorageForm:
    """Return how a session's betas are stored, after checking what they are.

    Arguments and errors are those of `read_voxels`.
    """

    def form() -> StorageForm:
        with opened_betas(path, shape, n_trials, content) as betas:
            is_of_voxels = betas.chunks == (n_trials, *(1 for _ in shape))
            is_of_voxels &= not betas.file.userblock_size  # other bytes would be read
            index = None
            if is_of_voxels:
                with suppress(struct.error, ValueError):  # damaged: HDF5 will tell of it
                    index = index_of(betas, lambda start, n: _read_at(content, start, n))
            has_filters = betas.id.get_create_plist().get_nfilters() > 0
            return StorageForm(betas.dtype, betas.chunks, is_of_voxels and not has_filters, index)

    return content.complete(form)


def _read_at(content: Content, start: int, length: int) -> bytes:
    if start < 0 or length < 0 or start + length > content.size:
        raise ValueError(f"bytes {start} to {start + length} lie outside of the file")
    buffer = bytearray(length)
    content.read_into(start, memoryview(buffer))
    return bytes(buffer)


@contextmanager
def opened_betas(
    path: Path | str, shape: tuple[int, ...], n_trials: int, content: Content
) -> Iterator[h5py.Dataset]:
    """Open a session's betas, checked, with h5py's errors turned into the library's.

    Parameters
    ----------
    path, shape, n_trials, content
        As `read_voxels`.

    Yields
    ------
    h5py.Dataset
        Of shape (n_trials, *shape); no other thread lets HDF5 read betas meanwhile.
    """
    with HDF5_LOCK:
        try:
            file = content.hdf5_file
            with opened_to_read(file) if isinstance(file, Path) else h5py.File(file, "r") as opened:
                yield _checked(path, opened, shape, n_trials)
        except (NSDPrepError, RemoteFaultError):
            raise
        except (OSError, RuntimeError, KeyError) as error:  # h5py at damaged files
            if number := errno_of(error):
                raise OSError(number, os.strerror(number), str(path)) from error
            raise InputFileError(
                f"{path} cannot be read as a session's betas ({error}): it is truncated, empty or "
                "not HDF5; download it again."
            ) from error


def _checked(
    path: Path | str, file: h5py.File, shape: tuple[int, ...], n_trials: int
) -> h5py.Dataset:
    # Of a disk that fails `get` would say that there is no dataset.
    betas = file[DATASET_NAME] if DATASET_NAME in file else None  # noqa: SIM401
    if not isinstance(betas, h5py.Dataset):
        content = ", ".join(sorted(map(str, file))) or "nothing"
        content = content if betas is None else "a group of this name"
        raise InputFileError(
            f"{path} has no dataset '{DATASET_NAME}': expected it to hold the betas, found "
            f"{content}; download the file again."
        )
    if others := files_elsewhere(betas, file):
        raise InputFileError(
            f"{path} holds no betas of its own: expected the dataset '{DATASET_NAME}' in the file "
            f"itself, found one whose values lie in {', '.join(others)}; copy the values into one "
            "file, or download it again."
        )
    if betas.dtype.newbyteorder("=") != np.dtype(np.int16):
        raise InputFileError(
            f"{path} has betas of the type {betas.dtype.name}: expected int16 (percent signal "
            f"change times {BETA_SCALE}); download the file again."
        )
    expected = (n_trials, *shape)
    if betas.shape != expected:
        raise InputFileError(
            f"{path} has betas of the shape {betas.shape}: expected {expected}, the session's "
            "trials in the space of the region labels; download the file or the labels again."
        )
    return betas
