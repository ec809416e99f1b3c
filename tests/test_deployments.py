"""The deployments: what they give the flow, and that both ways of running them are the same."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from nsd_prep.core.errors import OutputError
from nsd_prep.deployments import write_deployments
from nsd_prep.flows.nsd_flow import nsd_flow

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
        if not deployment["parameters"].get("synthetic")
    }
    assert {name: deployment["subjects"] for name, deployment in real.items()} == {
        "all-subjects": [1, 2, 3, 4, 5, 6, 7, 8],
        "four-subjects": [1, 2, 5, 7],
    }
    assert [deployment["nsd_root"] for deployment in real.values()] == [None, None]


def test_the_synthetic_one_says_so_and_writes_elsewhere(
    described: dict[str, dict[str, Any]],
) -> None:
    assert described["synthetic"]["parameters"]["synthetic"] is True
    folders = [deployment["parameters"]["output_dir"] for deployment in described.values()]
    assert len(set(folders)) == len(folders) == 3


def test_the_flow_takes_their_parameters(described: dict[str, dict[str, Any]]) -> None:
    for deployment in described.values():
        assert deployment["parameters"].keys() <= nsd_flow.parameters.properties.keys()
        nsd_flow.validate_parameters(deployment["parameters"])


def test_schedules_are_weekly_and_wait_to_be_switched_on(
    described: dict[str, dict[str, Any]],
) -> None:
    for deployment in described.values():
        (schedule,) = deployment["schedules"]
        assert schedule["active"] is False
        assert schedule["timezone"]
        minute, hour, *day_and_month, weekday = schedule["cron"].split()
        assert day_and_month == ["*", "*"]
        assert all(part.isdigit() for part in (minute, hour, weekday))
        assert deployment["concurrency_limit"] == 1


def test_serving_offers_the_same_under_names_of_its_own(
    described: dict[str, dict[str, Any]], serve: ModuleType
) -> None:
    served = {
        deployment.name.removesuffix("-served"): deployment
        for deployment in serve.served_deployments(nsd_flow)
    }
    assert served.keys() == described.keys()
    assert not {deployment.name for deployment in served.values()} & described.keys()
    for name, deployment in described.items():
        assert served[name].parameters == deployment["parameters"]
        assert served[name].description == deployment["description"]
        assert served[name].tags == deployment["tags"]
        assert served[name].concurrency_limit == deployment["concurrency_limit"]
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
    with pytest.raises(OutputError, match=r"prefect\.yaml is there already, and differs"):
        write_deployments(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prefect.yaml"]
    assert (tmp_path / "prefect.yaml").read_text() == "name: mine\n"


def test_their_entrypoint_is_the_installed_flow(described: dict[str, dict[str, Any]]) -> None:
    for deployment in described.values():
        assert load_flow_from_entrypoint(deployment["entrypoint"]) is nsd_flow
