"""The pictures that were shown: NSD's file of images, read and checked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.hdf5_lock import HDF5_LOCK
from nsd_prep.dataset.hdf5.opening import errno_of, files_elsewhere, opened_to_read

#: Gives the pixels of an image by its nsd_id (0-based): uint8, (height, width, 3), RGB.
ImageSource = Callable[[int], NDArray[np.uint8]]
#: Name of the one dataset in ``nsd_stimuli.hdf5`` (NSD data manual): uint8, (images, 425, 425, 3).
DATASET_NAME: Final = "imgBrick"


class StimulusImage(NamedTuple):
    """An image of the dataset: 0-based id, and uint8 (height, width, 3), RGB."""

    nsd_id: int
    pixels: NDArray[np.uint8]


def read_images(images: Path | ImageSource, nsd_ids: NDArray[np.int64]) -> Iterator[StimulusImage]:
    """Read images, one at a time, in file order, and no others.

    Parameters
    ----------
    images : Path or callable
        ``nsd_stimuli.hdf5``, or what gives an image by its id; it is called in this thread alone.
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based.

    Yields
    ------
    StimulusImage
        Ascending by id.

    Raises
    ------
    MissingFilesError
        The file is not there.
    InputFileError
        It is truncated, holds something else, or ends before the last image; or what is called
        gives something else than an image.
    OSError
        The disk fails.
    """
    if isinstance(images, Path):
        with opened_images(images, nsd_ids) as stored:
            for nsd_id in np.sort(nsd_ids).tolist():
                yield StimulusImage(nsd_id, stored.read(nsd_id))
        return
    for nsd_id in np.sort(nsd_ids).tolist():
        pixels = np.asarray(images(nsd_id))
        if not _are_images(pixels[np.newaxis]):
            raise InputFileError(
                f"The image of nsd_id {nsd_id} (0-based) is {pixels.dtype} {pixels.shape}: "
                "expected uint8 (height, width, 3) of one pixel at least; give the dataset's own."
            )
        yield StimulusImage(nsd_id, pixels)


def check_images_file(path: Path, nsd_ids: NDArray[np.int64] | None = None) -> None:
    """Check the form of the file of images, without reading an image.

    Parameters
    ----------
    path : Path
        ``nsd_stimuli.hdf5``.
    nsd_ids : ndarray of int64, shape (n_images,), optional
        The images (0-based) that it should hold.

    Raises
    ------
    MissingFilesError, InputFileError, OSError
        As `read_images`; InputFileError also where it is a folder or a device, or its images have
        no pixel.
    """
    with opened_images(path, np.empty(0, np.int64) if nsd_ids is None else nsd_ids):
        pass


class StoredImages:
    """An open file of images, of which any may be read.

    Attributes
    ----------
    shape : tuple of int
        (height, width, 3) of an image.
    """

    def __init__(self, path: Path, stored: h5py.Dataset) -> None:
        self._path, self._stored = path, stored
        _, height, width, channels = stored.shape
        self.shape = (int(height), int(width), int(channels))

    def read(self, nsd_id: int) -> NDArray[np.uint8]:
        """Return an image (0-based id); errors as `read_images`."""
        with _explained_read_errors(self._path), HDF5_LOCK:
            return self._stored[nsd_id]


@contextmanager
def opened_images(path: Path, nsd_ids: NDArray[np.int64]) -> Iterator[StoredImages]:
    """Open the file of images, which holds some ids (0-based), to read them in any order.

    Errors are those of `read_images`; what the block itself raises is passed on as it is.
    """
    if path.exists() and not path.is_file():
        raise InputFileError(
            f"The stimulus file {path} is not a regular file, so there are no stimulus sets: "
            "expected NSD's images there; put nsd_stimuli.hdf5 in its place."
        )
    with _explained_read_errors(path):
        file = opened_to_read(path)
    try:
        with _explained_read_errors(path), HDF5_LOCK:
            stored = StoredImages(path, stored_images(path, file, nsd_ids))
        yield stored
    finally:
        with HDF5_LOCK:
            file.close()


@contextmanager
def _explained_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFilesError(
            f"The stimulus file {path} is missing, so there are no stimulus sets: expected NSD's "
            "images there; download nsd_stimuli.hdf5 and run the same command again."
        ) from error
    except (OSError, RuntimeError) as error:  # h5py raises both at damaged files
        if errno_of(error) is not None:
            raise
        raise InputFileError(
            f"The stimulus file {path} cannot be read ({error}), so there are no stimulus sets: it "
            "is truncated, empty or not HDF5; download nsd_stimuli.hdf5 again."
        ) from error


def stored_images(path: Path | str, file: h5py.File, nsd_ids: NDArray[np.int64]) -> h5py.Dataset:
    """Return the images (n, height, width, 3) of an open file, which holds some ids (0-based).

    InputFileError, which names the file as `path`, where it holds something else.
    """
    images = file.get(DATASET_NAME)
    if not isinstance(images, h5py.Dataset):
        raise InputFileError(
            f"The stimulus file {path} holds no dataset {DATASET_NAME}, so there are no stimulus "
            f"sets: found {', '.join(file) or 'nothing'}; download nsd_stimuli.hdf5 again."
        )
    if others := files_elsewhere(images, file):
        raise InputFileError(
            f"The stimulus file {path} holds no images of its own, so there are no stimulus sets: "
            f"expected {DATASET_NAME} in the file itself, found one whose values lie in "
            f"{', '.join(others)}; download nsd_stimuli.hdf5 again."
        )
    if not _are_images(images):
        raise InputFileError(
            f"The dataset {DATASET_NAME} of {path} is {images.dtype} {images.shape}, so there are "
            "no stimulus sets: expected uint8 (images, height, width, 3), images of one pixel at "
            "least; download nsd_stimuli.hdf5 again."
        )
    if images.shape[0] <= nsd_ids.max(initial=-1):
        raise InputFileError(
            f"The stimulus file {path} is too short, so there are no stimulus sets: expected "
            f"images up to nsd_id {nsd_ids.max()} (0-based), found {images.shape[0]} images; "
            "download nsd_stimuli.hdf5 again."
        )
    return images


def _are_images(images: h5py.Dataset | NDArray[Any]) -> bool:
    return bool(
        images.dtype == np.uint8
        and images.ndim == 4
        and images.shape[3] == 3
        and min(images.shape[1:]) > 0
    )
