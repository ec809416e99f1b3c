"""The temporary server of a run: a process that starts while the libraries are imported.

Nothing here imports Prefect before :func:`temporary_server` has set what Prefect reads from the
environment when it is imported.
"""

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nsd_prep.core.errors import OutputError

#: Read by Prefect when it is imported.
_NO_TELEMETRY: Final = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
_API_URL: Final = "PREFECT_API_URL"
#: Of the server: every task run is recorded within about a second after its end. Prefect rounds
#: the interval down, and with 0 the server would spin and take a whole core.
_RECORD_SOON: Final = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 10


def without_telemetry() -> None:
    """Keep Prefect from recording its use; takes effect if Prefect is not imported yet."""
    for name, value in _NO_TELEMETRY.items():
        os.environ[name] = os.environ.get(name) or value


@contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Start a temporary server, unless one is configured, and stop it.

    The server ends with this process, however that ends. If the server ends first, this process
    does too, within a second, with exit status 1 and a sentence: Prefect would try to reach it for
    minutes, at every step.

    Yields
    ------
    callable
        Returns when a server answers; imports Prefect. It raises an OutputError if there is none.
    """
    without_telemetry()
    server = None if _may_be_configured() else _Server()
    before = os.environ.get(_API_URL)
    try:
        if server is not None:
            os.environ[_API_URL] = server.url
            if "prefect" in sys.modules:
                _use_environment()

        def wait_until_it_answers() -> None:
            nonlocal server
            if server is None and not _configured():
                server = _Server()
                os.environ[_API_URL] = server.url
            if server is None:
                _ask_configured_server()
            else:
                server.wait_until_it_answers()
                _use_environment()

        yield wait_until_it_answers
    finally:
        if server is not None:
            server.stop()
            os.environ.pop(_API_URL, None)
            if before is not None:
                os.environ[_API_URL] = before
            if "prefect" in sys.modules:
                _use_environment()


class _Server:
    """A server in a process of its own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._used = self._stopping = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        # -P: nothing in the working directory is taken for a library
        python = [sys.executable, "-P", "-m", "nsd_prep.flows.server_process"]
        address = ["--host", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen(
            [*python, "server", "start", *address, "--no-ui"],
            env=_of_server(os.environ),
            stdin=subprocess.PIPE,  # see server_process
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            # Ctrl-C in a terminal goes to all the processes there, and an interrupted run still
            # needs its server, to record that it was.
            start_new_session=True,
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if _is_healthy(self._port):
                self._used = True
                return
            time.sleep(0.05)
        status = self._process.poll()
        if status is None:
            found = f"did not answer at {self.url} within {_START_SECONDS} s"
        else:
            found = f"could not start ({_reason(status)}: {self._last_words()})"
        raise OutputError(
            f"Prefect's temporary server {found}: see that PREFECT_HOME (~/.prefect) can be "
            "written, or start a server with 'prefect server start' and set PREFECT_API_URL to "
            "its address; then run the command again."
        )

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
        errors = [line for line in said if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return (errors or said)[-1]

    def stop(self) -> None:
        self._stopping = True
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _watch(self) -> None:
        status = self._process.wait()
        if self._stopping or not self._used:
            return
        print(  # noqa: T201
            f"error: Prefect's temporary server has ended ({_reason(status)}), and the run with "
            "it: what is done is kept; run the same command again.",
            file=sys.stderr,
            flush=True,
        )
        end_workers()
        # The other threads wait for answers of the server. What they have not finished is under
        # temporary names, as after a kill.
        os._exit(1)


def require_server() -> None:
    """Return if a server is configured and answers.

    Raises
    ------
    OutputError
        There is none.
    """
    without_telemetry()
    if not _configured():
        raise OutputError(
            "No Prefect server is configured: start one with 'prefect --no-prompt server start', "
            "and give its address in the environment variable PREFECT_API_URL, such as "
            "http://127.0.0.1:4200/api."
        )
    _ask_configured_server()


def end_workers() -> None:
    """End the worker processes of an interrupted run, which its runner does not wait for."""
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(timeout=10)
        worker.kill()


def _may_be_configured() -> bool:
    """Look whether a server may be configured, without Prefect, which takes seconds to import."""
    if "prefect" in sys.modules:
        return _configured()
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    return bool(os.environ.get(_API_URL)) or any(
        file.exists() for file in (profiles, Path(".env"), Path("prefect.toml"))
    )


def _configured() -> bool:
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def _ask_configured_server() -> None:
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL

    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise OutputError(
            f"The Prefect server at {PREFECT_API_URL.value()} does not answer ({problem}): start "
            "it, or unset PREFECT_API_URL ('prefect config view' shows where it is set) to run "
            "with a temporary one."
        )


def _use_environment() -> None:
    """Let Prefect, where it was imported before, see what has changed."""
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _of_server(environment: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in environment.items() if name != _API_URL}
    return inherited | _RECORD_SOON | _NO_TELEMETRY


def _reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _is_healthy(port: int) -> bool:
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
