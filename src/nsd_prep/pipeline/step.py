"""A step of a run, and what carries steps out: its function, or something around it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from threadpoolctl import threadpool_limits

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

#: Returns what a step returned, or raises what it raised.
Outcome = Callable[[], Any]
#: The arguments of one call of a step, in the order of its parameters.
Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Step(Generic[_Parameters, _Result]):
    """A function of a run, under its name.

    Attributes
    ----------
    name : str
        What it is called where its runs are shown, and in the keys of its cached results.
    function : callable or str
        What does it; "module:function" where that takes long to import and not every run needs it.
    run_name : str or callable, optional
        Name of one run of it: a template of its arguments, or a function of ``parameters``.
    version : int
        Part of the keys: raise it when the same arguments give another result.
    is_cached : bool
        Whether its result, which is JSON-able and names files by their SHA-256, may stand for
        another call with the same content.
    """

    name: str
    function: Callable[_Parameters, _Result] | str
    run_name: str | Callable[..., str] | None = None
    version: int = 1
    is_cached: bool = True

    def load(self) -> Callable[_Parameters, _Result]:
        """Return the function."""
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.partition(":")
        function: Callable[_Parameters, _Result] = getattr(import_module(module), name)
        return function


class Workers(Protocol):
    """What the sessions of a run are extracted on."""

    def sessions_at_once(self, n_sessions: int) -> int:
        """Return how many sessions of a subject one call should extract, of so many in all."""

    def map(
        self, step: Step[..., Any], calls: Sequence[Arguments]
    ) -> Iterator[tuple[int, Outcome]]:
        """Call a step several times, and give the position and outcome of each call as it ends."""


class Execution(Protocol):
    """What carries out the steps of a run."""

    def call(
        self,
        step: Step[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Call a step, and return what it returns."""

    def map(self, step: Step[..., Any], calls: Sequence[Arguments]) -> list[Outcome]:
        """Call a step several times, and return the outcomes in the order of the calls."""

    def workers(self) -> AbstractContextManager[Workers]:
        """Start what sessions are extracted on."""


class InThreads:
    """Carries out the steps of a run by calling their functions, some in threads.

    Parameters
    ----------
    n_workers : int
        How many sessions are extracted at once.
    """

    def __init__(self, n_workers: int = 1) -> None:
        self._n_workers = n_workers

    def call(
        self,
        step: Step[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Call the function."""
        return step.load()(*args, **kwargs)

    def map(self, step: Step[..., Any], calls: Sequence[Arguments]) -> list[Outcome]:
        """Call the function several times, two at once."""
        # BLAS with threads of its own in each of these would make them all wait for each other.
        with threadpool_limits(1, "blas"), _threads(2) as threads:
            futures = [threads.submit(step.load(), *arguments) for arguments in calls]
        return [future.result for future in futures]

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        """Start the threads."""
        with _threads(self._n_workers) as threads:
            yield _ThreadWorkers(threads)


class _ThreadWorkers:
    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def sessions_at_once(self, n_sessions: int) -> int:  # noqa: ARG002
        return 1

    def map(
        self, step: Step[..., Any], calls: Sequence[Arguments]
    ) -> Iterator[tuple[int, Outcome]]:
        futures: dict[Future[Any], int] = {
            self._threads.submit(step.load(), *arguments): position
            for position, arguments in enumerate(calls)
        }
        for future in as_completed(futures):
            yield futures[future], future.result


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Start threads; where the block is left early, as by Ctrl-C, they finish what they are at."""
    threads = ThreadPoolExecutor(number)
    try:
        yield threads
    except BaseException:
        threads.shutdown(cancel_futures=True)
        raise
    threads.shutdown()
