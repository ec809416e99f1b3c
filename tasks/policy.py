"""When a task is retried, and when a cached result stands for it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prefect import Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.tasks import exponential_backoff

from nsd_prep.core.content import key_of_call
from nsd_prep.core.errors import NSDPrepError, RemoteFaultError
from nsd_prep.tasks.record_files import is_trusted

_logger = logging.getLogger(__name__)

RETRIES: Final = 3
#: What stays as it is: a name that is wrong, or of something else.
_LASTING: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def retry_may_help(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether a failure may be a passing fault of the disk.

    It is for an OSError that the library did not judge; this never raises. Requests to a server
    were tried again where they are made, and are not here.
    """
    try:
        error = state.result(raise_on_failure=False)
    except Exception as raised:  # a condition that raises would end the retries
        error = raised
    if isinstance(error, (NSDPrepError, RemoteFaultError, *_LASTING)) or not isinstance(
        error, OSError
    ):
        return False
    if run.run_count <= RETRIES:
        _logger.warning(
            "%s: %s; retrying in a few seconds (%d of %d).", run.name, error, run.run_count, RETRIES
        )
    return True


@dataclass
class Content(CachePolicy):
    """A result stands for the same step on the same content.

    The key is the digest of the software's version and of the `content` of all arguments. A record
    under it that is not of this library's making is removed before Prefect reads it.

    Attributes
    ----------
    version : int
        Of the step: raise it when the same arguments give another result.
    """

    version: int = 1

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002 (Prefect may give more)
    ) -> str:
        """Return the key of a call."""
        key = key_of_call(task_ctx.task.name, self.version, inputs)
        storage = task_ctx.result_store.result_storage
        if isinstance(storage, LocalFileSystem):
            record = Path(storage.basepath or "") / key
            if not is_trusted(record):
                record.unlink(missing_ok=True)
        return key


#: Options of every task: tried again after about 2, 4 and 8 seconds. What a task returns stays in
#: memory.
RETRY: Final[dict[str, Any]] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retry_may_help,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
#: Options of a task whose result is kept, beside its `Content` and where.
CACHED: Final[dict[str, Any]] = {"result_serializer": "json", "persist_result": True}
