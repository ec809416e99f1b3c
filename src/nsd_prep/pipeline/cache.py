"""The cache of a run: how large it is, and how it is cleared."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final
from uuid import uuid4

from filelock import FileLock, Timeout

from nsd_prep.core.atomic import explained_write_errors, make_folder, write_text
from nsd_prep.core.errors import MissingFilesError, ParameterError
from nsd_prep.core.folders import MIRROR, user_cache, visible

#: What a cache folder holds, and what for.
CONTENTS: Final = {
    "responses": "responses of each region in each session, with their records and lists of "
    "voxels, and files of single trials that open_nsd and exports read",
    "records": "results of finished steps, which a later run with the same inputs takes from here",
    MIRROR: "copies of small files of a remote dataset",
}
# filelock's ReadWriteLock is an SQLite database: without locks or links it raises no OSError.
#: Holds a lock file for each run that is using the cache.
_USERS: Final = "in-use"
#: Held by who is about to use the cache, and by who clears it.
_DOOR: Final = ".nsd-prep-cache.lock"

#: Marks a folder as a cache, in the form that backup programs know too.
TAG_FILE: Final = "CACHEDIR.TAG"
_TAG: Final = """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of nsd-prep: 'nsd-prep cache' shows its size and clears it.
"""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Mark a folder as a cache of this library, and keep it from being cleared meanwhile.

    Other runs may use it too.

    Raises
    ------
    OutputError
        It cannot be written.
    ParameterError
        It holds other files, which could be taken for the cache's when that is cleared.
    """
    with explained_write_errors(folder):
        make_folder(folder)
        require_cache(folder)
        with FileLock(folder / _DOOR):
            if not (folder / TAG_FILE).exists():
                write_text(folder / TAG_FILE, _TAG)
            (folder / _USERS).mkdir(exist_ok=True)
            user = FileLock(folder / _USERS / f"{uuid4().hex}.lock")
            _has_users(folder)
            user.acquire()
    try:
        yield
    finally:
        user.release()
        Path(user.lock_file).unlink(missing_ok=True)


@contextmanager
def in_use_by(root: str | Path) -> Iterator[None]:
    """Mark the user's own cache as in use where a root is an address; nothing else is kept."""
    with in_use(user_cache()) if "://" in str(root) else nullcontext():
        yield


def cache_sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the numbers of files and of bytes of each part of `CONTENTS` that a cache has."""
    sizes = {}
    for part in CONTENTS:
        files = [path for path in (cache_folder(folder) / part).rglob("*") if path.is_file()]
        if files:
            sizes[part] = (len(files), sum(path.stat().st_size for path in files))
    return sizes


def clear_cache(folder: Path) -> None:
    """Remove all that a cache holds; what else lies in its folder stays.

    Raises
    ------
    MissingFilesError
        As `cache_folder`.
    ParameterError
        It is a link, which is not followed, or a run is using it.
    """
    cache = cache_folder(folder)
    if cache.is_symlink():
        raise ParameterError(f"{cache} is a link: give the folder that it leads to.")
    with FileLock(cache / _DOOR):
        if _has_users(cache):
            raise ParameterError(
                f"A run is using the cache {cache}: clear it when the run has ended."
            )
        for part in (*CONTENTS, _USERS):
            shutil.rmtree(cache / part, ignore_errors=True)


def require_cache(folder: Path) -> None:
    """Raise a ParameterError where a folder is not a cache, and holds what may be somebody's."""
    if (folder / TAG_FILE).exists():
        return
    # What another run that begins, or one that was killed at its beginning, has made.
    own = {MIRROR, _USERS, TAG_FILE}
    others = [path.name for path in visible(folder) if path.name not in own]
    if others and not (folder / TAG_FILE).exists():
        raise ParameterError(
            f"{folder} cannot be a cache: expected a new or empty folder, found {min(others)!r} in "
            "it; give another cache_dir=."
        )


def _has_users(cache: Path) -> bool:
    """Return whether a run uses a cache, and remove what killed runs left; behind the door."""
    is_used = False
    for path in (cache / _USERS).glob("*.lock"):
        try:
            FileLock(path, timeout=0).acquire().lock.release()
            path.unlink(missing_ok=True)
        except Timeout:
            is_used = True
    return is_used


def cache_folder(folder: Path) -> Path:
    """Return the cache folder, marked by `in_use`, that a path means: itself, or ``cache`` in it.

    Raises
    ------
    MissingFilesError
        There is none.
    """
    for candidate in (folder, folder / "cache"):
        tag = candidate / TAG_FILE
        if tag.is_file() and tag.read_text(encoding="utf-8", errors="replace") == _TAG:
            return candidate
    raise MissingFilesError(
        f"There is no cache in {folder}: give the folder of cache_dir=, or an output folder."
    )
