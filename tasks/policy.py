"""When a task is retried, and when a cached result stands for it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from prefect import Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.tasks import exponential_backoff
from pydantic import BaseModel

from nsd_prep import __version__
from nsd_prep.core.digests import digest_of_array, digest_of_table, sha256_of_json
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
            "%s: %s; retrying in some seconds (%d of %d).", run.name, error, run.run_count, RETRIES
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
        digest = sha256_of_json([__version__, self.version, content(inputs)])
        key = f"{task_ctx.task.name}-{digest}"
        storage = task_ctx.result_store.result_storage
        if isinstance(storage, LocalFileSystem):
            record = Path(storage.basepath or "") / key
            if not is_trusted(record):
                record.unlink(missing_ok=True)
        return key


def content(value: Any) -> Any:
    """Return what a value adds to a cache key, as JSON-able values.

    Of a record its ``digest``; of an array or a table theirs; of a dataclass its fields, but for
    those that take no part in comparisons.

    Raises
    ------
    TypeError
        The value is of a kind whose content is not known, such as a path.
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "digest"):
        return value.digest
    if isinstance(value, np.ndarray):
        return digest_of_array(value)
    if isinstance(value, pd.DataFrame):
        return digest_of_table(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.compare]
        return [[name, content(getattr(value, name))] for name in names]
    if isinstance(value, Mapping):
        return [[str(key), content(item)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [content(item) for item in value]
    raise TypeError(
        f"A {type(value).__name__} cannot be part of a cache key: give a record with a digest."
    )


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
