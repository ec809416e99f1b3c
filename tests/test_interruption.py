"""Runs that are killed, interrupted, or not alone: the command line in processes of its own."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.interruption

FLOW = Path(__file__).parents[1] / "flows" / "nsd_flow.py"
SECONDS = 240
#: Tries to interrupt a run somewhere after one of these lines.
TRIES = 12
STAGES = (
    "^nsd-prep ",
    "starting: ",
    "images were seen three times",
    r"extracting sessions \(",
    "checking sessions and masks: ",
    r"assembling regions \(",
    r"checking files and data",
    "writing stimulus sets",
)
LAST_WORDS = "Files: "
#: The command, whose runs are all so large that processes of their own extract the sessions.
LARGE = """
import runpy, sys
from nsd_prep.pipeline import extraction
extraction._BETAS_WORTH_PROCESSES = 1
sys.argv[0] = {flow!r}
runpy.run_path({flow!r}, run_name="__main__")
"""
SENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Place:
    """A dataset, and a folder for runs, each with a folder of its own for temporary files."""

    root: Path
    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, out: Path, *words: str, large: bool = False) -> subprocess.Popen[bytes]:
        """Start a run that writes what it says into OUT.log."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
        } | {"TMPDIR": str(self.temporary(len(self.started)))}
        program = ["-c", LARGE.format(flow=str(FLOW))] if large else [str(FLOW)]
        command = [sys.executable, *program, "--nsd-root", str(self.root)]
        # Into a file, since a server that a run leaves would keep a pipe open.
        with log_of(out).open("wb") as log, signals_as_in_a_terminal():
            process = subprocess.Popen(
                [*command, "--output-dir", str(out), "--no-report", *words],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, out: Path, *words: str) -> int:
        """Return the exit status of a run."""
        return self.start(out, *words).wait(SECONDS)

    def temporary(self, number: int) -> Path:
        """Return the folder for the temporary files of a run and of all processes it starts."""
        folder = self.folder / "temporary" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def processes_of(self, run: subprocess.Popen[bytes]) -> list[int]:
        """Return the living processes that a run started, as its server."""
        folder = str(self.temporary(self.started.index(run)))
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == folder and process.pid != run.pid:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def processes_left_by(self, run: subprocess.Popen[bytes]) -> list[int]:
        """Return the processes of an ended run that are still there a moment later.

        A moment, since multiprocessing's resource tracker, which belongs to worker processes, ends
        when it sees that its run has ended.
        """
        wait_until_true(lambda: not self.processes_of(run), 1)
        return self.processes_of(run)

    def left_by(self, run: subprocess.Popen[bytes]) -> list[Path]:
        """Return the temporary files of a run."""
        return list(self.temporary(self.started.index(run)).iterdir())


@contextmanager
def signals_as_in_a_terminal() -> Iterator[None]:
    """Let what starts within heed the signals that tests under nohup, or behind "&", ignore.

    A process inherits from its parent which signals are ignored.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SENT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def catches_requests(run: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has come to its first instruction: Python itself needs a moment."""
    status = Path(f"/proc/{run.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def log_of(out: Path) -> Path:
    """Return the file of what a run says."""
    return out.with_name(f"{out.name}.log")


def wait_until(
    run: subprocess.Popen[bytes], happened: Callable[[], object], seconds: float = SECONDS
) -> None:
    """Wait until something happens, a run ends, or some time has passed."""
    end = time.monotonic() + seconds
    while not happened() and run.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def wait_until_true(happened: Callable[[], object], seconds: float) -> None:
    """Wait until something happens, or some time has passed."""
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.05)


def killed_after(run: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a run after some time, and return whether it was still running."""
    wait_until(run, lambda: False, seconds)
    run.kill()
    return run.wait() == -signal.SIGKILL


def start_with_workers(place: Place, out: Path, kind: str) -> subprocess.Popen[bytes]:
    """Start a run with worker processes, Prefect's or its own, and wait until they work."""
    words = ["--runner", "processes"] if kind == "runner" else []
    run = place.start(out, *words, large=kind == "large")
    wait_until(run, lambda: records(out))
    return run


def outputs(out: Path) -> dict[Path, str]:
    """Return the digest of every output, but for the manifest with its timings."""
    return {
        path.relative_to(out): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
        and path.name not in ("manifest.json", ".nsd-prep.lock")
        and path.relative_to(out).parts[0] != "cache"
    }


def records(out: Path) -> dict[Path, tuple[int, int]]:
    """Return which file each record of an extracted region and session is, and of what time."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (out / "cache" / "responses").rglob("*.json")
    }


def partials(out: Path) -> list[Path]:
    """Return the temporary files below a folder."""
    return list(out.rglob(".*.partial"))


@pytest.fixture(scope="module")
def place(tiny_nsd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return where runs can be made; those that a test leaves are ended."""
    place = Place(tiny_nsd, tmp_path_factory.mktemp("interruption"))
    yield place
    for run in place.started:
        run.kill()
        for process in place.processes_of(run):
            psutil.Process(process).kill()
        run.wait()


@pytest.fixture(scope="module")
def undisturbed(place: Place) -> tuple[dict[Path, str], float]:
    """Return the outputs of a run that nothing disturbs, and how long it takes."""
    place.run(place.folder / "first")  # keeps a database for the others
    begin = time.monotonic()
    assert place.run(place.folder / "undisturbed") == 0
    return outputs(place.folder / "undisturbed"), time.monotonic() - begin


class TestKill:
    @pytest.mark.parametrize("tenth", range(10))
    def test_the_same_command_goes_on_where_a_killed_run_stopped(
        self, place: Place, undisturbed: tuple[dict[Path, str], float], tenth: int
    ) -> None:
        expected, seconds = undisturbed
        out = place.folder / f"killed-{tenth}"
        moment = (tenth + random.Random(tenth).random()) / 10 * seconds
        killed = place.start(out)
        while not killed_after(killed, moment):  # it was faster than the one that was timed
            shutil.rmtree(out)
            moment *= 0.8
            killed = place.start(out)
        recorded = records(out)

        assert place.run(out) == 0, log_of(out).read_text()
        assert outputs(out) == expected
        assert (out / "manifest.json").exists()
        assert recorded.items() <= records(out).items()
        assert partials(out) == []
        shutil.rmtree(out)

    def test_the_server_of_a_killed_run_ends(self, place: Place) -> None:
        out = place.folder / "orphaned"
        killed = place.start(out)
        wait_until(killed, lambda: records(out))
        assert place.processes_of(killed) != [], "the server is another process"
        killed.kill()
        killed.wait()
        wait_until_true(lambda: not place.processes_of(killed), 15)
        assert place.processes_of(killed) == []
        assert place.left_by(killed) == []

    @pytest.mark.parametrize("kind", ["runner", "large"])
    def test_worker_processes_of_a_killed_run_end(self, place: Place, kind: str) -> None:
        out = place.folder / f"orphaned-workers-{kind}"
        killed = start_with_workers(place, out, kind)
        assert len(place.processes_of(killed)) > 1, "workers beside the server"
        killed.kill()
        killed.wait()
        wait_until_true(lambda: not place.processes_of(killed), 15)
        assert place.processes_of(killed) == []


class TestServerThatEnds:
    @pytest.mark.parametrize("made", ["a record", "checks.csv"])
    def test_the_run_ends_at_once_and_goes_on_when_started_again(
        self, place: Place, undisturbed: tuple[dict[Path, str], float], made: str
    ) -> None:
        out = place.folder / f"without-{made.replace(' ', '-')}"
        run = place.start(out)
        wait_until(run, lambda: records(out) if made == "a record" else (out / made).exists())
        (server,) = place.processes_of(run)
        os.kill(server, signal.SIGKILL)
        begin = time.monotonic()
        assert run.wait(60) == 1
        assert time.monotonic() - begin < 10
        shown = log_of(out).read_text()
        assert "error: Prefect's temporary server stopped (SIGKILL)" in shown
        assert "Traceback" not in shown
        recorded = records(out)

        assert place.run(out) == 0, log_of(out).read_text()
        assert outputs(out) == undisturbed[0]
        assert recorded.items() <= records(out).items()
        assert partials(out) == []


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "send"),
        [
            pytest.param(signal.SIGINT, os.killpg, id="Ctrl-C in a terminal, to all processes"),
            pytest.param(signal.SIGTERM, os.kill, id="SIGTERM"),
            pytest.param(signal.SIGHUP, os.kill, id="SIGHUP, of a terminal that is closed"),
        ],
    )
    def test_an_interrupted_run_says_so_and_leaves_nothing(
        self, place: Place, number: int, send: Callable[[int, int], None]
    ) -> None:
        out = place.folder / f"interrupted-{number}-{send.__name__}"
        run = place.start(out)
        wait_until(run, lambda: records(out))
        send(run.pid, number)
        assert run.wait(60) == 130
        said = log_of(out).read_text()
        assert "interrupted: the same command resumes where it stopped" in said
        assert "Traceback" not in said
        assert place.processes_left_by(run) == []
        assert place.left_by(run) == []
        assert not (out / "manifest.json").exists()
        assert partials(out) == []

    @pytest.mark.parametrize("kind", ["runner", "large"])
    def test_worker_processes_end_with_their_run(self, place: Place, kind: str) -> None:
        out = place.folder / f"workers-{kind}"
        run = start_with_workers(place, out, kind)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(60) == 130
        assert "Traceback" not in log_of(out).read_text()
        assert place.processes_left_by(run) == []
        assert place.left_by(run) == []
        assert partials(out) == []

    def test_a_synthetic_dataset_that_is_interrupted_leaves_nothing(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "nsd_prep", "synth", str(tmp_path / "nsd")]
        command += ["--scale", "full"]
        with (tmp_path / "log").open("wb") as log, signals_as_in_a_terminal():
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(process, lambda: any(tmp_path.rglob("betas_session*.hdf5")))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert [path.name for path in tmp_path.iterdir()] == ["log"]
        said = (tmp_path / "log").read_text()
        assert said.endswith("interrupted: the same command starts over\n")
        assert "Traceback" not in said

    @pytest.mark.parametrize("words", [("compare", "a", "b"), ("regions", "a")])
    def test_a_command_that_starts_over_says_so_from_its_first_instruction_on(
        self, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        with (tmp_path / "log").open("wb") as log, signals_as_in_a_terminal():
            command = [sys.executable, "-m", "nsd_prep", *words]
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(process, lambda: catches_requests(process), 5)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        said = (tmp_path / "log").read_text()
        assert said == "interrupted: the same command starts over\n"

    def test_a_run_that_is_interrupted_while_its_server_starts(self, place: Place) -> None:
        out = place.folder / "starting"
        run = place.start(out)
        wait_until(run, lambda: place.processes_of(run))
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(60) == 130
        assert "interrupted" in log_of(out).read_text()
        assert place.processes_left_by(run) == []

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_run_is_interrupted_from_its_first_instruction_on(
        self, place: Place, number: int
    ) -> None:
        for hundredth in range(0, 60, 4):
            out = place.folder / f"early-{number}-{hundredth}"
            run = place.start(out)
            wait_until(run, lambda run=run: catches_requests(run), 5)
            time.sleep(hundredth / 100)
            run.send_signal(number)
            assert run.wait(5) == 130, log_of(out).read_text()
            said = log_of(out).read_text()
            assert said.endswith("interrupted: the same command resumes where it stopped\n")
            assert "Traceback" not in said
            wait_until_true(lambda run=run: not place.processes_of(run), 6)
            assert place.processes_of(run) == []
            wait_until_true(lambda run=run: not place.left_by(run), 1)
            assert place.left_by(run) == []

    @pytest.mark.parametrize("seed", range(TRIES))
    def test_a_run_ends_within_seconds_at_any_instant(self, place: Place, seed: int) -> None:
        chance = random.Random(seed)
        stage, out = chance.choice(STAGES), place.folder / f"instant-{seed}"
        run = place.start(out)
        wait_until(run, lambda: re.search(stage, log_of(out).read_text(errors="replace")))
        wait_until(run, lambda: False, chance.random())
        was_done = LAST_WORDS in log_of(out).read_text(errors="replace")
        begin = time.monotonic()
        if chance.random() < 0.5:
            run.send_signal(signal.SIGINT)
        else:
            with suppress(ProcessLookupError):  # it has ended, which send_signal looks for itself
                os.killpg(run.pid, signal.SIGINT)  # Ctrl-C in a terminal
        status = run.wait(60)
        assert time.monotonic() - begin < 5
        said = log_of(out).read_text(errors="replace")
        # A command that has shown its last words may have ended just before.
        assert status == 130 or (status == 0 and was_done), said
        assert "Traceback" not in said
        wait_until_true(lambda: not place.processes_of(run) and not place.left_by(run), 6)
        assert place.processes_of(run) == []
        assert place.left_by(run) == []
        assert partials(out) == []
        shutil.rmtree(out, ignore_errors=True)

    @pytest.mark.parametrize(
        "while_it_ends",
        [
            "import atexit\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n",
            "class Last:\n"
            "    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGINT):\n"
            "        kill(me, number)\n"
            "last = Last()\n",
        ],
    )
    @pytest.mark.parametrize("status", [0, 1])
    def test_a_request_while_python_ends_does_not_change_the_status(
        self, while_it_ends: str, status: int
    ) -> None:
        program = (
            "import os, signal\n"
            "from nsd_prep.flows.interruption import end_at_once_on_request, ending_with\n"
            f"end_at_once_on_request()\n{while_it_ends}"
            f"raise SystemExit(ending_with({status}))\n"
        )
        with signals_as_in_a_terminal():
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20)
        assert (done.returncode, done.stderr) == (status, b"")

    @pytest.mark.parametrize("made_of_it", ["pass", "raise ValueError('of a library')"])
    def test_a_request_whose_exception_is_lost_is_heeded_at_the_end(self, made_of_it: str) -> None:
        program = (
            "import os, signal\n"
            "from nsd_prep.flows.interruption import ending_in_order\n"
            "try:\n"
            "    with ending_in_order(lambda: None):\n"
            "        try: os.kill(os.getpid(), signal.SIGINT)\n"
            f"        except BaseException: {made_of_it}\n"
            "except KeyboardInterrupt:\n"
            "    os._exit(130)\n"
        )
        with signals_as_in_a_terminal():
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20)
        assert (done.returncode, done.stderr) == (130, b"")

    @pytest.mark.parametrize(
        "obstacle",
        [
            pytest.param(
                "import weakref\n"
                "class Thing: pass\n"
                "while True:\n"
                "    thing = Thing()\n"
                "    reference = weakref.ref(thing, lambda _: time.sleep(0.2))\n"
                "    del thing\n",
                id="exceptions are lost in callbacks",
            ),
            pytest.param(
                "while True:\n    try: time.sleep(0.2)\n    except BaseException: pass\n",
                id="a library takes every exception for a result",
            ),
            pytest.param(
                "import threading\n"
                "threading.Thread(target=time.sleep, args=(60,)).start()\n"
                "time.sleep(60)\n",
                id="a thread is waited for at the end",
            ),
        ],
    )
    def test_nothing_keeps_an_interrupted_command_from_its_end(self, obstacle: str) -> None:
        program = (
            "import os, time\n"
            "from nsd_prep.flows.interruption import ending_in_order\n"
            "with ending_in_order(lambda: None):\n"
            "    print('begun', flush=True)\n"
            + "".join(f"    {line}\n" for line in obstacle.splitlines())
        )
        command = [sys.executable, "-c", program]
        with (
            signals_as_in_a_terminal(),
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        ):
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.3)
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(20)
        assert time.monotonic() - begin < 5

    def test_code_that_was_text_is_interrupted_as_any_other(self, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text(
            "from nsd_prep.flows import command\n"
            "def interrupted(*_): exec('raise KeyboardInterrupt')\n"
            "command._status = interrupted\n"
            "raise SystemExit(command._call(None, []))\n"
        )
        done = subprocess.run([sys.executable, "-m", "program"], cwd=tmp_path, timeout=60)
        assert done.returncode == 130

    def test_an_exception_that_is_lost_as_well_does_not_disturb_the_end(self) -> None:
        program = (
            "import sys, time\n"
            "from nsd_prep.flows.interruption import ending_in_order\n"
            "class Thing:\n"
            "    def __del__(self): raise KeyboardInterrupt\n"
            "try:\n"
            "    with ending_in_order(lambda: None):\n"
            "        print('begun', flush=True)\n"
            "        try: time.sleep(60)\n"
            "        finally: Thing()\n"
            "except KeyboardInterrupt:\n"
            "    time.sleep(0.5)\n"
            "    raise SystemExit(130)\n"
        )
        command = [sys.executable, "-c", program]
        with (
            signals_as_in_a_terminal(),
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        ):
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130


class TestTwoAtOnce:
    def test_a_second_run_into_the_same_folder_stops_with_a_sentence(
        self, place: Place, undisturbed: tuple[dict[Path, str], float]
    ) -> None:
        out = place.folder / "same"
        first = place.start(out)
        wait_until(first, lambda: records(out))
        first.send_signal(signal.SIGSTOP)  # for as long as the other one needs
        log_of(out).rename(place.folder / "first.log")
        second = place.run(out)
        said = log_of(out).read_text()
        first.send_signal(signal.SIGCONT)
        assert second == 1
        _, error = said.splitlines()  # after the line that names dataset and output
        assert error.startswith(f"error: Another run is writing into {out}: wait until it ends")
        assert first.wait(SECONDS) == 0
        assert outputs(out) == undisturbed[0]
        assert place.processes_left_by(first) == []

    def test_two_runs_share_a_cache(
        self, place: Place, undisturbed: tuple[dict[Path, str], float]
    ) -> None:
        outs = [place.folder / "one", place.folder / "other"]
        cache = place.folder / "shared-cache"
        runs = [place.start(out, "--cache-dir", str(cache)) for out in outs]
        assert [run.wait(SECONDS) for run in runs] == [0, 0]
        for out in outs:
            assert outputs(out) == undisturbed[0]
        assert partials(cache) == []
