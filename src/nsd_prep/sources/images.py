"""Images of a remote dataset: PNG files of the shared ones, or ranges of the file of all."""

import io
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nsd_prep.core.errors import InputFileError, MissingFilesError, NSDPrepError, RemoteFaultError
from nsd_prep.core.hdf5_lock import HDF5_LOCK
from nsd_prep.dataset.hdf5.blocks import stored_ranges
from nsd_prep.dataset.hdf5.ranges import Ranges
from nsd_prep.dataset.images import DATASET_NAME, stored_images
from nsd_prep.sources.batch import Batch
from nsd_prep.sources.client import SESSION_SECONDS, Client
from nsd_prep.sources.retry import Deadline
from nsd_prep.sources.sparse_file import SparseFile

_Result = TypeVar("_Result")

FOLDER: Final = "nsddata_stimuli/stimuli/nsd"
SHARED_FOLDER: Final = f"{FOLDER}/shared1000"
STIMULI_FILE: Final = f"{FOLDER}/nsd_stimuli.hdf5"

#: Names of the shared images: their rank, and their 73k id, which is 1-based.
_SHARED_NAME: Final = re.compile(r"(?:^|/)shared\d{4}_nsd(?P<id>\d{5})\.png$")
#: Images that are under way at once: some 20 MB of pixels.
_AHEAD: Final = 32

_logger: Final = logging.getLogger(__name__)


def fetch_images(
    client: Client, nsd_ids: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read images by their nsd_id (0-based), and no others.

    Yields
    ------
    nsd_id : int
        Ascending.
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB.

    Raises
    ------
    MissingFilesError
        The dataset holds neither the PNG files nor the file of all images.
    InputFileError
        They are not what they should be.
    RemoteFaultError, ChangedFileError
        The server does not answer, or the file of all images was changed.
    """
    ids = np.sort(nsd_ids).tolist()
    names = shared_names(client)
    if all(nsd_id in names for nsd_id in ids):
        yield from _read_files(client, [(nsd_id, names[nsd_id]) for nsd_id in ids])
        return
    _logger.warning(
        "%s does not hold all of the images as PNG files: they are read from %s.",
        client.url(SHARED_FOLDER),
        client.url(STIMULI_FILE),
    )
    yield from _read_ranges(client, ids)


def shared_names(client: Client) -> dict[int, str]:
    """Return the paths below the root of the shared images' PNG files by nsd id (0-based).

    Empty where there are none, or the server lists no folders.
    """
    try:
        listed = client.names(SHARED_FOLDER)
    except (InputFileError, MissingFilesError):
        return {}
    matches = ((name, _SHARED_NAME.search(name)) for name in listed)
    return {int(match["id"]) - 1: name for name, match in matches if match}


def _read_files(
    client: Client, files: list[tuple[int, str]]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read PNG files, the next ones while one is used."""
    waiting = iter(files)

    def submit(file: tuple[int, str]) -> tuple[int, str, Any]:
        return *file, client.submit(lambda: client.read(file[1], kind="images")[1])

    ahead = deque(map(submit, islice(waiting, _AHEAD)))
    try:
        while ahead:
            nsd_id, name, future = ahead.popleft()
            content = future.result()
            ahead.extend(map(submit, islice(waiting, 1)))
            try:
                with Image.open(io.BytesIO(content)) as image:
                    pixels = np.asarray(image.convert("RGB"))
            except (UnidentifiedImageError, OSError, SyntaxError) as error:
                raise InputFileError(
                    f"{client.url(name)} is not an image ({error}): expected a PNG file; check the "
                    "dataset."
                ) from error
            yield nsd_id, pixels
    finally:
        for _, _, future in ahead:
            future.cancel()


def _read_ranges(client: Client, ids: list[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read images from the file of all, as HDF5 finds them in it."""
    identity = client.identity(STIMULI_FILE)
    deadline = Deadline(SESSION_SECONDS)

    def fetch(ranges: Ranges) -> Iterable[tuple[int, Any]]:
        return Batch(client, identity, ranges, deadline, "images").pieces()

    file = SparseFile(identity.path, identity.bytes, fetch)

    for start in range(0, max(len(ids), 1), _AHEAD):
        chosen = ids[start : start + _AHEAD]
        deadline = Deadline(SESSION_SECONDS)

        def ranges(opened: h5py.File) -> Ranges:
            images = stored_images(identity.path, opened, np.array(ids, dtype=np.int64))
            whole = [slice(0, length) for length in images.shape[1:]]
            boxes = [(slice(index, index + 1), *whole) for index in chosen]  # noqa: B023 (called at once)
            return stored_ranges(images, file, boxes)

        keys = file.fetch(_opened(file, ranges))
        for index in chosen:
            yield index, _opened(file, lambda opened: opened[DATASET_NAME][index], keep=False)  # noqa: B023
        file.remove(keys)


def _opened(
    file: SparseFile, read: Callable[[h5py.File], _Result], *, keep: bool = True
) -> _Result:
    """Return what is read of a file; raise what the network said, or that it is damaged."""

    def action() -> _Result:
        try:
            with HDF5_LOCK, h5py.File(file, "r") as opened:
                return read(opened)
        except (NSDPrepError, RemoteFaultError):
            raise
        except (OSError, RuntimeError) as error:
            raise InputFileError(
                f"{file.name} cannot be read ({error}): it is truncated, empty or not HDF5; check "
                "the dataset."
            ) from error

    return file.complete(action, keep=keep)
