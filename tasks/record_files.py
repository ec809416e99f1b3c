"""Records of tasks as files: read only where they hold what this library writes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from prefect.serializers import JSONSerializer

from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError
from nsd_prep.core.records import StepOutput
from nsd_prep.extraction.sessions import SessionRecord

#: What a step returns.
_CLASSES: Final = (StepOutput, SessionRecord)


def is_trusted(path: Path) -> bool:
    """Return whether a file is a record that can be read without running what it names.

    Prefect reads a record by the serializer that the record itself names, pickle among them, and
    imports the classes that its JSON names; a cache may lie where others write.
    """
    try:
        record = json.loads(read_whole(path), object_pairs_hook=_once)
        if record["metadata"]["serializer"] != JSONSerializer().model_dump():
            return False
        json.loads(record["result"], object_pairs_hook=_of_this_library)
    except (OSError, InputFileError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, each of whose names stands once: parsers differ in which counts."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name appears twice")
    return value


def _of_this_library(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = _once(pairs)
    known = {f"{kind.__module__}.{kind.__qualname__}" for kind in _CLASSES}
    if "__exc_type__" in value or value.get("__class__", next(iter(known))) not in known:
        raise ValueError("it names a class of another library")
    return value
