"""Packages for Brain-Score of what a run has written, as a flow that another run can start."""

from pathlib import Path
from typing import Any

from prefect import flow

from nsd_prep import __version__
from nsd_prep.assemblies.brainscore.package import package_output, packages_folder
from nsd_prep.core.parameters import Suffix
from nsd_prep.tasks.artifacts import leave_cancelled_packages, leave_failure


@flow(
    name="nsd-prep-package",
    version=__version__,
    on_failure=[leave_failure],
    on_crashed=[leave_failure],
    on_cancellation=[leave_cancelled_packages],
)
def package_flow(output_dir: Path, suffix: Suffix = "", replace: bool = False) -> dict[str, Any]:
    """Package a run's output for Brain-Score, as the command ``nsd-prep package`` does.

    Args:
        output_dir: Output folder of a run, whose checks have passed.
        suffix: The run's.
        replace: Replace packages of other data, or of more subjects or regions.
    """
    target = packages_folder(output_dir, suffix)
    index = package_output(output_dir, target, suffix=suffix, replace=replace)
    return {"packages": str(target), "sha1": {file.file: file.sha1 for file in index.files}}
