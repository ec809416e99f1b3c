"""A step of a run, and what carries steps out: its function, or something around it."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast

from threadpoolctl import threadpool_limits

from nsd_prep.core.atomic import write_text
from nsd_prep.core.content import key_of_call
from nsd_prep.core.digests import read_whole
from nsd_prep.core.processes import Caller, call_here, worker_processes
from nsd_prep.core.records import Folder, StepOutput

_logger: Final = logging.getLogger(__name__)

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
        Whether its result, which is JSON-able and names files by their digest, may stand for
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
    """What the sessions of a run are extracted on.

    Attributes
    ----------
    are_threads : bool
        Whether they are threads of this process, which share what it has fetched.
    """

    are_threads: bool

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

    def workers(self, *, in_processes: bool = False) -> AbstractContextManager[Workers]:
        """Start what sessions are extracted on, processes of their own if these are worth it."""


class InThreads:
    """Carries out the steps of a run by calling their functions, some in threads.

    Parameters
    ----------
    n_workers : int
        How many sessions are extracted at once.
    records : Path, optional
        Folder in which the results of cached steps are kept, and used where the files that they
        name are whole.
    refresh : bool
        Call every function, whatever is kept.
    """

    def __init__(
        self, n_workers: int = 1, records: Path | None = None, *, refresh: bool = False
    ) -> None:
        self._n_workers, self._records, self._refresh = n_workers, records, refresh

    def call(
        self,
        step: Step[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Call the function, or return what is kept of a call with the same content."""
        function = step.load()
        if self._records is None or not step.is_cached:
            return function(*args, **kwargs)
        call = inspect.signature(function).bind(*args, **kwargs)
        call.apply_defaults()
        record = self._records / f"{key_of_call(step.name, step.version, call.arguments)}.json"
        earlier = None if self._refresh else _read_record(record)
        if earlier is not None and is_whole(step, earlier, (*args, *kwargs.values())):
            return cast(_Result, earlier)
        result = function(*args, **kwargs)
        if isinstance(result, StepOutput):
            write_text(record, result.model_dump_json())
        return result

    def map(self, step: Step[..., Any], calls: Sequence[Arguments]) -> list[Outcome]:
        """Call the function several times, two at once."""
        # BLAS with threads of its own in each of these would make them all wait for each other.
        with threadpool_limits(1, "blas"), _threads(2) as threads:
            futures = [threads.submit(step.load(), *arguments) for arguments in calls]
        return [future.result for future in futures]

    @contextmanager
    def workers(self, *, in_processes: bool = False) -> Iterator[Workers]:
        """Start the threads, and a process for each if these are worth it."""
        with (
            callers(self._n_workers, in_processes=in_processes) as call,
            _threads(self._n_workers) as threads,
        ):
            yield _ThreadWorkers(threads, call)


class _ThreadWorkers:
    def __init__(self, threads: ThreadPoolExecutor, call: Caller) -> None:
        self._threads, self._call = threads, call
        self.are_threads = call is call_here

    def sessions_at_once(self, n_sessions: int) -> int:  # noqa: ARG002
        return 1

    def map(
        self, step: Step[..., Any], calls: Sequence[Arguments]
    ) -> Iterator[tuple[int, Outcome]]:
        function = called_by(self._call, step).load()
        futures: dict[Future[Any], int] = {
            self._threads.submit(function, *arguments): position
            for position, arguments in enumerate(calls)
        }
        for future in as_completed(futures):
            yield futures[future], future.result


def callers(number: int, *, in_processes: bool) -> AbstractContextManager[Caller]:
    """Start what so many threads call functions by: processes of their own, or themselves."""
    if in_processes and number > 1:  # one thread has nobody to wait for
        return worker_processes(number, keep_memory=True)
    return nullcontext(call_here)


def called_by(call: Caller, step: Step[_Parameters, _Result]) -> Step[_Parameters, _Result]:
    """Return a step whose function is called by what `callers` started."""
    function = step.load()

    @functools.wraps(function)
    def called(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        return call(functools.partial(function, **kwargs), *args).result()

    return replace(step, function=called)


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


def _read_record(path: Path) -> StepOutput | None:
    try:
        return StepOutput.model_validate_json(read_whole(path))
    except (OSError, ValueError):  # none, or one that is not sound
        return None


def is_whole(step: Step[..., Any], result: Any, arguments: Arguments) -> bool:
    """Return whether the files that a cached result names are whole.

    The result, or each of a list, has ``files``: digests by name in the folder that is among the
    arguments.
    """
    folders = [value for value in arguments if isinstance(value, Folder)]
    records = result if isinstance(result, list) else [result]
    whole = all(folder.holds(record.files) for folder in folders for record in records)
    names = [name for record in records for name in record.files]
    # Where none is there, the result is that of another folder: nothing was lost.
    if not whole and any((folder.path / name).exists() for folder in folders for name in names):
        _logger.warning(
            "Files of %s are missing, have changed or come from another run: writing them again.",
            step.name,
        )
    return whole
