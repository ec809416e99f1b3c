"""Masks: the voxels of a subject's regions."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import stages
from nsd_prep.run import MasksRecord, Run
from nsd_prep.tasks.policy import TRY_AGAIN


@task(
    name="load-masks",
    task_run_name="load-masks-subj{subject:02d}",
    cache_policy=NO_CACHE,
    **TRY_AGAIN,
)
def load_masks(run: Run, subject: int) -> MasksRecord:
    """Find the voxels of a subject's regions."""
    return stages.load_masks(run, subject)
