"""The first look: trials, masks and noise ceilings, loaded and checked."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from prefect import Task, task, unmapped

from nsd_prep.pipeline import loading
from nsd_prep.pipeline.preflight import Steps
from nsd_prep.pipeline.run import Run
from nsd_prep.tasks.policy import LOADED

map_trials = task(name="map-trials", **LOADED)(loading.map_trials)
load_masks = task(name="load-masks", task_run_name="load-masks-subj{subject:02d}", **LOADED)(
    loading.load_masks
)
load_noise_ceilings = task(
    name="load-noise-ceilings", task_run_name="load-noise-ceilings-subj{subject:02d}", **LOADED
)(loading.load_noise_ceilings)


def _mapped(
    step: Callable[..., Any], run: Run, arguments: Iterable[Any]
) -> list[Callable[[], Any]]:
    assert isinstance(step, Task)
    return [future.result for future in step.map(unmapped(run), list(arguments))]


#: The first look as tasks, for `nsd_prep.pipeline.preflight.load_inputs`.
STEPS: Final = Steps(map_trials, load_masks, load_noise_ceilings, _mapped)
