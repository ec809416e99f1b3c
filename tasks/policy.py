"""When a task is tried again, and where and under which key its result is cached."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from prefect import Task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff

from nsd_prep.errors import NSDPrepError
from nsd_prep.files import has_sha256

_logger = logging.getLogger(__name__)

RETRIES: Final = 3


def may_pass(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell whether a second try may mend a failure: a fault of the disk or the network may.

    Parameters
    ----------
    _task : Task
        Not looked at.
    run : TaskRun
        For the log line.
    state : State
        The failed state.

    Returns
    -------
    bool
        True for an OSError that the library did not judge; it never raises.
    """
    try:
        error = state.result(raise_on_failure=False)
    except Exception as raised:  # a condition that raises would end the retries
        error = raised
    if isinstance(error, NSDPrepError) or not isinstance(error, OSError):
        return False
    if run.run_count <= RETRIES:
        _logger.warning(
            "%s: %s; trying again in some seconds (%d of %d).",
            run.name,
            error,
            run.run_count,
            RETRIES,
        )
    return True


#: Options of a task that reads files: tried again after about 2, 4 and 8 seconds.
TRY_AGAIN: Final[dict[str, Any]] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
}


def cached_by(key: Callable[..., str]) -> dict[str, Any]:
    """Return the options of a task whose result is cached under a key.

    Parameters
    ----------
    key : callable
        Takes the task's arguments by name and returns the digest of all that determines the
        result.

    Returns
    -------
    dict
        Options for ``@task``. The result is JSON; its folder is given by `stored_in`.
    """

    def named_key(context: TaskRunContext, arguments: dict[str, Any]) -> str:
        return f"{context.task.name}-{key(**arguments)}"

    return {
        "cache_policy": CacheKeyFnPolicy(cache_key_fn=named_key),
        "result_serializer": "json",
        "persist_result": True,
    }


def call_cached(
    cached_task: Task[..., dict[str, Any]], cache_dir: Path, refresh: bool, **arguments: Any
) -> dict[str, Any]:
    """Call a cached task that writes files, and again where the files of its record are not whole.

    Parameters
    ----------
    cached_task : Task
        Its result holds ``files``, the SHA-256 of each file that it wrote by its path.
    cache_dir : Path
        Where the result is cached.
    refresh : bool
        Call it whatever the cache holds.
    **arguments
        Of the task.

    Returns
    -------
    dict
        The task's result.
    """
    here = cached_task.with_options(**stored_in(cache_dir))
    anew = here.with_options(refresh_cache=True)
    if refresh:
        return anew(**arguments)
    result = here(**arguments)
    damaged = [path for path, sha256 in result["files"].items() if not has_sha256(path, sha256)]
    if not damaged:
        return result
    _logger.warning("%s is gone or altered: making it again.", ", ".join(damaged))
    return anew(**arguments)


def stored_in(cache_dir: Path) -> dict[str, Any]:
    """Return the options that put a task's cached result below a cache folder."""
    return {"result_storage": cache_dir / "records"}
