"""The module that starts a run's server, before Prefect is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from nsd_prep.core.errors import OutputError
from nsd_prep.flows.server import temporary_server


@pytest.mark.parametrize("module", ["nsd_prep.flows.server", "nsd_prep.deployments.notify"])
def test_is_imported_without_prefect(module: str) -> None:
    """Importing Prefect takes seconds, and reads whether telemetry is off."""
    program = f"import {module}, sys; print('prefect' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert ran.stdout == b"False\n"


@pytest.mark.filterwarnings("ignore:Failed to create the Prefect home")
def test_a_server_that_cannot_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr("nsd_prep.flows.server._may_be_configured", lambda: False)
    monkeypatch.setattr("nsd_prep.flows.server._configured", lambda: False)
    with (
        temporary_server() as wait_until_it_answers,
        pytest.raises(
            OutputError, match=r"could not start \(exit status 3: .*unable to open database file"
        ),
    ):
        wait_until_it_answers()
