"""A Prefect server on this machine, and programs in terminals beside it."""

import json
import os
import re
import socket
import subprocess
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from documents import make_clone
from terminal import INTERRUPT, in_terminal

REPOSITORY = Path(__file__).resolve().parents[1]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
# Seconds: Prefect's server refuses a write to SQLite after a minute, and it is then tried again.
PATIENCE = 240
EVENT = ("occurred", "event", "resource", "related", "payload")


def until(found: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return what is found as soon as there is something, and fail after some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.5)
    raise AssertionError(f"after {seconds} s there is still not {what}")


@dataclass(frozen=True)
class Site:
    """A server with a home of its own, and how programs and the test speak to it."""

    url: str
    folder: Path
    client: httpx.Client

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the programs: this one's, less what it says of Prefect."""
        mine = {
            name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
        }
        return mine | {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_COLORS": "false",
            "DO_NOT_TRACK": "1",
            "PATH": f"{self.checkout / '.venv' / 'bin'}:{os.environ['PATH']}",
        }

    @property
    def home(self) -> Path:
        """Where the server and the programs keep what is Prefect's."""
        return self.folder / "home"

    @property
    def checkout(self) -> Path:
        """The repository, with this interpreter's environment as its ``.venv``."""
        return self.folder / "checkout"

    def run(self, command: str, status: int = 0, seconds: float = 120, **environment: str) -> str:
        """Give a command in a terminal, wait for its end, and return what was shown."""
        log = self.folder / f"command-{time.monotonic_ns()}.log"
        with self.terminal(command, log, environment) as (process, _):
            try:
                assert process.wait(seconds) == status, log.read_text()
            finally:
                end(process)
        return log.read_text()

    @contextmanager
    def running(self, name: str, command: str, **environment: str) -> Iterator[Path]:
        """Run a command in a terminal until the block ends, and give the file of what it shows."""
        log = self.folder / f"{name}.log"
        with self.terminal(command, log, environment) as (process, keyboard):
            try:
                yield log
                assert process.poll() is None, "the program has ended by itself"
            except AssertionError as error:
                error.add_note(f"{name} shows:\n{log.read_text(errors='replace')[-5000:]}")
                raise
            finally:
                os.write(keyboard, INTERRUPT)
                end(process)

    def terminal(
        self, command: str, log: Path, environment: Mapping[str, str]
    ) -> AbstractContextManager[tuple["subprocess.Popen[bytes]", int]]:
        """Start a command in a terminal, in the checkout, with this server."""
        words = ["bash", "-euc", command]
        return in_terminal(words, log, self.checkout, {**self.environment, **environment})

    def answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask the server's API; as Prefect's client does, again while its database is taken."""

        def free() -> httpx.Response | None:
            response = self.client.request(method, f"{self.url}{path}", **request)
            return None if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else response

        return until(free, f"an answer to {method} {path}")

    def ask(self, method: str, path: str, **request: Any) -> Any:
        """Ask the server's API, and return its answer."""
        return self.answer(method, path, **request).raise_for_status().json()

    def deployment(self, name: str, flow: str = "nsd-prep") -> dict[str, Any]:
        """Return a deployment as the server keeps it."""
        return self.ask("GET", f"/deployments/name/{flow}/{name}")

    def submit(self, deployment: str, **parameters: Any) -> httpx.Response:
        """Trigger a run as the UI does."""
        return self.answer(
            "POST",
            f"/deployments/{self.deployment(deployment)['id']}/create_flow_run",
            json={"parameters": parameters, "state": {"type": "SCHEDULED"}},
        )

    def trigger(self, deployment: str, **parameters: Any) -> str:
        """Trigger a run, and return its id."""
        return str(self.submit(deployment, **parameters).raise_for_status().json()["id"])

    def ended(self, flow_run: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Return the last state of a run, once it has one."""

        def state() -> dict[str, Any] | None:
            now = self.ask("GET", f"/flow_runs/{flow_run}")["state"]
            return now if now["type"] in ENDED else None

        return until(state, f"an end of the run {flow_run}", seconds)

    def of_run(self, kind: str, flow_run: str) -> list[dict[str, Any]]:
        """Return all the task runs or artifacts of a run."""
        question = {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200}
        return list(self.ask("POST", f"/{kind}/filter", json=question))

    @contextmanager
    def scheduled(self, deployment: str, **parameters: Any) -> Iterator[str]:
        """Let a deployment run every minute, and give its id; its schedule ends with the block."""
        deployment_id = str(self.deployment(deployment)["id"])
        every_minute = {"interval": 60, "anchor_date": _now(after=20)}
        schedules = f"/deployments/{deployment_id}/schedules"
        (schedule,) = self.ask(
            "POST",
            schedules,
            json=[{"active": True, "schedule": every_minute, "parameters": parameters}],
        )
        try:
            yield deployment_id
        finally:
            self.answer("DELETE", f"{schedules}/{schedule['id']}").raise_for_status()

    def scheduled_run(self, deployment_id: str) -> str:
        """Return the id of the first run that a schedule makes, once there is one."""
        question = {
            "deployments": {"id": {"any_": [deployment_id]}},
            "flow_runs": {"tags": {"all_": ["auto-scheduled"]}},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": 1,
        }
        (run,) = until(
            lambda: self.ask("POST", "/flow_runs/filter", json=question),
            "a run that the schedule made",
        )
        return str(run["id"])

    @contextmanager
    def dead_letters_sent_again(self) -> Iterator[None]:
        """Send events again, until the block ends, that the server gave up.

        It does so with an event whose four attempts, in the same instant, each met another write to
        SQLite (docs/operating.md): a test would wait for ever for what the event brings about.
        """
        over = threading.Event()

        def send() -> None:
            while not over.wait(1):
                for letter in (self.home / "dlq").glob("*"):
                    # Half written, or of something else than an event; or the server ends.
                    with suppress(ValueError, KeyError, httpx.HTTPError):
                        event = json.loads(json.loads(letter.read_bytes())["data"])
                        event = {name: event[name] for name in EVENT} | {"id": str(uuid.uuid4())}
                        self.client.post(f"{self.url}/events", json=[event]).raise_for_status()
                        letter.unlink()

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join()

    def logs(self, flow_run: str) -> list[dict[str, Any]]:
        """Return the log lines of a run."""
        question = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
        return list(self.ask("POST", "/logs/filter", json=question))

    def artifacts(self, flow_run: str, *keys: str) -> dict[str, dict[str, Any]]:
        """Return artifacts of a run by their keys, once all that are named are there."""

        def found() -> dict[str, dict[str, Any]] | None:
            by_key = {artifact["key"]: artifact for artifact in self.of_run("artifacts", flow_run)}
            return by_key if by_key.keys() >= set(keys) else None

        return dict(until(found, f"artifacts {keys} of the run {flow_run}"))


def _now(after: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=after)).isoformat()


def bash_blocks(document: str) -> list[str]:
    """Return the blocks of commands in a document of the repository."""
    text = (REPOSITORY / document).read_text()
    blocks = re.findall(r"^( *)```bash\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in blocks]


def commands(document: str) -> list[str]:
    """Return the commands of a document, one a line, without comments."""
    lines = "".join(bash_blocks(document)).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+", " ", re.sub(r"\s#.*", "", line)).strip() for line in lines]


def readme_block(beginning: str) -> str:
    """Return the commands of the README's block that has a line with some beginning."""
    blocks = bash_blocks("README.md")
    (block,) = (block for block in blocks if re.search(f"^{beginning}", block, re.MULTILINE))
    return str(block)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of a program that was asked to end; nothing that it started is left."""
    family: list[psutil.Process] = []
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        family += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(20)
    for artifact in psutil.wait_procs(family, timeout=5)[1]:
        artifact.kill()
    assert not psutil.wait_procs(family, timeout=5)[1]


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def is_healthy(url: str) -> bool:
    """Return whether a server answers."""
    try:
        return httpx.get(f"{url}/health", timeout=30).is_success
    except httpx.TransportError:
        return False


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Start a server with an empty home at a free port, by the README's command."""
    port = free_port()
    with httpx.Client(timeout=120) as client:
        site = Site(f"http://127.0.0.1:{port}/api", folder, client)
        make_clone(site.checkout)
        start = readme_block(".*prefect .*server start")
        with site.running("server", start, PREFECT_SERVER_API_PORT=str(port)):
            until(lambda: is_healthy(site.url), "an answer of the server")
            with site.dead_letters_sent_again():
                yield site
