"""The temporary server of a run: a process that starts while the libraries are imported.

It is the run's own: its database lies in a temporary folder that is removed with it, and of the
user's environment, profile and working folder neither the server nor its client takes anything but
what is named here. Nothing imports Prefect before :func:`temporary_server` has set what Prefect
reads when it is imported.
"""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from nsd_prep.core.errors import OutputError
from nsd_prep.core.folders import user_cache_folder
from nsd_prep.core.processes import end_process
from nsd_prep.flows.configured import API_URL, is_configured, may_be_configured

#: Read by Prefect when it is imported.
_NO_TELEMETRY: Final = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
#: What the server's process takes of the environment: nothing that configures a server, a proxy or
#: certificates.
_INHERITED: Final = re.compile(
    "PATH|HOME|USER|LOGNAME|TMPDIR|TEMP|TMP|TZ|LANG|LANGUAGE|LC_.*|(DY)?LD_.*|PYTHON.*|VIRTUAL_ENV"
    "|CONDA_PREFIX"
)
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_LOOPBACK: Final = "127.0.0.1"
_DATABASE: Final = "prefect.db"
_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 10
_WORKER_SECONDS: Final = 0.8


def without_telemetry() -> None:
    """Keep Prefect from recording its use; takes effect if Prefect is not imported yet."""
    for name, value in _NO_TELEMETRY.items():
        os.environ[name] = os.environ.get(name) or value


@contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Start a temporary server, unless one is configured, and stop it.

    While there is one, the working folder is its own: give absolute paths in the block.

    The server ends with this process, however that ends. If the server ends first, this process
    does too, within a second, with exit status 1 and a sentence: Prefect would try to reach it for
    minutes, at every step.

    Yields
    ------
    callable
        Returns when a server answers; imports Prefect. It raises an OutputError if there is none.
    """
    without_telemetry()
    with ExitStack() as stack:
        server = None if may_be_configured() else stack.enter_context(_started())

        def wait_until_it_answers() -> None:
            nonlocal server
            if server is None and not is_configured():
                server = stack.enter_context(_started())
            if server is None:
                _ask_configured_server()
            else:
                server.wait_until_it_answers()

        yield wait_until_it_answers


@contextmanager
def _started() -> Iterator["_Server"]:
    """Start a server of the run's own, and let Prefect in this process use it and nothing else."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="nsd-prep-server-"))
    except OSError as error:
        raise OutputError(
            f"Prefect's temporary server needs a folder for its database ({error}): set TMPDIR to "
            "one that can be written, and run the command again."
        ) from error
    try:
        server = _Server(folder)
        try:
            # Whenever Prefect makes its settings, it reads .env, prefect.toml and pyproject.toml of
            # the working folder too.
            with (
                contextlib.chdir(folder),
                _environment(_of_client(os.environ, folder, server.url)),
            ):
                _use_environment()
                yield server
        finally:
            server.stop()
            if "prefect" in sys.modules:
                with suppress(RuntimeError):  # a user without a home, which Prefect needs
                    _use_environment()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Server:
    """A server in a process of its own, with its database in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind((_LOOPBACK, 0))
            self._port = free.getsockname()[1]
        self.url = f"http://{_LOOPBACK}:{self._port}/api"
        self._folder = folder
        self._used = self._stopping = False
        self._has_copy = _copy_empty_database(folder / _DATABASE)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        # -P: nothing in the working directory is taken for a library
        python = [sys.executable, "-P", "-m", "nsd_prep.flows.server_process", str(folder)]
        address = ["--host", _LOOPBACK, "--port", str(self._port)]
        self._process = subprocess.Popen(
            # Without services: nothing is scheduled here, and nobody looks at the history.
            [*python, "server", "start", *address, "--no-ui", "--no-services"],
            env=_of_server(os.environ, folder),
            stdin=subprocess.PIPE,  # see server_process
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            # Ctrl-C in a terminal goes to all the processes there, and an interrupted run still
            # needs its server, to end in order.
            start_new_session=True,
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if _is_healthy(self._port):
                self._used = True
                if not self._has_copy:
                    _keep_empty_database(self._folder / _DATABASE)
                return
            time.sleep(0.05)
        status = self._process.poll()
        if status is None:
            problem = f"did not answer at {self.url} within {_START_SECONDS} s"
        else:
            problem = f"could not start ({_reason(status)}: {self._last_words()})"
        if self._has_copy:
            with suppress(OSError):
                _empty_database().unlink(missing_ok=True)
            problem += (
                f", with a database made from {_empty_database()}, which is removed now since this "
                "Prefect may not be able to read it"
            )
        raise OutputError(
            f"Prefect's temporary server {problem}: make sure that there is space in "
            f"{self._folder.parent}, or start a server with 'prefect server start' and set "
            "PREFECT_API_URL to its address; then run the command again."
        )

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()] or ["no output"]
        errors = [line for line in said if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return (errors or said)[-1]

    def stop(self) -> None:
        self._stopping = True
        end_process(self._process, _STOP_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._errors.close()

    def _watch(self) -> None:
        status = self._process.wait()
        if self._stopping or not self._used:
            return
        print(  # noqa: T201
            f"error: Prefect's temporary server stopped ({_reason(status)}), and the run with it: "
            "finished work is kept; run the same command again.",
            file=sys.stderr,
            flush=True,
        )
        end_workers()
        shutil.rmtree(self._folder, ignore_errors=True)
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
    if not is_configured():
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
    deadline = time.monotonic() + _WORKER_SECONDS  # of all together: an end by force waits for it
    for worker in workers:
        worker.join(timeout=max(0.0, deadline - time.monotonic()))
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(timeout=_WORKER_SECONDS)  # until then it counts as alive


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


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set some variables, or with None remove them, until the block ends."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _of_server(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in environment.items() if _INHERITED.fullmatch(name)}
    return {"HOME": str(folder)} | inherited | _NO_TELEMETRY | {"PREFECT_HOME": str(folder)}


def _of_client(environment: Mapping[str, str], folder: Path, url: str) -> dict[str, str | None]:
    """Return what changes for this process and its workers, which also read the dataset."""
    changes: dict[str, str | None] = {
        name: None for name in environment if name.startswith("PREFECT_")
    }
    for name in _PROXIES:
        # Others stop Prefect's client before it looks whether a proxy is meant for the address;
        # the client of remote datasets, which was the first to read them, takes none of them.
        for spelling in (name, name.upper()):
            if spelling in environment and not _is_http(environment[spelling]):
                changes[spelling] = None
    for name in _CERTIFICATES:
        if name in environment and not _are_certificates(environment[name]):
            changes[name] = None
    direct = environment.get("no_proxy") or environment.get("NO_PROXY")
    without_proxy = f"{direct},{_LOOPBACK}" if direct else _LOOPBACK
    import certifi

    return (
        changes
        | {"no_proxy": without_proxy, "NO_PROXY": without_proxy}
        | dict(_NO_TELEMETRY)
        | ({} if environment.get("HOME") else {"HOME": str(folder)})
        | {
            "PREFECT_HOME": str(folder),
            "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
            "PREFECT_API_SSL_CERT_FILE": certifi.where(),  # in place of SSL_CERT_FILE
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            API_URL: url,
        }
    )


def _is_http(proxy: str) -> bool:
    """Return whether a proxy is one that Prefect's client can be made with."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _are_certificates(path: str) -> bool:
    """Return whether a file or folder of certificates can be read: each client made reads it."""
    import ssl

    if Path(path).is_dir():
        return True
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # also of what is no certificate
        return False
    return True


def _empty_database() -> Path:
    """Return where a database that this version of Prefect has made is kept, to be copied.

    Prefect takes four seconds to make one.
    """
    return user_cache_folder() / "nsd-prep-server" / f"prefect-{version('prefect')}.db"


def _copy_empty_database(database: Path) -> bool:
    """Copy the empty database, where there is a sound one; return whether there was."""
    import sqlite3

    try:
        shutil.copyfile(_empty_database(), database)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            sound = connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    except (OSError, sqlite3.Error):  # none, or a home that cannot be read
        sound = False
    if not sound:
        database.unlink(missing_ok=True)
    return sound


def _keep_empty_database(database: Path) -> None:
    """Keep a database without runs for later ones, where the user's cache can be written."""
    import sqlite3

    from nsd_prep.core.atomic import replaced

    with (
        suppress(OSError, sqlite3.Error),
        replaced(_empty_database()) as partial,
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(partial)) as copy,
    ):
        source.backup(copy)


def _reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _is_healthy(port: int) -> bool:
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(_LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
