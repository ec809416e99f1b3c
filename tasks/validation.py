"""Validation: the files as they were written, and the data themselves."""

from prefect import task

from nsd_prep.pipeline.steps import checks as examination
from nsd_prep.pipeline.steps import checks as validation
from nsd_prep.tasks.policy import cached

validate = task(name="validate", **cached())(validation.validate)
check_subjects = task(name="check-subjects", **cached())(examination.check_subjects)
# Version 2: with pandas below 3 reliability.csv had the correlations of other voxels.
examine = task(name="examine", **cached(2))(examination.examine)
check_stimuli = task(name="check-stimuli", **cached())(examination.check_stimuli)
