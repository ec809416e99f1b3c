"""The deployments: what they give the flow, and that both ways of running them are the same."""

import importlib.util
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.server.events.schemas.automations import EventTrigger, Posture
from prefect.settings.models.flows import FlowsSettings
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from nsd_prep import __version__
from nsd_prep.core.errors import OutputError
from nsd_prep.core.parameters import GROUPS
from nsd_prep.deployments import worker_folder, write_deployments
from nsd_prep.flows.nsd_flow import nsd_flow
from nsd_prep.flows.package_flow import package_flow
from nsd_prep.flows.recording import without_success_lines
from nsd_prep.pipeline.summary import Summary
from nsd_prep.tasks.artifacts import CHECKED, emit_checked

DEPLOYMENTS = Path(__file__).resolve().parents[1] / "deployments"


@pytest.fixture(scope="module")
def described() -> dict[str, dict[str, Any]]:
    """Return what the file of ``prefect deploy`` says of each deployment."""
    listed = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())["deployments"]
    return {deployment["name"]: deployment for deployment in listed}


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    """Return the script that serves the deployments, as a module."""
    spec = importlib.util.spec_from_file_location("serve", DEPLOYMENTS / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_real_ones_name_their_subjects_and_leave_the_root_to_people(
    described: dict[str, dict[str, Any]],
) -> None:
    real = {
        name: deployment["parameters"]
        for name, deployment in described.items()
        if "subjects" in deployment.get("parameters", {})
    }
    assert {name: deployment["subjects"] for name, deployment in real.items()} == {
        "all-subjects": [1, 2, 3, 4, 5, 6, 7, 8],
        "four-subjects": [1, 2, 5, 7],
    }
    variable = "{{ dataset.nsd_root }}"
    assert [deployment["nsd_root"] for deployment in real.values()] == [variable, variable]


def test_without_a_root_a_run_is_refused_by_the_schema_of_the_form() -> None:
    schema = parameter_schema(nsd_flow).model_dump_for_openapi()
    with pytest.raises(ValidationError, match="'nsd_root' is a required property"):
        validate({"subjects": [1]}, schema, raise_on_error=True)
    with pytest.raises(ValidationError, match=r"field 'nsd_root'.*non-empty"):
        validate({"nsd_root": ""}, schema, raise_on_error=True)
    for root in ({"nsd_root": "/data/nsd"}, {"nsd_root": None, "synthetic": True}):
        validate(root, schema, raise_on_error=True)
    assert nsd_flow.validate_parameters({"synthetic": True})["synthetic"]  # from Python


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"subjects": []}, r"field 'subjects'.*non-empty"),
        ({"subjects": [1, 1]}, "field 'subjects'.*non-unique"),
        ({"subjects": [9]}, r"field 'subjects\[0\]'.*is not one of"),
        ({"regions": ["V1", "V1"]}, "field 'regions'.*non-unique"),
        ({"regions": ["V9"]}, r"field 'regions\[0\]'.*is not one of"),
        ({"output_dir": ""}, r"field 'output_dir'.*non-empty"),
    ],
)
def test_a_value_that_no_run_could_take_is_refused_at_submission(
    wrong: dict[str, Any], sentence: str
) -> None:
    schema = parameter_schema(nsd_flow).model_dump_for_openapi()
    with pytest.raises(ValidationError, match=sentence):
        validate({"nsd_root": "/data/nsd"} | wrong, schema, raise_on_error=True)


def test_no_built_in_region_is_a_choice_where_there_are_others() -> None:
    schema = parameter_schema(nsd_flow).model_dump_for_openapi()
    own = {"nsd_root": "/data/nsd", "regions": [], "regions_file": "regions.toml"}
    validate(own, schema, raise_on_error=True)


def test_the_root_is_filled_in_where_it_is_known(serve: ModuleType) -> None:
    described = serve.described_deployments()
    for root, expected in (({"nsd_root": "/data/nsd"}, ["/data/nsd"] * 2), ({}, [])):
        filled = [one.get("parameters", {}) for one in serve.with_root(described, root)]
        assert [one["nsd_root"] for one in filled if one.get("nsd_root")] == expected
    assert "nsd_root" not in filled[0]


def test_the_form_has_titles_in_words_and_what_matters_first() -> None:
    fields = parameter_schema(nsd_flow).properties
    in_order = sorted(fields, key=lambda name: fields[name]["position"])
    assert in_order == [name for names in GROUPS.values() for name in names]
    assert in_order[:3] == ["nsd_root", "subjects", "regions"]
    titles = [fields[name]["title"] for name in in_order]
    assert len(set(titles)) == len(titles)
    assert not any("_" in title or title[0].islower() for title in titles)
    unset = [
        choice["title"]
        for field in fields.values()
        for choice in field.get("anyOf", [])
        if choice["type"] == "null"
    ]
    assert len(unset) == sum(field.get("default") is None for field in fields.values())
    assert "None" not in unset


def test_what_a_worker_does_first_is_to_go_to_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir("/")  # and back, in the end
    monkeypatch.setattr("nsd_prep.deployments.folder_of_parent", lambda: None)
    for folder in ("", "here", str(tmp_path / "gone")):
        monkeypatch.setenv("PWD", folder)
        with pytest.raises(OutputError, match=f"found '{folder}'; start the worker from a shell"):
            worker_folder()
    monkeypatch.setenv("PWD", str(tmp_path))
    assert worker_folder() == {"directory": str(tmp_path)}
    assert Path.cwd() == tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells in which folder a process is")
def test_a_worker_s_own_folder_counts_and_not_that_of_the_shell_which_started_it(
    tmp_path: Path,
) -> None:
    worker, shell, run = (tmp_path / name for name in ("worker", "shell", "run"))
    for folder in (worker, shell, run):
        folder.mkdir()
    step = (
        "from nsd_prep.deployments import worker_folder\n"
        "try: print(worker_folder()['directory'])\n"
        "except Exception as error: print(error)"
    )
    started = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {step!r}], cwd={str(run)!r}, check=True)"
    )

    def folder_found(**environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", started],
            cwd=worker,
            env={name: value for name, value in os.environ.items() if name != "PWD"} | environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert folder_found() == folder_found(PWD=str(worker)) == str(worker)
    assert folder_found(PWD=str(shell)).startswith(
        f"The worker was started in {worker}, while PWD is '{shell}': "
    )


def test_lines_of_tasks_that_are_well_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("prefect.task_runs")
    caplog.set_level(logging.INFO, "prefect.task_runs")
    logger.addHandler(caplog.handler)
    try:
        with without_success_lines():
            logger.info("Finished in state Completed()")
            logger.info("Finished in state Cached(type=COMPLETED)")
            logger.info("Finished in state Failed()")
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"Finished in state Failed()"}


@pytest.mark.parametrize(
    ("given", "deployment_id", "name"),
    [
        ("Pilot, second try", "an id", "Pilot, second try"),
        ("tau29-legara", "an id", "nsd: subjects 1, 2; V1 (tau29-legara)"),
        ("nsd: subjects 1, 2; V1 (tau29-legara)", "an id", "nsd: subjects 1, 2; V1 (tau29-legara)"),
        ("vivid-horned-owl", "an id", "nsd: subjects 1, 2; V1 (vivid-horned-owl)"),
        ("pi17-barad-dur-ring", "an id", "nsd: subjects 1, 2; V1 (pi17-barad-dur-ring)"),
        ("xi4--point", "an id", "nsd: subjects 1, 2; V1 (xi4--point)"),
        ("omega512", "an id", "nsd: subjects 1, 2; V1 (omega512)"),
        ("V1-with-the-new-mask", "an id", "V1-with-the-new-mask"),
        ("tau29-legara", None, "nsd: subjects 1, 2; V1"),
    ],
)
def test_the_name_that_a_person_gives_is_kept(
    monkeypatch: pytest.MonkeyPatch, given: str, deployment_id: str | None, name: str
) -> None:
    parameters = {"nsd_root": "/data/nsd", "subjects": [1, 2], "regions": ["V1"]}
    for name_of_it, fields in (
        ("flow_run", {"name": given, "parameters": parameters}),
        ("deployment", {"id": deployment_id}),
    ):
        module = f"nsd_prep.flows.nsd_flow.{name_of_it}"
        monkeypatch.setattr(module, SimpleNamespace(**fields))
    assert nsd_flow.flow_run_name() == name


def test_the_synthetic_one_says_so_and_writes_elsewhere(
    described: dict[str, dict[str, Any]],
) -> None:
    assert described["synthetic"]["parameters"]["synthetic"] is True
    folders = [
        deployment["parameters"]["output_dir"]
        for deployment in described.values()
        if "parameters" in deployment
    ]
    assert len(set(folders)) == len(folders) == 3


def test_the_flow_takes_their_parameters(described: dict[str, dict[str, Any]]) -> None:
    for deployment in described.values():
        flow = load_flow_from_entrypoint(deployment["entrypoint"])
        parameters = deployment.get("parameters", {})
        assert parameters.keys() <= flow.parameters.properties.keys()
        if parameters:
            flow.validate_parameters(parameters)
        assert deployment["enforce_parameter_schema"] is True
        assert flow.version == __version__


def test_schedules_are_weekly_and_wait_to_be_switched_on(
    described: dict[str, dict[str, Any]],
) -> None:
    for name, deployment in described.items():
        assert deployment["concurrency_limit"] == 1
        if name == "package":
            (trigger,) = deployment["triggers"]
            assert trigger["enabled"] is False
            assert trigger["expect"] == [CHECKED]
            assert trigger["match"] == {
                "nsd-prep.verdict": "passed",
                "nsd-prep.brainscore": "yes",  # there is nothing to package otherwise
            }
            continue
        (schedule,) = deployment["schedules"]
        assert schedule["active"] is False
        assert schedule["timezone"]
        minute, hour, *day_and_month, weekday = schedule["cron"].split()
        assert day_and_month == ["*", "*"]
        assert all(part.isdigit() for part in (minute, hour, weekday))


def test_serving_offers_the_same_under_names_of_its_own(
    described: dict[str, dict[str, Any]], serve: ModuleType
) -> None:
    served = {
        deployment.name.removesuffix("-served"): deployment
        for deployment in serve.served_deployments(serve.described_deployments())
    }
    assert served.keys() == described.keys()
    assert not {deployment.name for deployment in served.values()} & described.keys()
    for name, deployment in described.items():
        assert served[name].parameters == deployment.get("parameters", {})
        assert served[name].description == deployment["description"]
        assert served[name].tags == deployment["tags"]
        assert served[name].concurrency_limit == deployment["concurrency_limit"]
        if "schedules" not in deployment:
            assert not served[name].schedules
            continue
        (schedule,) = served[name].schedules
        assert not schedule.active
        assert schedule.schedule.cron == deployment["schedules"][0]["cron"]
        assert schedule.schedule.timezone == deployment["schedules"][0]["timezone"]


def test_an_empty_field_is_not_the_current_folder() -> None:
    empty = {"nsd_root": "", "cache_dir": "", "regions_file": ""}
    given = nsd_flow.validate_parameters(empty)
    assert [given[name] for name in empty] == [None, None, None]
    with pytest.raises(Exception, match="output_dir"):
        nsd_flow.validate_parameters({"output_dir": ""})


def test_they_are_written_where_they_can_be_edited(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deployments"
    for _ in range(2):  # what is there already, unchanged, is no obstacle
        written = write_deployments(folder)
        assert {path.name: path.read_bytes() for path in written} == {
            path.name: path.read_bytes()
            for path in DEPLOYMENTS.iterdir()
            if path.suffix in (".py", ".yaml") and path.name != "__init__.py"
        }
        assert sorted(folder.iterdir()) == sorted(written)


def test_an_edited_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("name: mine\n")
    with pytest.raises(OutputError, match=r"prefect\.yaml already exists and differs"):
        write_deployments(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prefect.yaml"]
    assert (tmp_path / "prefect.yaml").read_text() == "name: mine\n"


def test_the_one_for_containers_reads_the_bucket_and_keeps_what_it_writes() -> None:
    (one,) = yaml.safe_load((DEPLOYMENTS / "docker.yaml").read_text())["deployments"]
    assert load_flow_from_entrypoint(one["entrypoint"]) is nsd_flow
    given = nsd_flow.validate_parameters(one["parameters"])
    assert given["nsd_root"] == "s3://natural-scenes-dataset"
    assert not given["accept_nsd_terms"], "people accept terms, not files"
    image = (DEPLOYMENTS.parent / "Dockerfile").read_text()
    folder = re.search(r"^WORKDIR (/srv/.*)$", image, re.MULTILINE)[1]
    assert [volume.split(":")[1] for volume in one["work_pool"]["job_variables"]["volumes"]] == [
        folder
    ]
    assert f"PWD={folder}" in image  # where the step before a run goes
    assert not any(Path(given[name]).is_absolute() for name in ("output_dir", "cache_dir"))


def test_their_entrypoint_is_the_installed_flow(described: dict[str, dict[str, Any]]) -> None:
    flows = {
        name: load_flow_from_entrypoint(deployment["entrypoint"])
        for name, deployment in described.items()
    }
    assert flows.pop("package") is package_flow
    assert all(flow is nsd_flow for flow in flows.values())


BRAINSCORE = {
    f"brainscore/{name}": "digest"
    for name in (
        "Allen2022_fmri_train.nc",
        "Allen2022_fmri_test.nc",
        "stimulus_metadata_train.csv",
        "stimulus_metadata_test.csv",
    )
}


@pytest.mark.parametrize(
    ("files", "assemblies", "can_be_packaged"),
    [
        ({"subj01.nc": "digest", "images.csv": "digest"}, [], None),
        ({"trials/subj01.nc": "digest", "Allen2022.V1.nc": "digest"}, ["Allen2022.V1.nc"], "no"),
        (
            {"trials/subj01.nc": "digest", "Allen2022_surface.V1.nc": "digest"} | BRAINSCORE,
            ["Allen2022_surface.V1.nc", *[name for name in BRAINSCORE if name.endswith(".nc")]],
            "yes",
        ),
    ],
)
def test_only_assemblies_are_announced_and_whether_they_can_be_packaged(
    files: dict[str, str],
    assemblies: list[str],
    can_be_packaged: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "nsd_prep.tasks.artifacts.emit_event", lambda _, **event: events.append(event)
    )
    checks = pd.DataFrame({"verdict": ["passed", "passed"]})
    emit_checked(Summary(tmp_path, "", [], [], files, checks, 1.0))
    if can_be_packaged is None:
        assert not events
        return
    (event,) = events
    assert list(event["payload"]["assemblies"]) == assemblies
    assert event["resource"]["nsd-prep.brainscore"] == can_be_packaged
    assert event["resource"]["nsd-prep.verdict"] == "passed"


def test_a_run_is_not_lost_while_prefect_sends_its_heartbeats_as_it_does_by_default() -> None:
    described = yaml.safe_load((DEPLOYMENTS / "lost-runs.yaml").read_text())["trigger"]
    between = FlowsSettings.model_fields["heartbeat_frequency"].default
    assert described["within"] >= 3 * between  # two may be lost
    for file in ("prefect.yaml", "docker.yaml"):
        assert "HEARTBEAT" not in (DEPLOYMENTS / file).read_text(), "one number everywhere"


def test_whatever_is_heard_of_a_run_but_a_task_of_it_counts_as_a_sign_of_life() -> None:
    described = yaml.safe_load((DEPLOYMENTS / "lost-runs.yaml").read_text())["trigger"]
    trigger = EventTrigger.model_validate(described)
    assert trigger.posture is Posture.Proactive
    assert trigger.starts_after("prefect.flow-run.heartbeat")
    heard = ("heartbeat", "Suspended", "Paused", "AwaitingRetry", "Retrying", "Completed", "Failed")
    assert all(trigger.expects(f"prefect.flow-run.{name}") for name in heard)
    assert not trigger.expects("prefect.task-run.Completed")
