"""The steps of a run as Prefect tasks: named, retried, cached by content, mapped."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import quote

from nsd_prep.core.processes import Caller, call_here
from nsd_prep.core.threads import each_in_threads
from nsd_prep.pipeline.run import Run
from nsd_prep.pipeline.step import (
    Arguments,
    Outcome,
    Step,
    Workers,
    called_by,
    callers,
    is_whole,
)
from nsd_prep.pipeline.step_table import EXTRACT_SESSIONS
from nsd_prep.tasks.policy import CACHED, RETRY, Content
from nsd_prep.tasks.runners import sessions_in_a_task, task_runner

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class InTasks:
    """Carries out the steps of a run as tasks of the flow that is running.

    A cached result is used where the files that it names are whole, and the run is not to refresh
    them.

    Parameters
    ----------
    run : Run
        Where results are kept, whether they are used, and what sessions are extracted on.

    Raises
    ------
    ParameterError
        As `nsd_prep.tasks.runners.task_runner`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._runner = task_runner(run.runner, run.workers, run.dask_address)

    def call(
        self,
        step: Step[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Run the task of a step, and return what the step returns."""
        # Prefect would look for results of other tasks through all that it is given.
        quoted = [quote(value) for value in args]
        named = {name: quote(value) for name, value in kwargs.items()}
        state: State[Any] = self.task(step)(*quoted, **named, return_state=True)
        result: _Result = state.result()
        if _is_cached(state) and not _is_whole(step, result, (*args, *kwargs.values())):
            result = self.task(step, refresh=True)(*quoted, **named)
        return result

    def map(self, step: Step[..., Any], calls: Sequence[Arguments]) -> list[Outcome]:
        """Run the task of a step several times, on the flow's own task runner."""
        task = self.task(step)
        futures = [task.submit(*map(quote, arguments)) for arguments in calls]
        return [future.result for future in futures]

    @contextmanager
    def workers(self, *, in_processes: bool = False) -> Iterator[Workers]:
        """Start the task runner, and a process for each of its threads if these are worth it."""
        in_processes = in_processes and self._run.runner == "threads"
        with (
            callers(self._run.workers, in_processes=in_processes) as call,
            self._runner as runner,
        ):
            yield _RunnerWorkers(self, runner, self._run, call)

    def task(self, step: Step[..., Any], *, refresh: bool = False) -> Any:
        """Return the task of a step; a `Task`, whose overloads take Any for a coroutine."""
        options = dict(RETRY)
        if step.is_cached:
            options |= CACHED
            options["cache_policy"] = Content(version=step.version)
            options["result_storage"] = self._run.cache_dir / "records"
            options["refresh_cache"] = refresh or self._run.refresh or None
        return Task(step.load(), name=step.name, task_run_name=step.run_name, **options)


class _RunnerWorkers:
    def __init__(self, tasks: InTasks, runner: TaskRunner[Any], run: Run, call: Caller) -> None:
        self._tasks, self._runner, self._run, self._call = tasks, runner, run, call
        self.are_threads = run.runner == "threads" and call is call_here

    def sessions_at_once(self, n_sessions: int) -> int:
        return sessions_in_a_task(n_sessions, self._run.runner, self._run.workers)

    def map(
        self, step: Step[..., Any], calls: Sequence[Arguments]
    ) -> Iterator[tuple[int, Outcome]]:
        cached = {}
        for position, future in self._submitted(step, dict(enumerate(calls)), refresh=False):
            if _is_cached(future.state):
                cached[position] = future
            else:
                yield position, future.result

        def look(position: int) -> bool:
            return _is_whole(step, cached[position].result(), calls[position])

        again = {}
        for position, whole in zip(cached, each_in_threads(look, cached), strict=True):
            if whole:
                yield position, cached[position].result
            else:
                again[position] = calls[position]
        for position, future in self._submitted(step, again, refresh=True):
            yield position, future.result

    def _submitted(
        self, step: Step[..., Any], calls: dict[int, Arguments], *, refresh: bool
    ) -> Iterator[tuple[int, PrefectFuture[Any]]]:
        if self._run.runner == "threads":
            step = called_by(self._call, step)
        task = self._tasks.task(step, refresh=refresh)
        names = list(inspect.signature(step.load()).parameters)

        def parameters(arguments: Arguments) -> dict[str, Any]:
            # Dask takes a quote, which is a tuple, for a collection to look through.
            quoted = arguments if self._run.runner == "dask" else map(quote, arguments)
            return dict(zip(names, quoted, strict=True))

        futures = {
            self._runner.submit(task, parameters(arguments)): position
            for position, arguments in calls.items()
        }
        for future in as_completed(list(futures)):
            future.wait()
            yield futures[future], future


def _is_cached(state: State[Any]) -> bool:
    return state.name == "Cached"


def _is_whole(step: Step[..., Any], result: Any, arguments: Arguments) -> bool:
    """Return `is_whole`; records of sessions are also those that the requests ask for."""
    if step.name == EXTRACT_SESSIONS.name:
        requests = arguments[0]
        if len(requests) != len(result) or not all(
            request.accepts(record) for request, record in zip(requests, result, strict=True)
        ):
            return False
    return is_whole(step, result, arguments)
