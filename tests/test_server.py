"""A server, a worker and the deployments on localhost: what someone who triggers a run gets."""

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest
from terminal import INTERRUPT, in_terminal

pytestmark = pytest.mark.server

REPOSITORY = Path(__file__).resolve().parents[1]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
ERROR_LEVEL = 40


def until(seconds: float, found: Callable[[], Any], what: str) -> Any:
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
        mine = {name: of for name, of in os.environ.items() if not name.startswith("PREFECT_")}
        return mine | {
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_COLORS": "false",
            "DO_NOT_TRACK": "1",
            "PATH": f"{self.checkout / '.venv' / 'bin'}:{os.environ['PATH']}",
        }

    @property
    def checkout(self) -> Path:
        """The repository, with this interpreter's environment as its ``.venv``."""
        return self.folder / "checkout"

    def run(self, command: str) -> str:
        """Give a command in a terminal, wait for its end, and return what was shown."""
        log = self.folder / f"command-{time.monotonic_ns()}.log"
        with self.terminal(command, log) as (process, _):
            try:
                assert process.wait(60) == 0, log.read_text()
            finally:
                end(process)
        return log.read_text()

    @contextmanager
    def running(self, name: str, command: str) -> Iterator[Path]:
        """Run a command in a terminal until the block ends, and give the file of what it shows."""
        log = self.folder / f"{name}.log"
        with self.terminal(command, log) as (process, keyboard):
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
        self, command: str, log: Path
    ) -> AbstractContextManager[tuple["subprocess.Popen[bytes]", int]]:
        """Start a command in a terminal, in the checkout, with this server."""
        words = ["bash", "-euc", command]
        return in_terminal(words, log, self.checkout, self.environment)

    def answer(self, method: str, path: str, **of_request: Any) -> httpx.Response:
        """Ask the server's API; as Prefect's client does, again while its database is taken."""

        def free() -> httpx.Response | None:
            response = self.client.request(method, f"{self.url}{path}", **of_request)
            return None if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else response

        return until(30, free, f"an answer to {method} {path}")

    def ask(self, method: str, path: str, **of_request: Any) -> Any:
        """Ask the server's API, and return its answer."""
        return self.answer(method, path, **of_request).raise_for_status().json()

    def deployment(self, name: str) -> dict[str, Any]:
        """Return a deployment as the server keeps it."""
        return self.ask("GET", f"/deployments/name/nsd-prep/{name}")

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

    def ended(self, flow_run: str, seconds: float) -> dict[str, Any]:
        """Return the last state of a run, once it has one."""

        def state() -> dict[str, Any] | None:
            now = self.ask("GET", f"/flow_runs/{flow_run}")["state"]
            return now if now["type"] in ENDED else None

        return until(seconds, state, f"an end of the run {flow_run}")

    def of_run(self, kind: str, flow_run: str) -> list[dict[str, Any]]:
        """Return all the task runs or artifacts of a run."""
        question = {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200}
        return list(self.ask("POST", f"/{kind}/filter", json=question))

    @contextmanager
    def scheduled(self, deployment: str, **parameters: Any) -> Iterator[str]:
        """Let a deployment run every minute, and give its id; its schedule ends with the block."""
        deployment_id = str(self.deployment(deployment)["id"])
        every_minute = {"interval": 60, "anchor_date": _now(after=12)}
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

    def scheduled_run(self, deployment_id: str, seconds: float) -> str:
        """Return the id of the first run that a schedule makes, once there is one."""
        question = {
            "deployments": {"id": {"any_": [deployment_id]}},
            "flow_runs": {"tags": {"all_": ["auto-scheduled"]}},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": 1,
        }
        (run,) = until(
            seconds,
            lambda: self.ask("POST", "/flow_runs/filter", json=question),
            "a run that the schedule made",
        )
        return str(run["id"])

    def logs(self, flow_run: str) -> list[dict[str, Any]]:
        """Return the log lines of a run."""
        question = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
        return list(self.ask("POST", "/logs/filter", json=question))

    def artifacts(self, flow_run: str, *keys: str) -> dict[str, dict[str, Any]]:
        """Return artifacts of a run by their keys, once all that are named are there."""

        def found() -> dict[str, dict[str, Any]] | None:
            by_key = {of["key"]: of for of in self.of_run("artifacts", flow_run)}
            return by_key if by_key.keys() >= set(keys) else None

        return dict(until(30, found, f"artifacts {keys} of the run {flow_run}"))


def _now(after: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=after)).isoformat()


def readme_block(beginning: str) -> str:
    """Return the commands of the README's block that has a line with some beginning."""
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if re.search(f"^{beginning}", block, re.MULTILINE))
    return str(block)


def make_checkout(folder: Path) -> None:
    """Make a folder that looks like a clone with an installation, as the README's commands do."""
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("deployments", "flows", "src", "tasks"):
        (folder / name).symlink_to(REPOSITORY / name)


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
    for of in psutil.wait_procs(family, timeout=5)[1]:
        of.kill()
    assert not psutil.wait_procs(family, timeout=5)[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start a server with an empty home at a free port, by the README's command."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with httpx.Client(timeout=30) as client:
        at = Site(f"http://127.0.0.1:{port}/api", tmp_path_factory.mktemp("site"), client)
        make_checkout(at.checkout)

        def answers() -> bool:
            try:
                return client.get(f"{at.url}/health").is_success
            except httpx.TransportError:
                return False

        start = readme_block(".*prefect .*server start")
        with at.running("server", f"export PREFECT_SERVER_API_PORT={port}\n{start}"):
            until(120, answers, "an answer of the server")
            yield at


@pytest.fixture(scope="module")
def messages(site: Site) -> Iterator[list[str]]:
    """Return a list of what a webhook receives that is told of runs that did not complete."""
    received: list[str] = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Webhook) as webhook:
        threading.Thread(target=webhook.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{webhook.server_port}"
        site.run(f"python deployments/notify.py {address}")
        yield received
        webhook.shutdown()


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[Path]:
    """Follow the README, but for the server's port, up to a worker; return what is shown."""
    block = readme_block(".*prefect work-pool create")
    address = site.url.removeprefix("http://").removesuffix("/api")
    assert "127.0.0.1:4200" in block
    with site.running("worker", block.replace("127.0.0.1:4200", address)) as log:
        until(60, lambda: "Worker 'ProcessWorker" in log.read_text(), "a worker")
        yield log


@pytest.fixture(scope="module")
def served(site: Site) -> Iterator[Path]:
    """Serve everything from one process; return its log."""
    expected = {"all-subjects-served", "four-subjects-served", "synthetic-served"}
    with site.running("serve", "python deployments/serve.py") as log:
        until(
            60,
            lambda: (
                expected <= {of["name"] for of in site.ask("POST", "/deployments/filter", json={})}
            ),
            "deployments that are served",
        )
        yield log


@dataclass(frozen=True)
class Runs:
    """Runs that the worker was given, all ended: their ids, and the folder of the first's output.

    Attributes
    ----------
    synthetic : str
        Of the synthetic deployment.
    no_root : str
        Of a deployment for NSD whose root is not set.
    unknown : str
        With a parameter that the flow does not have.
    """

    synthetic: str
    no_root: str
    unknown: str
    output: Path


@pytest.fixture(scope="module")
def runs(
    site: Site,
    messages: list[str],  # noqa: ARG001 (who is told is settled before anything happens)
    worker: Path,  # noqa: ARG001 (it does the runs)
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """Trigger one run of each deployment through the API, and wait for their ends."""
    output = tmp_path_factory.mktemp("runs") / "output"
    of = Runs(
        synthetic=site.trigger(
            "synthetic", output_dir=str(output), subjects=[1, 2, 5], regions=["V1", "IT"]
        ),
        no_root=site.trigger("four-subjects", output_dir=str(output.with_name("never"))),
        unknown=site.trigger("all-subjects", subject=[1]),
        output=output,
    )
    for flow_run in (of.no_root, of.unknown, of.synthetic):
        site.ended(flow_run, 180)
    return of


class TestCompletedRun:
    def test_it_completes_and_its_files_are_there(self, site: Site, runs: Runs) -> None:
        assert site.ended(runs.synthetic, 1)["type"] == "COMPLETED"
        manifest = json.loads((runs.output / "manifest.json").read_text())
        assert {f"Allen2022.{region}.nc" for region in ("V1", "IT")} <= set(manifest["outputs"])

    def test_its_page_shows_progress_inputs_checks_and_summary(
        self, site: Site, runs: Runs
    ) -> None:
        shown = site.artifacts(runs.synthetic, "progress", "preflight", "checks", "summary")
        assert shown["progress"]["data"] == 100
        assert "synthetic" in shown["preflight"]["data"]
        assert str(runs.output) in shown["summary"]["data"]
        assert "failure" not in shown
        tables = [
            json.loads(of["data"])
            for of in site.of_run("artifacts", runs.synthetic)
            if (of["key"], of["type"]) == ("checks", "table")
        ]
        written = pd.read_csv(runs.output / "checks.csv")
        assert [len(rows) for rows in tables] == [len(written)]
        assert {row["verdict"] for row in tables[0]} == set(written["verdict"])

    def test_every_task_run_is_recorded_by_its_name(self, site: Site, runs: Runs) -> None:
        trials = pd.read_csv(runs.output / "trials.csv")
        sessions = {
            f"extract-subj{subject:02d}-session{session:02d}"
            for subject, session in trials.loc[trials["usable"], ["subject", "session"]].values
        }
        assert len(sessions) > 20
        masks = {f"load-masks-subj{subject:02d}" for subject in (1, 2, 5)}

        def all_ended() -> list[dict[str, Any]] | None:
            tasks = site.of_run("task_runs", runs.synthetic)
            here = {task["name"] for task in tasks} >= sessions | masks
            return tasks if here and all(t["state_type"] in ENDED for t in tasks) else None

        tasks = until(30, all_ended, "a record of the end of every task")
        names = [task["name"] for task in tasks]
        assert {name for name in names if name.startswith("extract-")} == sessions
        assert len(names) == len(set(names))
        assert {task["state_type"] for task in tasks} == {"COMPLETED"}

    def test_its_log_is_short_and_without_errors(self, site: Site, runs: Runs) -> None:
        lines = site.logs(runs.synthetic)
        assert 0 < len(lines) <= 20
        assert [line["message"] for line in lines if line["level"] >= ERROR_LEVEL] == []


class TestDeployments:
    def test_a_worker_runs_the_files_that_lie_there(self, site: Site, worker: Path) -> None:
        shown = worker.read_text()
        assert "?" not in shown.replace("?v=", ""), "a question that nobody answers"
        for name in ("all-subjects", "four-subjects", "synthetic"):
            (step,) = site.deployment(name)["pull_steps"]
            assert step == {
                "prefect.deployments.steps.set_working_directory": {"directory": str(site.checkout)}
            }


class TestRunThatCannotBe:
    def test_without_a_root_it_fails_with_a_sentence(self, site: Site, runs: Runs) -> None:
        state = site.ended(runs.no_root, 1)
        assert state["type"] == "FAILED"
        assert "NSD root is not set" in state["message"]
        failure = site.artifacts(runs.no_root, "failure")["failure"]
        assert "NSD root is not set" in failure["data"]
        assert site.of_run("task_runs", runs.no_root) == []
        assert not runs.output.with_name("never").exists()

    def test_an_unknown_parameter_ends_it_before_anything_runs(
        self, site: Site, runs: Runs
    ) -> None:
        assert site.ended(runs.unknown, 1)["type"] in {"FAILED", "CRASHED"}
        assert site.of_run("task_runs", runs.unknown) == []
        assert any(re.search(r"\bsubject'?\b", line["message"]) for line in site.logs(runs.unknown))
        assert "Crashed" in site.artifacts(runs.unknown, "failure")["failure"]["data"]

    def test_someone_is_told_of_both(self, runs: Runs, messages: list[str], site: Site) -> None:
        names = [
            site.ask("GET", f"/flow_runs/{flow_run}")["name"]
            for flow_run in (runs.no_root, runs.unknown)
        ]
        until(30, lambda: len(messages) >= 2, "two messages")
        assert len(messages) == 2
        for name in names:
            assert sum(name in message for message in messages) == 1
        assert sum("NSD root is not set" in message for message in messages) == 1

    @pytest.mark.parametrize(
        ("field", "value"),
        [("subjects", [9]), ("regions", ["V9"]), ("seed", -1), ("invalid_voxels", "mend")],
    )
    @pytest.mark.usefixtures("worker")
    def test_a_wrong_value_is_refused_at_submission(
        self, site: Site, field: str, value: Any
    ) -> None:
        answer = site.submit("synthetic", **{field: value})
        assert answer.status_code in {409, 422}
        assert field in answer.text


class TestOperation:
    def test_runs_that_were_lost_can_be_watched_for(self, site: Site) -> None:
        site.run("prefect automation create --from-file deployments/lost-runs.yaml")
        (kept,) = [
            of
            for of in site.ask("POST", "/automations/filter", json={})
            if of["name"] == "nsd-prep: a run was lost"
        ]
        assert kept["enabled"]
        assert [action["state"] for action in kept["actions"]] == ["CRASHED"]

    def test_one_process_serves_the_deployments(
        self, site: Site, served: Path, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        flow_run = site.trigger(
            "four-subjects-served",
            nsd_root=str(tiny_nsd),
            output_dir=str(tmp_path / "output"),
            cache_dir=str(tmp_path / "cache"),
            subjects=[5, 2],
            report=False,
        )
        state = site.ended(flow_run, 120)
        assert state["type"] == "COMPLETED", served.read_text(errors="replace")[-5000:]
        assert (tmp_path / "output" / "manifest.json").exists()


class TestSchedule:
    @pytest.mark.parametrize(
        ("deployment", "who"),
        [("four-subjects", "worker"), ("four-subjects-served", "served")],
    )
    def test_a_scheduled_run_is_made_and_completed(
        self,
        site: Site,
        tiny_nsd: Path,
        tmp_path: Path,
        request: pytest.FixtureRequest,
        deployment: str,
        who: str,
    ) -> None:
        log: Path = request.getfixturevalue(who)
        parameters = {"nsd_root": str(tiny_nsd), "output_dir": str(tmp_path)}
        with site.scheduled(deployment, subjects=[5], check=True, **parameters) as deployment_id:
            flow_run = site.scheduled_run(deployment_id, 60)
            state = site.ended(flow_run, 120)
        assert state["type"] == "COMPLETED", log.read_text(errors="replace")[-5000:]
