"""One process at a time that writes into a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
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
