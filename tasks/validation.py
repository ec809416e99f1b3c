"""Validation: the files as they were written, and the data themselves."""

from prefect import task

from nsd_prep.pipeline.steps import checks as examination
from nsd_prep.pipeline.steps import checks as validation
from nsd_prep.tasks.policy import cached

# Checks are data since the second versions (the third of `examine`).
validate = task(name="validate", **cached(2))(validation.validate)
check_subjects = task(name="check-subjects", **cached(2))(examination.check_subjects)
# Before version 2, with pandas below 3, reliability.csv had the correlations of other voxels.
examine = task(name="examine", **cached(3))(examination.examine)
check_stimuli = task(name="check-stimuli", **cached(2))(examination.check_stimuli)
