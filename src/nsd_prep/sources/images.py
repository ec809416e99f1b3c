"""Images of a remote dataset: PNG files of the shared ones, or ranges of the file of all."""

import io
import logging
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.hdf5_lock import HDF5_LOCK
from nsd_prep.dataset.hdf5.ranges import merged
from nsd_prep.dataset.images import DATASET_NAME, stored_images
from nsd_prep.sources.batch import Batch
from nsd_prep.sources.client import SESSION_SECONDS, Client
from nsd_prep.sources.retry import Deadline
from nsd_prep.sources.sparse_file import SparseFile

FOLDER: Final = "nsddata_stimuli/stimuli/nsd"
SHARED_FOLDER: Final = f"{FOLDER}/shared1000"
STIMULI_FILE: Final = f"{FOLDER}/nsd_stimuli.hdf5"

#: Names of the shared images: their rank, and their 73k id, which is 1-based.
_SHARED_NAME: Final = re.compile(r"(?:^|/)shared\d{4}_nsd(?P<id>\d{5})\.png$")
#: Images that are under way at once: some 20 MB of pixels.
_AHEAD: Final = 32
#: Bytes of blocks that are kept of a file of images whose chunks are looked up one by one.
_BLOCK_BYTES: Final = 40_000_000

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
    yield from _read_ranges(client, np.sort(nsd_ids))


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


def _read_ranges(
    client: Client, nsd_ids: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read images from the file of all, as HDF5 finds them in it."""
    identity = client.identity(STIMULI_FILE)
    deadline = Deadline(SESSION_SECONDS)

    def fetch(start: int, stop: int) -> Any:
        return client.fetch(identity, start, stop, kind="images", deadline=deadline, at_once=True)

    file = SparseFile(identity.path, identity.bytes, fetch=fetch, most_bytes=_BLOCK_BYTES)
    with _translated(file), HDF5_LOCK, h5py.File(file, "r") as opened:
        images = stored_images(identity.path, opened, nsd_ids)
        image_bytes = int(np.prod(images.shape[1:]))
        first_byte = images.id.get_offset()
    for start in range(0, len(nsd_ids), _AHEAD):
        chosen = nsd_ids[start : start + _AHEAD]
        deadline = Deadline(SESSION_SECONDS)
        keys = []
        if first_byte is not None:  # one block: it is known where each image lies
            places = first_byte + chosen * image_bytes
            ranges = merged(places, np.full(len(chosen), image_bytes), client.link.gap)
            batch = Batch(client, identity, ranges, kind="images", deadline=deadline)
            keys = batch.into(file)
        with _translated(file), HDF5_LOCK, h5py.File(file, "r") as opened:
            pictures = [(nsd_id, opened[DATASET_NAME][nsd_id]) for nsd_id in chosen.tolist()]
        file.remove(keys)
        yield from pictures


@contextmanager
def _translated(file: SparseFile) -> Iterator[None]:
    """Raise what the network said, or that the file is damaged, in place of h5py's errors."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if file.error is not None:
            raise file.error from None
        if isinstance(error, InputFileError):
            raise
        raise InputFileError(
            f"{file.name} cannot be read ({error}): it is truncated, empty or not HDF5; check the "
            "dataset."
        ) from error
