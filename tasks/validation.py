"""Validation: what was written is read back and checked, and the manifest closes the run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import stages
from nsd_prep.checks import Check
from nsd_prep.preflight import Preflight
from nsd_prep.run import Extracted, Run, TrialsRecord
from nsd_prep.tasks.policy import TRY_AGAIN


@task(name="validate", cache_policy=NO_CACHE, **TRY_AGAIN)
def validate(run: Run, extracted: Path) -> list[Check]:
    """Check the files that were written."""
    return stages.validate(run, Extracted.read(extracted))


@task(name="write-manifest", cache_policy=NO_CACHE, **TRY_AGAIN)
def write_manifest(
    run: Run,
    preflight: Preflight,
    trials: TrialsRecord,
    further_files: Sequence[Path],
    seconds: Mapping[str, float],
) -> Path:
    """Write what was made from what."""
    return stages.write_manifest(run, preflight, trials, further_files, seconds)
