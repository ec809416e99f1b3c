"""A server, a worker and the deployments on localhost: what someone who triggers a run gets."""

import http.server
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from blake3 import blake3
from prefect_site import (
    ENDED,
    REPOSITORY,
    Site,
    commands,
    free_port,
    is_healthy,
    readme_block,
    running_site,
    until,
)

from nsd_prep import __version__

pytestmark = pytest.mark.server

ERROR_LEVEL = 40
FLOWS = {"package": "nsd-prep-package"}
NOWHERE = "/no/such/dataset"
PAGE = ("01-summary", "02-inputs", "03-progress", "04-all-checks", "05-report", "06-checks")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start a server."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


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
        site.run(f"python deployments/notify.py {address}")  # again: still one message a run
        yield received
        webhook.shutdown()


@pytest.fixture(scope="module")
def worker(site: Site) -> Iterator[Path]:
    """Follow the README, but for the server's port, up to a worker; return what is shown."""
    block = readme_block(".*prefect work-pool create")
    address = site.url.removeprefix("http://").removesuffix("/api")
    assert "127.0.0.1:4200" in block
    with site.running("worker", block.replace("127.0.0.1:4200", address)) as log:
        until(lambda: "Worker 'ProcessWorker" in log.read_text(), "a worker")
        yield log


@pytest.fixture(scope="module")
def served(site: Site) -> Iterator[Path]:
    """Serve everything from one process; return its log."""
    expected = {
        f"{name}-served" for name in ("all-subjects", "four-subjects", "synthetic", "package")
    }
    with site.running("serve", "python deployments/serve.py") as log:
        until(
            lambda: (
                expected
                <= {
                    deployment["name"]
                    for deployment in site.ask("POST", "/deployments/filter", json={})
                }
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
    no_dataset : str
        Of a deployment for NSD whose root is not there.
    unknown : str
        With a parameter that the flow does not have.
    """

    synthetic: str
    no_dataset: str
    unknown: str
    output: Path


@pytest.fixture(scope="module")
def runs(
    site: Site,
    messages: list[str],  # noqa: ARG001 (who is told is set up before anything happens)
    worker: Path,  # noqa: ARG001 (it does the runs)
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """Trigger one run of each deployment through the API, and wait for their ends."""
    output = tmp_path_factory.mktemp("runs") / "output"
    submitted = Runs(
        synthetic=site.trigger(
            "synthetic", output_dir=str(output), subjects=[1, 2, 5], regions=["V1", "IT"]
        ),
        no_dataset=site.trigger(
            "four-subjects", nsd_root=NOWHERE, output_dir=str(output.with_name("never"))
        ),
        unknown=site.trigger("all-subjects", nsd_root=NOWHERE, subject=[1]),
        output=output,
    )
    for flow_run in (submitted.no_dataset, submitted.unknown, submitted.synthetic):
        site.ended(flow_run)
    return submitted


class TestCompletedRun:
    def test_it_completes_and_its_files_are_there(self, site: Site, runs: Runs) -> None:
        assert site.ended(runs.synthetic)["type"] == "COMPLETED"
        manifest = json.loads((runs.output / "manifest.json").read_text())
        assert {f"Allen2022.{region}.nc" for region in ("V1", "IT")} <= set(manifest["outputs"])

    def test_its_page_shows_progress_inputs_checks_and_summary(
        self, site: Site, runs: Runs
    ) -> None:
        shown = site.artifacts(runs.synthetic, *PAGE)
        assert shown["03-progress"]["data"] == 100
        assert "synthetic" in shown["02-inputs"]["data"]
        assert str(runs.output) in shown["01-summary"]["data"]
        assert "failure" not in shown
        assert f"/artifacts/artifact/{shown['05-report']['id']}" in shown["01-summary"]["data"]
        assert (runs.output / "report" / "index.html").as_uri() in shown["01-summary"]["data"]
        tables = [
            json.loads(entry["data"])
            for entry in site.of_run("artifacts", runs.synthetic)
            if (entry["key"], entry["type"]) == ("04-all-checks", "table")
        ]
        written = pd.read_csv(runs.output / "checks.csv")
        assert [len(rows) for rows in tables] == [len(written)]
        assert {row["verdict"] for row in tables[0]} == set(written["verdict"])

    def test_every_task_run_is_recorded_by_its_name(self, site: Site, runs: Runs) -> None:
        trials = pd.read_csv(runs.output / "trials.csv")
        sessions = {
            f"extract-{subject}-session{session:02d}"
            for subject, session in trials.loc[trials["usable"], ["subject", "session"]].values
        }
        assert len(sessions) > 20
        others = {f"load-masks-subj{subject:02d}" for subject in (1, 2, 5)}
        others |= {"assemble-V1", "assemble-IT"}

        def all_ended() -> list[dict[str, Any]] | None:
            tasks = site.of_run("task_runs", runs.synthetic)
            here = {task["name"] for task in tasks} >= sessions | others
            return tasks if here and all(t["state_type"] in ENDED for t in tasks) else None

        tasks = until(all_ended, "a record of the end of every task")
        names = [task["name"] for task in tasks]
        assert {name for name in names if name.startswith("extract-")} == sessions
        assert len(names) == len(set(names))
        assert {task["state_type"] for task in tasks} == {"COMPLETED"}

    def test_its_log_is_short_and_without_errors(self, site: Site, runs: Runs) -> None:
        def last_line() -> bool:  # lines are sent when the run has ended, too
            return any(line["message"].startswith("Files: ") for line in site.logs(runs.synthetic))

        until(last_line, "the last line of the log")
        lines = site.logs(runs.synthetic)
        # On a busy machine a long stage says every few seconds how far it is.
        under_way = re.compile(r": (\d+ of \d+, )?\d+ s$")
        assert len([line for line in lines if not under_way.search(line["message"])]) <= 40
        said = "\n".join(line["message"] for line in lines)
        assert "assembling regions" in said
        assert re.search(r"^Checks: 0 failed, ", said, re.MULTILINE)
        assert not re.search("^Finished in state (Cached|Completed).*for task", said)
        assert [line["message"] for line in lines if line["level"] >= ERROR_LEVEL] == []


class TestDeployments:
    def test_a_worker_runs_the_files_that_lie_there(self, site: Site, worker: Path) -> None:
        shown = worker.read_text()
        assert "?" not in shown.replace("?v=", ""), "a question that nobody answers"
        for name in ("all-subjects", "four-subjects", "synthetic"):
            (step,) = site.deployment(name)["pull_steps"]
            assert step == {"nsd_prep.deployments.worker_folder": {}}

    @pytest.mark.usefixtures("worker")
    def test_a_worker_in_another_folder_of_another_user(self, site: Site, tmp_path: Path) -> None:
        """The checkout's folder is not there for it, nor is the home of who deployed."""
        deployed = yaml.safe_load((site.checkout / "deployments" / "prefect.yaml").read_text())
        (away,) = (one for one in deployed["deployments"] if one["name"] == "synthetic")
        away |= {"name": "elsewhere", "work_pool": {"name": "elsewhere"}}
        away["parameters"] |= {"subjects": [1, 2, 5], "regions": ["V1"], "check": True}
        away["schedules"] = []
        source, folder = tmp_path / "deployer", tmp_path / "worker"
        for made in (source, folder / "home"):
            made.mkdir(parents=True)
        (source / "prefect.yaml").write_text(yaml.safe_dump(deployed | {"deployments": [away]}))
        site.run(
            f"cd {source}\nprefect work-pool create elsewhere --type process\n"
            "prefect --no-prompt deploy --all"
        )
        shutil.rmtree(source)
        start = f"cd {folder}\nprefect worker start --pool elsewhere"
        home = str(folder / "home")
        with site.running("elsewhere", start, HOME=home, PREFECT_HOME=home, USER="other"):
            state = site.ended(site.trigger("elsewhere"))
        assert state["type"] == "COMPLETED", state["message"]
        assert (folder / "nsd-prep-output" / "synthetic-nsd").is_dir()

    @pytest.mark.usefixtures("worker")
    def test_the_version_is_the_package_s_and_wrong_parameters_are_refused(
        self, site: Site
    ) -> None:
        for name in ("all-subjects", "four-subjects", "synthetic", "package"):
            deployment = site.deployment(name, flow=FLOWS.get(name, "nsd-prep"))
            assert deployment["version"] == __version__
            assert deployment["enforce_parameter_schema"] is True


class TestEvent:
    @pytest.mark.usefixtures("worker")
    def test_a_run_of_all_subjects_starts_packaging(
        self, site: Site, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        (automation,) = [
            one
            for one in site.ask("POST", "/automations/filter", json={})
            if one["name"] == "package__automation_1"
        ]
        assert not automation["enabled"]
        place = f"/automations/{automation['id']}"
        site.answer("PATCH", place, json={"enabled": True}).raise_for_status()
        output = tmp_path / "output"
        try:
            flow_run = site.trigger(
                "all-subjects",
                nsd_root=str(tiny_nsd),
                output_dir=str(output),
                cache_dir=str(tmp_path / "cache"),
                subjects=[1, 2, 5],
                regions=["V1"],
                report=False,
            )
            assert site.ended(flow_run)["type"] == "COMPLETED"
            until((output / "packages" / "index.json").exists, "packages")
        finally:
            site.answer("PATCH", place, json={"enabled": False}).raise_for_status()
        question = {"filter": {"event": {"name": ["nsd-prep.assemblies.checked"]}}}
        events = site.ask("POST", "/events/filter", json=question)["events"]
        event, *_ = (one for one in events if one["payload"]["output_dir"] == str(output))
        assert event["resource"]["nsd-prep.verdict"] == "passed"
        assert event["resource"]["nsd-prep.brainscore"] == "yes"
        digest = blake3((output / "Allen2022.V1.nc").read_bytes()).hexdigest()
        assert event["payload"]["assemblies"]["Allen2022.V1.nc"] == digest
        written = pd.read_csv(output / "checks.csv")["verdict"].value_counts().to_dict()
        counted = {name: number for name, number in event["payload"]["checks"].items() if number}
        assert counted == written


class TestCancellation:
    @pytest.mark.usefixtures("worker")
    def test_a_cancelled_run_says_what_is_kept(self, site: Site, tmp_path: Path) -> None:
        flow_run = site.trigger("synthetic", output_dir=str(tmp_path / "output"))
        until(
            lambda: site.ask("GET", f"/flow_runs/{flow_run}")["state"]["type"] == "RUNNING",
            "a run under way",
        )
        state = {"type": "CANCELLING"}
        site.ask("POST", f"/flow_runs/{flow_run}/set_state", json={"state": state})
        assert site.ended(flow_run)["type"] == "CANCELLED"
        kept = site.artifacts(flow_run, "cancellation")["cancellation"]["data"]
        assert str(tmp_path / "output") in kept
        assert "resumes where this one stopped" in kept


class TestRunThatCannotBe:
    def test_a_root_that_is_no_dataset_fails_with_a_sentence(self, site: Site, runs: Runs) -> None:
        state = site.ended(runs.no_dataset)
        assert state["type"] == "FAILED"
        assert NOWHERE in state["message"]
        failure = site.artifacts(runs.no_dataset, "failure")["failure"]
        assert NOWHERE in failure["data"]
        assert site.of_run("task_runs", runs.no_dataset) == []
        assert not runs.output.with_name("never").exists()

    @pytest.mark.usefixtures("worker")
    def test_without_a_root_it_is_refused_at_submission(self, site: Site) -> None:
        answer = site.submit("four-subjects")
        assert answer.status_code == 409
        assert "'nsd_root' is a required property" in answer.text

    def test_an_unknown_parameter_ends_it_before_anything_runs(
        self, site: Site, runs: Runs
    ) -> None:
        assert site.ended(runs.unknown)["type"] in {"FAILED", "CRASHED"}
        assert site.of_run("task_runs", runs.unknown) == []
        assert any(re.search(r"\bsubject'?\b", line["message"]) for line in site.logs(runs.unknown))
        assert "Crashed" in site.artifacts(runs.unknown, "failure")["failure"]["data"]

    def test_someone_is_told_of_both(self, runs: Runs, messages: list[str], site: Site) -> None:
        names = [
            site.ask("GET", f"/flow_runs/{flow_run}")["name"]
            for flow_run in (runs.no_dataset, runs.unknown)
        ]
        pages = [
            f"{site.url.removesuffix('/api')}/runs/flow-run/{flow_run}"
            for flow_run in (runs.no_dataset, runs.unknown)
        ]

        def of_both() -> list[str]:  # a run that is retried or lost meanwhile is told of, too
            return [text for text in messages if any(map(text.endswith, pages))]

        until(lambda: len(of_both()) >= 2, "two messages")
        for name, page in zip(names, pages, strict=True):
            assert any(name in text and text.endswith(page) for text in of_both())
        assert any(NOWHERE in text for text in of_both())
        assert not any("None" in text for text in of_both())

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
    """The commands of docs/operating.md, word for word but for names of files and addresses."""

    def test_every_command_of_the_document_is_tested(self) -> None:
        assert sorted(commands("docs/operating.md")) == sorted(
            [
                "nsd-prep cache nsd-prep-output",
                "nsd-prep cache nsd-prep-output --clear",
                "python flows/nsd_flow.py --refresh",
                "prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api",
                "export PREFECT_SERVER_UI_API_URL=http://HOST:4300/api",
                "prefect --no-prompt server start --host 0.0.0.0 --port 4300",
                "prefect --no-prompt server start --host 0.0.0.0",
                "nsd-prep deployments",
                "prefect deployment run nsd-prep/four-subjects --param nsd_root=/data/nsd "
                "--param 'subjects=[1, 2, 5]' --param 'regions=[\"V1\", \"IT\"]' --watch",
                "python deployments/serve.py",  # the fixture 'served'
                "prefect flow-run retry RUN-ID",
                "prefect flow-run watch RUN-ID",
                "export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs",
                "export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=7776000",
                "prefect variable set nsd_root /data/nsd",
                "prefect automation resume package__automation_1",
                "prefect deployment schedule ls nsd-prep/all-subjects",
                "prefect deployment schedule resume nsd-prep/all-subjects SCHEDULE-ID",
                "python deployments/notify.py https://hooks.example.org/services/...",  # 'messages'
                "prefect automation create --from-file deployments/lost-runs.yaml",
            ]
        )

    def test_refresh_and_the_cache(self, site: Site, tiny_nsd: Path) -> None:
        site.run("python flows/nsd_flow.py --refresh", NSD_ROOT=str(tiny_nsd))
        assert (site.checkout / "nsd-prep-output" / "manifest.json").exists()
        assert "B" in site.run("nsd-prep cache nsd-prep-output")
        site.run("nsd-prep cache nsd-prep-output --clear")
        assert not (site.checkout / "nsd-prep-output" / "cache" / "responses").exists()

    def test_the_address_of_the_server_can_be_set_once_for_all(
        self, site: Site, tmp_path: Path
    ) -> None:
        away = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": ""}
        site.run("prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api", **away)
        assert "http://127.0.0.1:4200/api" in (tmp_path / "profiles.toml").read_text()

    def test_a_server_at_another_port_for_other_machines(self, site: Site, tmp_path: Path) -> None:
        port = free_port()
        start = (
            "export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs\n"
            "export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=7776000\n"
            f"export PREFECT_SERVER_UI_API_URL=http://127.0.0.1:{port}/api\n"
            f"prefect --no-prompt server start --host 0.0.0.0 --port {port}"
        )
        url = f"http://127.0.0.1:{port}"
        with site.running("other-server", start, PREFECT_HOME=str(tmp_path)):
            until(lambda: is_healthy(f"{url}/api"), "an answer of the server")
            assert site.client.get(f"{url}/ui-settings").json()["api_url"] == f"{url}/api"
            vacuum = site.client.get(f"{url}/api/admin/settings").json()
            vacuum = vacuum["server"]["services"]["db_vacuum"]
            assert sorted(vacuum["enabled"]) == ["events", "flow_runs"]
            assert vacuum["retention_period"] in (7776000, "P90D")

    def test_a_server_for_a_cluster(self, site: Site, tmp_path: Path) -> None:
        port = str(free_port())
        start = "prefect --no-prompt server start --host 0.0.0.0"
        home = {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_API_PORT": port}
        with site.running("cluster-server", start, **home):
            url = f"http://127.0.0.1:{port}/api"
            until(lambda: is_healthy(url), "an answer of the server")
        assert not (tmp_path / "profiles.toml").exists(), "it changes what later runs look for"

    def test_the_script_for_slurm(self, site: Site, tiny_nsd: Path, tmp_path: Path) -> None:
        pytest.importorskip("dask_jobqueue")
        text = (REPOSITORY / "docs" / "operating.md").read_text()
        (script,) = re.findall(r"^```python\n(.*?SLURMCluster.*?)^```$", text, re.M | re.S)
        for theirs, ours in (
            ("from dask_jobqueue import", "from slurm_stand_in import"),
            ('interface="ib0"', 'interface="lo"'),
            ("/scratch/nsd/data", str(tiny_nsd)),
            ("/scratch/nsd", str(tmp_path)),
            ("jobs=8", "jobs=2"),
            ("workers=8", "workers=2"),
        ):
            assert theirs in script
            script = script.replace(theirs, ours)
        (tmp_path / "cluster.py").write_text(script)
        (tmp_path / "logs").mkdir()
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        shown = site.run(f"python {tmp_path / 'cluster.py'}", seconds=300, PYTHONPATH=path)
        assert (tmp_path / "allen2022" / "manifest.json").is_file(), shown
        sessions = pd.read_csv(tmp_path / "allen2022" / "sessions.csv")
        assert set(sessions["subject"]) == {"subj01", "subj02", "subj05"}

    @pytest.mark.usefixtures("worker")
    def test_a_run_is_triggered_from_the_command_line(self, site: Site, tiny_nsd: Path) -> None:
        shown = site.run(
            f"prefect deployment run nsd-prep/four-subjects --param nsd_root={tiny_nsd} "
            "--param 'subjects=[1, 2, 5]' --param 'regions=[\"V1\", \"IT\"]' --watch"
        )
        assert "finished successfully" in shown
        assert (site.checkout / "nsd-prep-output" / "four-subjects" / "manifest.json").exists()

    def test_a_run_is_retried_and_watched(self, site: Site, runs: Runs) -> None:
        before = site.ask("GET", f"/flow_runs/{runs.no_dataset}")["run_count"]
        site.run(f"prefect flow-run retry {runs.no_dataset}")
        shown = site.run(f"prefect flow-run watch {runs.no_dataset}", status=1)
        assert "Failed" in shown

        def again() -> bool:
            after = site.ask("GET", f"/flow_runs/{runs.no_dataset}")
            return after["run_count"] > before and after["state"]["type"] == "FAILED"

        until(again, "another end of the run")

    @pytest.mark.usefixtures("worker")
    def test_the_root_is_a_variable_of_the_server(self, site: Site) -> None:
        deploy = "prefect --no-prompt deploy --prefect-file deployments/prefect.yaml --all"
        site.run(f"prefect variable set nsd_root /data/nsd\n{deploy}")
        try:
            for name in ("all-subjects", "four-subjects"):
                assert site.deployment(name)["parameters"]["nsd_root"] == "/data/nsd"
        finally:
            site.answer("DELETE", "/variables/name/nsd_root").raise_for_status()
            site.run(deploy)
        assert "nsd_root" not in site.deployment("all-subjects")["parameters"]

    @pytest.mark.usefixtures("worker")
    def test_packaging_is_switched_on(self, site: Site) -> None:
        def enabled() -> bool:
            listed = site.ask("POST", "/automations/filter", json={})
            (one,) = [each for each in listed if each["name"] == "package__automation_1"]
            return bool(one["enabled"])

        site.run("prefect automation resume package__automation_1")
        assert enabled()
        site.run("prefect automation pause package__automation_1")
        assert not enabled()

    @pytest.mark.usefixtures("worker")
    def test_a_schedule_is_switched_on(self, site: Site) -> None:
        (schedule,) = site.deployment("all-subjects")["schedules"]
        assert not schedule["active"]
        shown = site.run("prefect deployment schedule ls nsd-prep/all-subjects")
        assert schedule["id"] in shown
        site.run(f"prefect deployment schedule resume nsd-prep/all-subjects {schedule['id']}")
        (schedule,) = site.deployment("all-subjects")["schedules"]
        assert schedule["active"]
        site.run(f"prefect deployment schedule pause nsd-prep/all-subjects {schedule['id']}")

    @pytest.mark.parametrize("script", ["serve.py", "notify.py https://hooks.example.org"])
    @pytest.mark.parametrize(
        ("address", "sentence"),
        [
            ("", "error: No Prefect server is configured: start one"),
            ("http://127.0.0.1:9/api", "error: The Prefect server at http://127.0.0.1:9/api does"),
        ],
    )
    def test_without_a_server_there_is_a_sentence(
        self, site: Site, tmp_path: Path, script: str, address: str, sentence: str
    ) -> None:
        away = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": address, "DO_NOT_TRACK": ""}
        shown = site.run(f"python deployments/{script}", status=1, **away)
        assert shown.startswith(sentence)
        assert "Traceback" not in shown

    def test_a_run_whose_server_does_not_answer_ends_with_a_sentence(
        self, site: Site, tiny_nsd: Path, tmp_path: Path
    ) -> None:
        shown = site.run(
            f"python flows/nsd_flow.py --nsd-root {tiny_nsd} --output-dir {tmp_path / 'output'}",
            status=1,
            PREFECT_API_URL="http://127.0.0.1:9/api",
        )
        assert "error: The Prefect server at http://127.0.0.1:9/api does not" in shown
        assert "Traceback" not in shown

    def test_deployments_are_written_outside_the_repository(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.run(f"cd {tmp_path}\nnsd-prep deployments")
        assert (tmp_path / "deployments" / "prefect.yaml").exists()

    def test_runs_that_were_lost_can_be_watched_for(self, site: Site) -> None:
        site.run("prefect automation create --from-file deployments/lost-runs.yaml")
        (kept,) = [
            entry
            for entry in site.ask("POST", "/automations/filter", json={})
            if entry["name"] == "nsd-prep: a run was lost"
        ]
        assert kept["enabled"]
        assert [action["state"] for action in kept["actions"]] == ["CRASHED"]

    def test_a_run_that_pauses_or_waits_is_not_lost(self, site: Site) -> None:
        described = yaml.safe_load((site.checkout / "deployments" / "lost-runs.yaml").read_text())
        described["name"] = "the same, sooner"
        described["trigger"]["within"] = 30
        waiting = {"PAUSED": "Suspended", "SCHEDULED": "AwaitingRetry", "RUNNING": "Retrying"}
        runs = {name: running_flow_run(site) for name in (*waiting.values(), "lost")}
        quick = site.ask("POST", "/automations/", json=described)["id"]
        try:
            for flow_run in runs.values():
                emit_event(site, flow_run, "heartbeat")
            for kind, name in waiting.items():
                set_state(site, runs[name], kind, name)
                emit_event(site, runs[name], name)
            lost = site.ended(runs["lost"])
            for name in waiting.values():
                assert prefect_said(site, runs[name], name)
            states = {
                name: site.ask("GET", f"/flow_runs/{flow_run}")["state"]["name"]
                for name, flow_run in runs.items()
            }
        finally:
            site.answer("DELETE", f"/automations/{quick}").raise_for_status()
        assert "No sign of life" in lost["message"]
        assert states == {name: name for name in waiting.values()} | {"lost": "Crashed"}

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
        state = site.ended(flow_run)
        assert state["type"] == "COMPLETED", served.read_text(errors="replace")[-5000:]
        assert (tmp_path / "output" / "manifest.json").exists()


def running_flow_run(site: Site) -> str:
    """Return the id of a run of the flow that the server takes for running, with nothing behind."""
    flow = site.ask("POST", "/flows/", json={"name": "nsd-prep"})["id"]
    state = {"type": "RUNNING", "name": "Running"}
    return str(site.ask("POST", "/flow_runs/", json={"flow_id": flow, "state": state})["id"])


def set_state(site: Site, flow_run: str, kind: str, name: str) -> None:
    """Let a run say in which state it is."""
    details = {"scheduled_time": "2100-01-01T00:00:00Z"} if kind == "SCHEDULED" else {}
    state = {"type": kind, "name": name, "state_details": details}
    answer = site.ask(
        "POST", f"/flow_runs/{flow_run}/set_state", json={"state": state, "force": True}
    )
    assert answer["status"] == "ACCEPT"


def prefect_said(site: Site, flow_run: str, name: str) -> bool:
    """Return whether Prefect itself said that a run has come to a state."""
    asked = {
        "event": {"name": [f"prefect.flow-run.{name}"]},
        "resource": {"id": [f"prefect.flow-run.{flow_run}"]},
    }
    events = site.ask("POST", "/events/filter", json={"filter": asked})["events"]
    return any("validated_state" in event["payload"] for event in events)


def emit_event(site: Site, flow_run: str, name: str) -> None:
    """Let something be heard of a run of the flow, as Prefect says it, and be taken in."""
    sent = {
        "event": f"prefect.flow-run.{name}",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run}"},
        "related": [
            {
                "prefect.resource.id": "prefect.flow.any",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "nsd-prep",
            }
        ],
        "payload": {},
        "id": str(uuid.uuid4()),
    }
    site.answer("POST", "/events", json=[sent]).raise_for_status()
    time.sleep(1)


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
            flow_run = site.scheduled_run(deployment_id)
            state = site.ended(flow_run)
        assert state["type"] == "COMPLETED", log.read_text(errors="replace")[-5000:]
