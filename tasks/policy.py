"""When a task is retried, and when a cached result stands for it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from prefect import Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.tasks import exponential_backoff
from pydantic import BaseModel

from nsd_prep import __version__
from nsd_prep.core.digests import digest_of_array, sha256_of_json
from nsd_prep.core.errors import NSDPrepError
from nsd_prep.core.records import Folder
from nsd_prep.tasks.record_files import is_trusted

_logger = logging.getLogger(__name__)

RETRIES: Final = 3
#: What stays as it is: a name that is wrong, or of something else.
_LASTING: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def retry_may_help(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether a failure may be a passing fault of the disk or the network.

    It is for an OSError that the library did not judge; this never raises.
    """
    try:
        error = state.result(raise_on_failure=False)
    except Exception as raised:  # a condition that raises would end the retries
        error = raised
    if isinstance(error, (NSDPrepError, *_LASTING)) or not isinstance(error, OSError):
        return False
    if run.run_count <= RETRIES:
        _logger.warning(
            "%s: %s; retrying in some seconds (%d of %d).", run.name, error, run.run_count, RETRIES
        )
    return True


@dataclass
class Content(CachePolicy):
    """A result stands for the same step on the same content, while its files are whole.

    The key is the digest of the software's version and of the content of all arguments: of a
    `Folder` nothing, of a record its ``digest``, of anything else its value. A result has
    ``files``, SHA-256 by name in the folder that is among the arguments; where one of them is gone
    or altered, or the flow's ``refresh`` is set, the result is dropped, and the step runs.

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
        flow_parameters: dict[str, Any],
        **kwargs: Any,  # noqa: ARG002 (Prefect may give more)
    ) -> str:
        """Return the key of a call, after dropping a result that must not be used."""
        digest = sha256_of_json([__version__, self.version, content(inputs)])
        key = f"{task_ctx.task.name}-{digest}"
        refresh = bool(flow_parameters.get("refresh"))
        if refresh:
            for request in inputs.get("requests", ()):
                request.invalidate()
        if refresh or not _is_whole(task_ctx.result_store, key, inputs):
            _drop(task_ctx.result_store, key)
        return key


def content(value: Any) -> Any:
    """Return what a value adds to a cache key, as JSON-able values.

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
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return content(asdict(value))
    if isinstance(value, Mapping):
        return [[str(key), content(item)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [content(item) for item in value]
    raise TypeError(
        f"A {type(value).__name__} cannot be part of a cache key: give a record with a digest."
    )


def _is_whole(store: ResultStore, key: str, inputs: Mapping[str, Any]) -> bool:
    path = _file(store, key)
    if path is None or not is_trusted(path):
        return False
    try:
        result = store.read(key).result
    except Exception:  # no record, or one that is not sound
        return False
    folders = [value for value in inputs.values() if isinstance(value, Folder)]
    records = result if isinstance(result, list) else [result]
    requests = inputs.get("requests")
    if requests is not None and not (
        len(requests) == len(records)
        and all(request.accepts(one) for request, one in zip(requests, records, strict=True))
    ):
        return False
    whole = all(folder.holds(record.files) for folder in folders for record in records)
    names = [name for record in records for name in record.files]
    # Where none is there, the result is that of another folder: nothing was lost.
    if not whole and any((folder.path / name).exists() for folder in folders for name in names):
        _logger.warning(
            "Files of %s are gone or altered: making them again.", key.rsplit("-", 1)[0]
        )
    return whole


def _drop(store: ResultStore, key: str) -> None:
    if path := _file(store, key):
        path.unlink(missing_ok=True)


def _file(store: ResultStore, key: str) -> Path | None:
    storage = store.result_storage
    return Path(storage.basepath or "") / key if isinstance(storage, LocalFileSystem) else None


@contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Keep the results of a flow's tasks in a folder."""
    context = FlowRunContext.get()
    assert context is not None
    storage = LocalFileSystem(basepath=str(folder))
    store = context.result_store.model_copy(update={"result_storage": storage})
    with context.model_copy(update={"result_store": store}):
        yield


#: Options of a task that reads files: tried again after about 2, 4 and 8 seconds.
RETRY: Final[dict[str, Any]] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retry_may_help,
}
#: Options of a task whose result lies in memory: it loads what it is asked for.
LOADED: Final[dict[str, Any]] = RETRY | {"cache_policy": NO_CACHE, "persist_result": False}


def cached(version: int = 1) -> dict[str, Any]:
    """Return the options of a task whose result is cached by the content of its arguments."""
    return RETRY | {
        "cache_policy": Content(version=version),
        "result_serializer": "json",
        "persist_result": True,
    }
