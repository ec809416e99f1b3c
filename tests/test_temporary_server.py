"""The module that starts a run's server, before Prefect is imported."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["nsd_prep.flows.server", "nsd_prep.deployments.notify"])
def test_is_imported_without_prefect(module: str) -> None:
    """Importing Prefect takes seconds, and reads whether telemetry is off."""
    program = f"import {module}, sys; print('prefect' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert ran.stdout == b"False\n"
