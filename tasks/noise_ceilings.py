"""Noise ceilings: the ncsnr of the voxels of a subject's regions."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import stages
from nsd_prep.run import MasksRecord, NoiseCeilingsRecord, Run
from nsd_prep.tasks.policy import TRY_AGAIN


@task(
    name="load-noise-ceilings",
    task_run_name="load-noise-ceilings-subj{masks.subject:02d}",
    cache_policy=NO_CACHE,
    **TRY_AGAIN,
)
def load_noise_ceilings(run: Run, masks: MasksRecord) -> NoiseCeilingsRecord:
    """Read the ncsnr of a subject's voxels."""
    return stages.load_noise_ceilings(run, masks)
