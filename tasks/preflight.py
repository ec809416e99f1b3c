"""Preflight: all that is wrong with the inputs, said at once."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from nsd_prep.preflight import Preflight
from nsd_prep.preflight import check_inputs as check_inputs_of
from nsd_prep.run import Run
from nsd_prep.tasks.policy import TRY_AGAIN


@task(name="preflight", cache_policy=NO_CACHE, **TRY_AGAIN)
def check_inputs(run: Run) -> Preflight:
    """Look for, open and check every file that the run needs."""
    return check_inputs_of(run)
