"""Stimulus sets: the images of train and test, and a table of each set."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from nsd_prep.assembly import stimulus_ids
from nsd_prep.brainscore.identifiers import SPLITS, stimulus_folder, stimulus_metadata_file
from nsd_prep.errors import InputFileError, MissingFilesError
from nsd_prep.files import replaced, write_text

ImageFormat = Literal["png", "jpeg"]

#: Name of the one dataset in ``nsd_stimuli.hdf5`` (NSD data manual): uint8, (images, 425, 425, 3).
DATASET_NAME: Final = "imgBrick"
JPEG_QUALITY: Final = 95
_EXTENSIONS: Final = {"png": ".png", "jpeg": ".jpg"}
#: Images held in memory at a time, and threads that compress them (Pillow lets go of the lock).
_BATCH: Final = 32
_THREADS: Final = 2


class Picture(NamedTuple):
    """An image of the dataset.

    Attributes
    ----------
    nsd_id : int
        0-based.
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB.
    """

    nsd_id: int
    pixels: NDArray[np.uint8]


def read_pictures(path: Path, nsd_ids: NDArray[np.int64]) -> Iterator[Picture]:
    """Read images, one at a time, in file order, and no others.

    Parameters
    ----------
    path : Path
        ``nsd_stimuli.hdf5``.
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
        It is truncated, holds something else, or ends before the last image.
    OSError
        The disk fails.
    """
    with _opened(path) as file:
        images = _checked(path, file, nsd_ids)
        for nsd_id in np.sort(nsd_ids).tolist():
            yield Picture(nsd_id, images[nsd_id])


def write_stimulus_sets(
    stimuli_file: Path,
    folder: Path,
    nsd_ids: NDArray[np.int64],
    is_train: NDArray[np.bool_],
    *,
    image_format: ImageFormat = "png",
    suffix: str = "",
) -> list[Path]:
    """Write the images of train and test, and a table of each.

    ``stimuli_train/nsd_NNNNN.png`` and ``stimulus_metadata_train.csv`` (stimulus_id, nsd_id,
    image_file_name), and the same of test. The tables are written last.

    Parameters
    ----------
    stimuli_file : Path
        ``nsd_stimuli.hdf5``.
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
    folder_of = {
        nsd_id: stimulus_folder(folder, "train" if in_train else "test")
        for nsd_id, in_train in zip(nsd_ids.tolist(), is_train.tolist(), strict=True)
    }
    names = dict(zip(nsd_ids.tolist(), stimulus_ids(nsd_ids), strict=True))

    def write(picture: Picture) -> None:
        path = folder_of[picture.nsd_id] / f"{names[picture.nsd_id]}{extension}"
        write_picture(picture.pixels, path)

    pictures = read_pictures(stimuli_file, nsd_ids)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(pictures, _BATCH)):
            list(pool.map(write, batch))
    tables = []
    for split in SPLITS:
        chosen = nsd_ids[is_train if split == "train" else ~is_train]
        ids = stimulus_ids(chosen)
        table = pd.DataFrame(
            {
                "stimulus_id": ids,
                "nsd_id": chosen,
                "image_file_name": [f"{name}{extension}" for name in ids],
            }
        )
        path = stimulus_metadata_file(folder, split, suffix)
        write_text(path, table.to_csv(index=False, lineterminator="\n"))
        tables.append(path)
    return tables


def write_picture(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write an image; the same pixels give the same bytes.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB.
    path : Path
        With extension ``.png`` or ``.jpg``.
    """
    # Every option that Pillow could choose by itself is named; nothing else enters the file.
    options: dict[str, Any] = (
        {"format": "PNG", "compress_level": 3}
        if path.suffix == ".png"
        else {"format": "JPEG", "quality": JPEG_QUALITY, "subsampling": 0}
    )
    with replaced(path) as partial:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, **options)


def missing_pictures(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the paths of those images of a folder that are not there."""
    return [folder / name for name in names if not (folder / name).is_file()]


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
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
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InputFileError(
            f"The dataset {DATASET_NAME} of {path} is {images.dtype} {images.shape}, so there are "
            "no stimulus sets: expected uint8 (images, height, width, 3); download "
            "nsd_stimuli.hdf5 again."
        )
    if images.shape[0] <= nsd_ids.max(initial=-1):
        raise InputFileError(
            f"The stimulus file {path} is too short, so there are no stimulus sets: expected "
            f"images up to nsd_id {nsd_ids.max()} (0-based), found {images.shape[0]} images; "
            "download nsd_stimuli.hdf5 again."
        )
    return images
