"""One run at a time in an output folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nsd_prep.core.atomic import explained_write_errors, remove_stale_partials
from nsd_prep.core.errors import ParameterError


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, made where it is missing, until the block ends.

    The operating system lets go of it when a process dies.

    Raises
    ------
    ParameterError
        Another run is writing into it.
    OutputError
        It cannot be written.
    """
    with explained_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".nsd-prep.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ParameterError(
                f"Another run is writing into {folder}: wait until it ends, or choose another "
                "output_dir=."
            ) from error
    try:
        remove_stale_partials(folder)
        yield
    finally:
        lock.release()
