"""Stimulus sets: the images of train and test, and a table of each set."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from nsd_prep.assembly import stimulus_ids
from nsd_prep.brainscore.identifiers import SPLITS, stimulus_folder, stimulus_metadata_file
from nsd_prep.core.atomic import replaced, write_table
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.progress import current_stage
from nsd_prep.core.records import Folder, Made

ImageFormat = Literal["png", "jpeg"]
#: Gives the pixels of an image by its nsd_id (0-based): uint8, (height, width, 3), RGB.
ImageSource = Callable[[int], NDArray[np.uint8]]

#: Name of the one dataset in ``nsd_stimuli.hdf5`` (NSD data manual): uint8, (images, 425, 425, 3).
DATASET_NAME: Final = "imgBrick"
JPEG_QUALITY: Final = 95
_EXTENSIONS: Final = {"png": ".png", "jpeg": ".jpg"}
#: Threads that compress images: Pillow releases the interpreter's lock. More gain little.
_MOST_THREADS: Final = 8
#: Images held in memory for each thread: the one being compressed, and one that waits.
_HELD: Final = 2


class Picture(NamedTuple):
    """An image of the dataset: 0-based id, and uint8 (height, width, 3), RGB."""

    nsd_id: int
    pixels: NDArray[np.uint8]


def read_pictures(images: Path | ImageSource, nsd_ids: NDArray[np.int64]) -> Iterator[Picture]:
    """Read images, one at a time, in file order, and no others.

    Parameters
    ----------
    images : Path or callable
        ``nsd_stimuli.hdf5``, or what gives an image by its id; it is called in this thread alone.
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based.

    Yields
    ------
    Picture
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
        with _opened(images) as file:
            stored = _checked(images, file, nsd_ids)
            for nsd_id in np.sort(nsd_ids).tolist():
                yield Picture(nsd_id, stored[nsd_id])
        return
    for nsd_id in np.sort(nsd_ids).tolist():
        pixels = np.asarray(images(nsd_id))
        if not _are_images(pixels[np.newaxis]):
            raise InputFileError(
                f"The image of nsd_id {nsd_id} (0-based) is {pixels.dtype} {pixels.shape}: "
                "expected uint8 (height, width, 3) of one pixel at least; give the dataset's own."
            )
        yield Picture(nsd_id, pixels)


def pictures_of(made: Made, folder: Folder) -> dict[int, Path]:
    """Return where the images of written stimulus sets lie, by nsd_id (0-based), ascending."""
    found = {}
    for name in made.files:
        path = folder.path / name
        if path.suffix in _EXTENSIONS.values():
            found[int(path.stem.removeprefix("nsd_"))] = path
    return dict(sorted(found.items()))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an image of a stimulus set, uint8 (height, width, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


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
        As `read_pictures`; InputFileError also where it is a folder or a device, or its images have
        no pixel.
    """
    with _opened(path) as file:
        _checked(path, file, np.empty(0, np.int64) if nsd_ids is None else nsd_ids)


def write_stimulus_sets(
    images: Path | ImageSource,
    folder: Path,
    nsd_ids: NDArray[np.int64],
    is_train: NDArray[np.bool_],
    *,
    image_format: ImageFormat = "png",
    suffix: str = "",
    threads: int | None = None,
) -> list[Path]:
    """Write the images of train and test, and a table of each.

    ``stimuli_train/nsd_NNNNN.png`` and ``stimulus_metadata_train.csv`` (stimulus_id, nsd_id,
    image_file_name), and the same of test. The tables are written last.

    Parameters
    ----------
    images : Path or callable
        ``nsd_stimuli.hdf5``, or what gives the pixels of an image by its id, from wherever it has
        them; it is called in ascending order of ids, in one thread.
    folder : Path
        Where they go. Other images in it stay: runs of other subjects share it.
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based, ascending.
    is_train : ndarray of bool, shape (n_images,)
        The split.
    image_format : {"png", "jpeg"}
        PNG keeps every pixel; JPEG is of quality 95.
    suffix : str
        Comes before the extension of the tables.
    threads : int, optional
        How many compress images; as many as there are processors, and not more than 8, where none
        is given. The bytes do not depend on it.

    Returns
    -------
    list of Path
        The two tables.

    Raises
    ------
    MissingFilesError, InputFileError, OSError
        As `read_pictures`.
    """
    extension = _EXTENSIONS[image_format]
    names = [f"{name}{extension}" for name in stimulus_ids(nsd_ids)]
    path_of = {
        nsd_id: stimulus_folder(folder, "train" if in_train else "test") / name
        for nsd_id, in_train, name in zip(nsd_ids.tolist(), is_train.tolist(), names, strict=True)
    }

    stage = current_stage()
    stage.total = len(nsd_ids)

    def write(picture: Picture) -> None:
        write_picture(picture.pixels, path_of[picture.nsd_id])
        stage.advance()

    n_threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
    _each_as_it_comes(write, read_pictures(images, nsd_ids), n_threads)
    tables = []
    for split in SPLITS:
        chosen = is_train if split == "train" else ~is_train
        table = pd.DataFrame(
            {
                "stimulus_id": stimulus_ids(nsd_ids[chosen]),
                "nsd_id": nsd_ids[chosen],
                "image_file_name": np.array(names)[chosen],
            }
        )
        path = stimulus_metadata_file(folder, split, suffix)
        write_table(path, table)
        tables.append(path)
    return tables


def _each_as_it_comes(
    write: Callable[[Picture], None], pictures: Iterable[Picture], n_threads: int
) -> None:
    """Write pictures in threads while the next ones are read, few of them in memory."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for picture in pictures:
                waiting.append(pool.submit(write, picture))
                if len(waiting) >= _HELD * n_threads:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_picture(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write an image (height, width, 3) as ``.png`` or ``.jpg``; same pixels, same bytes."""
    # Every option that Pillow could choose by itself is named; nothing else enters the file.
    options: dict[str, Any] = (
        {"format": "PNG", "compress_level": 3}
        if path.suffix == ".png"
        else {"format": "JPEG", "quality": JPEG_QUALITY, "subsampling": 0}
    )
    with replaced(path) as partial:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, **options)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if path.exists() and not path.is_file():
        raise InputFileError(
            f"The stimulus file {path} is not a regular file, so there are no stimulus sets: "
            "expected NSD's images there; put nsd_stimuli.hdf5 in its place."
        )
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError as error:
        raise MissingFilesError(
            f"The stimulus file {path} is missing, so there are no stimulus sets: expected NSD's "
            "images there; download nsd_stimuli.hdf5 and run the same command again."
        ) from error
    except (OSError, RuntimeError) as error:  # h5py raises both at damaged files
        if getattr(error, "errno", None) is not None or re.search(r"errno = [1-9]", str(error)):
            raise
        raise InputFileError(
            f"The stimulus file {path} cannot be read ({error}), so there are no stimulus sets: it "
            "is truncated, empty or not HDF5; download nsd_stimuli.hdf5 again."
        ) from error


def _checked(path: Path, file: h5py.File, nsd_ids: NDArray[np.int64]) -> h5py.Dataset:
    images = file.get(DATASET_NAME)
    if not isinstance(images, h5py.Dataset):
        raise InputFileError(
            f"The stimulus file {path} holds no dataset {DATASET_NAME}, so there are no stimulus "
            f"sets: found {', '.join(file) or 'nothing'}; download nsd_stimuli.hdf5 again."
        )
    if images.is_virtual or images.external:
        # Where those files are missing HDF5 gives black images, without an error.
        raise InputFileError(
            f"The stimulus file {path} holds no images of its own, so there are no stimulus sets: "
            f"expected {DATASET_NAME} in the file itself, found one whose values lie in other "
            "files; download nsd_stimuli.hdf5 again."
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
