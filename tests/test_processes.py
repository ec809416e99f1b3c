"""Functions are called in a second process, and here where there is none."""

import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from nsd_prep.core.processes import Caller, call_here, second_process


def test_results_come_from_another_process_in_their_order() -> None:
    with second_process() as call:
        processes = [call(os.getpid) for _ in range(3)]
        sums = [call(operator.add, np.arange(200_000), number) for number in range(3)]
        assert [int(one.result()[-1]) for one in sums] == [199_999, 200_000, 200_001]
        assert len({one.result() for one in processes}) == 1
        assert processes[0].result() != os.getpid()


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
        with second_process() as call:
            ask(call)


def test_what_is_printed_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with second_process() as call:
        assert call(print, "some words").result() is None
        assert call(os.system, "echo other words").result() == 0
    assert "other words" in capfd.readouterr().err


def test_a_process_that_is_killed_is_replaced_by_this_one() -> None:
    with second_process() as call:
        os.kill(call(os.getpid).result(), signal.SIGKILL)
        assert call(os.getpid).result() == os.getpid()
        assert call(operator.add, 1, 2).result() == 3


def test_a_block_that_is_left_does_not_wait() -> None:
    def leave(call: Caller) -> None:
        call(time.sleep, 60)
        raise KeyboardInterrupt

    started, n_open = time.monotonic(), psutil.Process().num_fds()
    # With a name, since what closes pipes in passing would say what it could not write.
    with pytest.raises(KeyboardInterrupt) as interruption, second_process() as call:
        leave(call)
    assert time.monotonic() - started < 30
    assert psutil.Process().num_fds() == n_open, interruption


SCRIPT = """
import os, sys, time
from nsd_prep.core.processes import second_process

print("begun", flush=True)
with second_process() as call:
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
