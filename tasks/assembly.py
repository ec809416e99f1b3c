"""Assembly: the averaged responses of each region, the split, and the tables beside them."""

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import stages
from nsd_prep.extraction import SessionRecord
from nsd_prep.run import AssemblyRecord, MasksRecord, NoiseCeilingsRecord, Run, TrialsRecord


@task(name="assemble-region", task_run_name="assemble-{region}", cache_policy=NO_CACHE)
def assemble_region(
    run: Run,
    region: str,
    masks: Sequence[MasksRecord],
    trials: TrialsRecord,
    noise_ceilings: Sequence[NoiseCeilingsRecord],
    sessions: Sequence[SessionRecord],
) -> AssemblyRecord:
    """Average a region's responses and write its assembly."""
    return stages.assemble_region(run, region, masks, trials, noise_ceilings, sessions)


@task(name="split-images", cache_policy=NO_CACHE)
def split_images(run: Run, trials: TrialsRecord) -> Path:
    """Write which images are train and which are test."""
    return stages.split_images(run, trials)


@task(name="tabulate-voxels", cache_policy=NO_CACHE)
def tabulate_voxels(
    run: Run,
    masks: Sequence[MasksRecord],
    noise_ceilings: Sequence[NoiseCeilingsRecord],
    sessions: Sequence[SessionRecord],
) -> None:
    """Write the tables of neuroids and of noise ceilings."""
    stages.tabulate_voxels(run, masks, noise_ceilings, sessions)
