"""Assembly: the averaged responses of each region, the split, and the tables beside them."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import stages
from nsd_prep.run import AssemblyRecord, Extracted, Run, TrialsRecord


@task(name="assemble-region", task_run_name="assemble-{region}", cache_policy=NO_CACHE)
def assemble_region(run: Run, extracted: Path, region: str) -> AssemblyRecord:
    """Average a region's responses and write its assembly."""
    return stages.assemble_region(run, Extracted.read(extracted), region)


@task(name="split-images", cache_policy=NO_CACHE)
def split_images(run: Run, trials: TrialsRecord) -> Path:
    """Write which images are train and which are test."""
    return stages.split_images(run, trials)


@task(name="tabulate-voxels", cache_policy=NO_CACHE)
def tabulate_voxels(run: Run, extracted: Path) -> None:
    """Write the tables of neuroids and of noise ceilings."""
    stages.tabulate_voxels(run, Extracted.read(extracted))
