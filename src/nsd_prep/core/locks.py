"""One process at a time that writes into a folder, and no folder where nothing was written."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from nsd_prep.core.atomic import explained_write_errors, make_folder, remove_stale_partials
from nsd_prep.core.errors import ParameterError

#: The file in a folder that is locked; it stays when the lock is released.
LOCK: Final = ".nsd-prep.lock"


@contextmanager
def only_one_in(folder: Path, sentence: str) -> Iterator[None]:
    """Keep others out of a folder, made where it is missing, until the block ends.

    The operating system lets go of it when a process dies.

    Parameters
    ----------
    folder : Path
        Runs and exports lock the same file in it.
    sentence : str
        What is said where another process is writing into it.

    Raises
    ------
    ParameterError
        Another process is writing into it.
    OutputError
        It cannot be written.
    """
    with explained_write_errors(folder):
        make_folder(folder)
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ParameterError(sentence) from error
    try:
        remove_stale_partials(folder)
        yield
    finally:
        lock.release()


@contextmanager
def new_folders_removed(*folders: Path) -> Iterator[None]:
    """Remove folders that were not there and hold nothing at the end, and those above them.

    The lock and empty folders are nothing. Enter it before `only_one_in`.
    """
    new = {path for folder in folders for path in (folder, *folder.parents) if not path.exists()}
    try:
        yield
    finally:
        with suppress(OSError):  # no error hides that of the block
            for path in sorted(new, key=lambda path: len(path.parts), reverse=True):
                _remove_where_empty(path)


def _remove_where_empty(folder: Path) -> None:
    inside = list(folder.rglob("*"))
    below = [path for path in inside if path.is_dir() and not path.is_symlink()]
    if not folder.is_dir() or not set(inside) - set(below) <= {folder / LOCK}:
        return
    if folder / LOCK in inside:
        with suppress(Timeout), FileLock(folder / LOCK, timeout=0):  # nobody else's by now
            (folder / LOCK).unlink()
    for path in (*sorted(below, reverse=True), folder):
        path.rmdir()
