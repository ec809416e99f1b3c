"""What a value stands for in the key of a cached result: its content, not where it lies."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from nsd_prep import __version__
from nsd_prep.core.digests import digest_of_array, digest_of_json, digest_of_table


def key_of_call(name: str, version: int, inputs: Mapping[str, Any]) -> str:
    """Return the key of a step's result: of its name and version, the software's, and `content`."""
    return f"{name}-{digest_of_json([__version__, version, content(inputs)])}"


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
