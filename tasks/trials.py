"""Trials: which image was shown when, and which images are usable."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep import stages
from nsd_prep.run import Run, TrialsRecord
from nsd_prep.tasks.policy import TRY_AGAIN


@task(name="map-trials", cache_policy=NO_CACHE, **TRY_AGAIN)
def map_trials(run: Run) -> TrialsRecord:
    """Find the trials of the shared images."""
    return stages.map_trials(run)
