"""Work on several things at once, in threads of this process."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

from threadpoolctl import threadpool_limits

#: Each may hold a subject's responses in a region, 20 MB in NSD's largest.
_AT_ONCE: Final = 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def each_in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Call a function with each of some items, two at once.

    Parameters
    ----------
    function : callable
        Takes an item. It must not touch netCDF files, which one thread handles at a time.
    items : iterable
        Its arguments.

    Returns
    -------
    list
        What it returned, in the order of the items.
    """
    # BLAS with threads of its own in each of these would make them all wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(function, items))


@contextmanager
def beside(function: Callable[[], _Result]) -> Iterator["Future[_Result]"]:
    """Call a function in a thread while a block runs.

    Parameters
    ----------
    function : callable
        It must not touch netCDF files where the block does.

    Yields
    ------
    Future
        Its result; the block's end waits for it.
    """
    # One thread of BLAS for each, as above; and the same sums whatever the block does meanwhile.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(1) as thread:
        yield thread.submit(function)
