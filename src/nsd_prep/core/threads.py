"""Work on several things at once: threads of this process, and processes that end with it."""

import ctypes
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Final, TypeVar

from threadpoolctl import threadpool_limits

#: Each may hold a subject's responses in a region, 20 MB in NSD's largest.
_AT_ONCE: Final = 2

#: glibc's number of the setting "at most so many arenas", and the number it is set to.
_M_ARENA_MAX, _ARENAS = -8, 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def each_in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Call a function with each of some items, two at once, and return its results in order."""
    # BLAS with threads of its own in each of these would make them all wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(function, items))


def end_with_parent() -> None:
    """Let a worker process end when the process that started it is gone, however it ended.

    A run that is killed cannot end its workers, who would wait for work without end. Called when a
    worker starts; in the process of the run itself it does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


@cache
def _first_processes() -> dict[str, int]:
    """Return which process used a library first; those forked from it have the same dictionary."""
    return {}


def require_not_forked(library: str, read: object) -> None:
    """Raise RuntimeError in a process forked from one that used a library with its own threads.

    These threads are missing in a forked process: TensorStore would abort, and obstore would wait
    without end. Called before each use.

    Parameters
    ----------
    library : str
        Its name.
    read : Path or str
        What is read with it.
    """
    if _first_processes().setdefault(library, os.getpid()) != os.getpid():
        raise RuntimeError(
            f"{read} is read with {library}, which does not work in a process forked from one that "
            "has used it: start this process by spawn or forkserver (for a DataLoader, "
            'multiprocessing_context="spawn"), or start it before anything is read with '
            f"{library}."
        )


def share_freed_memory() -> None:
    """Let the threads of this process use memory that others freed.

    glibc gives threads arenas of their own, up to eight a core, and what was freed in one is of no
    use in another: with Prefect's threads a third of a run's memory lay there unused. Elsewhere,
    and for arenas that are there already, it changes nothing.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def return_freed_memory() -> None:
    """Give the system back what this process has freed, which glibc keeps; elsewhere do nothing."""
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
