"""What a cached result stands for: the content of what a step was given, and nothing else."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsd_prep.core.content import content, key_of_call
from nsd_prep.core.records import FileRecord, Folder, StepOutput


@dataclass(frozen=True, eq=False)
class Record:
    """Something that a step may be given."""

    values: Any
    place: Path = field(default=Path("here"), compare=False)


def key(version: int = 1, **inputs: Any) -> str:
    return key_of_call("a-step", version, inputs)


VALUES: dict[str, tuple[Any, Any]] = {
    "array": (np.arange(3), np.arange(3)[::-1]),
    "dtype": (np.arange(3), np.arange(3.0)),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "table": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
    "column": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]})),
    "mapping of arrays": ({1: np.arange(3)}, {2: np.arange(3)}),
    "sequence": ((1, "x", None), (1, "x", True)),
    "record": (
        FileRecord(path="a", bytes=1, blake3="b"),
        FileRecord(path="a", bytes=1, blake3="c"),
    ),
    "files": (StepOutput(files={"a": "b"}), StepOutput(files={"a": "c"})),
}


@pytest.mark.parametrize("kind", VALUES)
def test_another_value_is_another_key_wherever_it_stands(kind: str) -> None:
    one, other = VALUES[kind]
    assert key(value=one) == key(value=one) != key(value=other)
    assert key(value=Record(one)) == key(value=Record(one)) != key(value=Record(other))


def test_where_something_lies_is_no_part_of_a_key() -> None:
    assert key(value=Record(1, Path("a"))) == key(value=Record(1, Path("b")))
    assert key(folder=Folder(path=Path("a"))) == key(folder=Folder(path=Path("b")))
    records = [FileRecord(path=path, bytes=1, blake3="b") for path in "ab"]
    assert key(value=records[0]) == key(value=records[1])


def test_another_version_is_another_key() -> None:
    assert key(1, value=1) != key(2, value=1)


def test_another_step_is_another_key() -> None:
    assert key_of_call("a-step", 1, {"value": 1}) != key_of_call("another", 1, {"value": 1})


def test_a_value_whose_content_is_not_known_is_refused() -> None:
    for value in (Path("a"), Record(Path("a")), object(), {1: {2: Path("a")}}):
        with pytest.raises(TypeError, match="cannot be part of a cache key"):
            content(value)
