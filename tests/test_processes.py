"""Functions are called in a second process, and here where there is none."""

import importlib
import logging
import operator
import os
import signal
import subprocess
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
from living_workers import living_workers

from nsd_prep.core.processes import Caller, call_here, worker_processes


def test_results_come_from_another_process_in_their_order() -> None:
    with worker_processes() as call:
        processes = [call(os.getpid) for _ in range(3)]
        sums = [call(operator.add, np.arange(200_000), number) for number in range(3)]
        assert [int(one.result()[-1]) for one in sums] == [199_999, 200_000, 200_001]
        assert len({one.result() for one in processes}) == 1
        assert processes[0].result() != os.getpid()


FUNCTIONS = """
import logging, time
from pathlib import Path
from nsd_prep.core.atomic import replaced

def meet(place, own, other):
    (place / own).touch()
    while not (place / other).exists():
        time.sleep(0.01)
    return own

def warn(words):
    logging.getLogger("nsd_prep.words").warning("of %s", words)
    logging.getLogger("nsd_prep.words").info("nobody wants this")

class Odd(Exception):
    def __init__(self, first, second):
        super().__init__(first + second)

def fail():
    raise Odd("no", "where")

def write(path):
    with replaced(path) as partial:
        partial.write_bytes(b"half")
        time.sleep(60)
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module of functions that another process can import, too."""
    (tmp_path / "functions_elsewhere.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "functions_elsewhere", raising=False)
    return importlib.import_module("functions_elsewhere")


def test_of_several_all_work_at_once(functions: ModuleType, tmp_path: Path) -> None:
    with worker_processes(2) as call:
        first = call(functions.meet, tmp_path, "a", "b")
        second = call(functions.meet, tmp_path, "b", "a")
        assert (first.result(60), second.result(60)) == ("a", "b")


@pytest.mark.parametrize("keep_memory", [True, False])
def test_calls_outnumber_processes(keep_memory: bool) -> None:
    with worker_processes(2, keep_memory=keep_memory) as call:
        sums = [call(operator.add, number, 1) for number in range(50)]
        assert [one.result() for one in sums] == list(range(1, 51))


def test_what_is_logged_there_is_logged_here_for_the_one_who_called(
    functions: ModuleType,
) -> None:
    caller: ContextVar[str] = ContextVar("caller")
    heard: list[tuple[str, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append((caller.get("nobody"), record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("nsd_prep.words")
    logger.addHandler(handler)
    try:
        with worker_processes() as call:
            for name in ("one", "another"):
                caller.set(name)
                call(functions.warn, f"{name}'s").result()
    finally:
        logger.removeHandler(handler)
    assert heard == [("one", "of one's"), ("another", "of another's")]


def test_an_error_tells_where_it_arose() -> None:
    with worker_processes() as call, pytest.raises(FileNotFoundError) as raised:
        call(os.stat, "/nowhere at all").result()
    assert raised.value.filename == "/nowhere at all"
    assert "in _call" in raised.value.__notes__[0]


def test_an_error_that_cannot_be_sent_is_raised_all_the_same(functions: ModuleType) -> None:
    with worker_processes() as call:
        with pytest.raises(functions.Odd, match="nowhere"):
            call(functions.fail).result()
        assert call(operator.add, 1, 2).result() == 3


def test_a_result_that_cannot_be_sent_is_an_error_and_no_end() -> None:
    with worker_processes() as call:
        process = call(os.getpid).result()
        with pytest.raises(TypeError, match="pickle"):
            call(importlib.import_module, "json").result()
        assert call(os.getpid).result() == process


def test_what_it_writes_when_it_is_to_end_is_removed(functions: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "written"
    with worker_processes() as call:
        call(functions.write, folder / "part")
        while not folder.exists() or not list(folder.iterdir()):
            time.sleep(0.02)
    assert list(folder.iterdir()) == []


def test_here_it_is_this_process() -> None:
    assert call_here(os.getpid).result() == os.getpid()


@pytest.mark.parametrize("where", ["here", "there"])
def test_an_error_is_raised_where_the_result_is_taken(where: str) -> None:
    def ask(call: Caller) -> None:
        future = call(operator.truediv, 1, 0)
        assert call(operator.add, 1, 2).result() == 3
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            future.result()

    if where == "here":
        ask(call_here)
    else:
        with worker_processes() as call:
            ask(call)


def test_what_is_printed_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with worker_processes() as call:
        assert call(print, "some words").result() is None
        assert call(os.system, "echo other words").result() == 0
    assert "other words" in capfd.readouterr().err


def test_a_process_that_is_killed_is_replaced_by_this_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with worker_processes() as call:
        os.kill(call(os.getpid).result(), signal.SIGKILL)
        assert call(os.getpid).result() == os.getpid()
        assert call(operator.add, 1, 2).result() == 3
    (said,) = caplog.messages
    assert "A worker process ended before its time (status -9)" in said


def test_one_that_cannot_start_is_replaced_by_this_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with worker_processes(2) as call:
        assert [call(operator.add, 1, number).result() for number in range(4)] == [1, 2, 3, 4]
    assert all("could not start" in said for said in caplog.messages)
    assert len(caplog.messages) <= 2


def test_modules_of_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with worker_processes() as call:
        assert call(os.getpid).result() != os.getpid()


def test_none_starts_that_nobody_needs() -> None:
    with worker_processes(2) as call:
        assert living_workers() == []
        process = call(os.getpid).result()
        assert [child.pid for child in living_workers()] == [process]


def test_a_block_that_is_left_does_not_wait() -> None:
    def leave(call: Caller) -> None:
        call(time.sleep, 60)
        raise KeyboardInterrupt

    started, n_open = time.monotonic(), psutil.Process().num_fds()
    # With a name, since what closes pipes in passing would say what it could not write.
    with pytest.raises(KeyboardInterrupt) as interruption, worker_processes() as call:
        leave(call)
    assert time.monotonic() - started < 30
    assert psutil.Process().num_fds() == n_open, interruption


SCRIPT = """
import os, sys, time
from nsd_prep.core.processes import worker_processes

print("begun", flush=True)
with worker_processes() as call:
    print(call(os.getpid).result(), flush=True)
    call({function}, {argument})
    time.sleep(60 * {waits})
"""


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(function="abs", argument=1, waits=0))
    words = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split().count("begun") == 1


@pytest.mark.slow
def test_it_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    script = SCRIPT.format(function="time.sleep", argument=1, waits=1)
    (tmp_path / "script.py").write_text(script)
    words = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        other = int(process.stdout.readline())
        process.kill()
        process.wait()
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            os.kill(other, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{other}/stat")
        # Ended, and nobody takes notice of it.
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"process {other} goes on")


STUCK = """
import multiprocessing, signal, sys, time
from pathlib import Path
from nsd_prep.core.atomic import remove_stale_partials, written_whole
from nsd_prep.flows.server import end_workers

def write(folder):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with written_whole(folder / "part") as partial:
        partial.write_bytes(b"half")
        time.sleep(60)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    multiprocessing.get_context("spawn").Process(target=write, args=(folder,)).start()
    while not list(folder.iterdir()):
        time.sleep(0.02)
    end_workers()
    print(len(remove_stale_partials(folder)), len(list(folder.iterdir())))
"""


@pytest.mark.slow
def test_a_worker_that_is_ended_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    (tmp_path / "script.py").write_text(STUCK)
    words = [sys.executable, str(tmp_path / "script.py"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]
