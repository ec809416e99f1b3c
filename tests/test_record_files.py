"""Records of tasks that somebody else wrote run nothing: a cache may lie on a shared disk."""

import json
import os
import pickle
import sys
from base64 import encodebytes
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.results import ResultRecord
from prefect.serializers import CompressedSerializer, JSONSerializer, PickleSerializer

from nsd_prep.core.digests import sha256_of_json
from nsd_prep.core.records import StepOutput
from nsd_prep.flows.command import main
from nsd_prep.tasks.record_files import is_trusted


class Runs:
    """Something that runs code when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.victim),)


def record(result: object, serializer: object = None) -> dict[str, object]:
    """Return a record as Prefect writes it."""
    written = ResultRecord(
        result=result, metadata={"serializer": serializer or JSONSerializer(), "storage_key": "x"}
    )
    return json.loads(written.serialize())


def changed_serializer(**changes: object) -> dict[str, object]:
    written = record([StepOutput()])
    written["metadata"]["serializer"] |= changes
    return written


def text_of(value: object) -> dict[str, object]:
    return record(None) | {"result": json.dumps(value)}


def as_file(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    "result", [StepOutput(files={"V1.nc": "0" * 64}), [StepOutput(), StepOutput()], None]
)
def test_what_the_library_writes_is_read(tmp_path: Path, result: object) -> None:
    assert is_trusted(as_file(tmp_path / "record", record(result)))


@pytest.mark.parametrize(
    "written",
    [
        lambda: record(1, PickleSerializer()),
        lambda: record(1, CompressedSerializer(serializer=PickleSerializer())),
        lambda: changed_serializer(type="pickle"),
        lambda: changed_serializer(jsonlib="antigravity"),
        lambda: changed_serializer(object_decoder="os.system"),
        lambda: changed_serializer(loads_kwargs={"object_hook": "os.system"}),
        lambda: text_of({"__class__": "antigravity.fly", "data": {}}),
        lambda: text_of([{"files": [{"__class__": "subprocess.Popen", "data": {}}]}]),
        lambda: text_of({"__exc_type__": "ValueError", "message": ""}),
        lambda: text_of({"__class__": ["nsd_prep.core.records.StepOutput"], "data": {}}),
        lambda: '{"metadata": {"serializer": {}}, "metadata": ' + json.dumps(record(1))[13:],
        lambda: record(None) | {"result": "{" * 10_000},
        lambda: record(None) | {"result": 1},
        lambda: [],
        lambda: "",
        lambda: "null",
        lambda: "\ufeff{}",
    ],
)
def test_what_names_something_else_is_not(tmp_path: Path, written: Callable[[], object]) -> None:
    assert not is_trusted(as_file(tmp_path / "record", written()))
    assert "antigravity" not in sys.modules


def test_a_pipe_or_nothing_is_no_record(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_trusted(tmp_path / "pipe")
    assert not is_trusted(tmp_path / "nothing")
    assert not is_trusted(tmp_path)


@pytest.mark.slow
def test_a_run_drops_the_records_that_somebody_planted(tiny_nsd: Path, tmp_path: Path) -> None:
    words = ["run", "--nsd-root", str(tiny_nsd), "--output-dir", str(tmp_path / "out")]
    words += ["--regions", "V1", "--no-report", "--no-brainscore"]
    assert main(words) == 0
    assembly = (tmp_path / "out" / "Allen2022.V1.nc").read_bytes()
    records = sorted((tmp_path / "out" / "cache" / "records").iterdir())
    victim, part = tmp_path / "victim", tmp_path / "part.npy"
    for number, path in enumerate(records):
        sound = json.loads(path.read_text())
        result = json.loads(sound["result"])
        if path.name.startswith("extract") and number % 2:  # sealed again, and read elsewhere
            (session,) = (one["data"] for one in result)
            (one,) = session["parts"].values()
            part.write_bytes((tmp_path / "out/cache/responses" / one["file"]).read_bytes())
            one["file"] = f"../../../{part.name}"
            for sealed in (one, session):
                del sealed["seal"]
                sealed["seal"] = sha256_of_json(sealed)
            path.write_text(json.dumps(sound | {"result": json.dumps(result)}))
        else:
            sound["metadata"]["serializer"] = PickleSerializer().model_dump()
            sound["result"] = encodebytes(pickle.dumps(Runs(victim))).decode()
            path.write_text(json.dumps(sound))
    (tmp_path / "out" / "Allen2022.V1.nc").unlink()  # or nothing would have changed
    assert main(words) == 0
    assert not victim.exists()
    assert (tmp_path / "out" / "Allen2022.V1.nc").read_bytes() == assembly
    assert [path for path in records if not is_trusted(path)] == []
    assert not any(part.name in path.read_text() for path in records)
