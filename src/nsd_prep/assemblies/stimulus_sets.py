"""Stimulus sets: the images of train and test, and a table of each set."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from nsd_prep.assemblies.assembly import stimulus_ids
from nsd_prep.assemblies.identifiers import SPLITS, stimulus_folder, stimulus_metadata_file
from nsd_prep.core.atomic import replaced, write_table
from nsd_prep.core.progress import current_stage
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.dataset.images import ImageSource, StimulusImage, read_images

ImageFormat = Literal["png", "jpeg"]
JPEG_QUALITY: Final = 95
_EXTENSIONS: Final = {"png": ".png", "jpeg": ".jpg"}
#: Threads that compress images: Pillow releases the interpreter's lock. More gain little.
_MOST_THREADS: Final = 8
#: Images held in memory for each thread: the one being compressed, and one that waits.
_HELD: Final = 2


def pictures_of(output: StepOutput, folder: Folder) -> dict[int, Path]:
    """Return where the images of written stimulus sets lie, by nsd_id (0-based), ascending."""
    pictures = {}
    for name in output.files:
        path = folder.path / name
        if path.suffix in _EXTENSIONS.values():
            pictures[int(path.stem.removeprefix("nsd_"))] = path
    return dict(sorted(pictures.items()))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an image of a stimulus set, uint8 (height, width, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


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
        As `read_images`.
    """
    extension = _EXTENSIONS[image_format]
    names = [f"{name}{extension}" for name in stimulus_ids(nsd_ids)]
    path_of = {
        nsd_id: stimulus_folder(folder, "train" if in_train else "test") / name
        for nsd_id, in_train, name in zip(nsd_ids.tolist(), is_train.tolist(), names, strict=True)
    }

    stage = current_stage()
    stage.total = len(nsd_ids)

    def write(picture: StimulusImage) -> None:
        write_picture(picture.pixels, path_of[picture.nsd_id])
        stage.advance()

    n_threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
    _each_as_it_comes(write, read_images(images, nsd_ids), n_threads)
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
    write: Callable[[StimulusImage], None], pictures: Iterable[StimulusImage], n_threads: int
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
