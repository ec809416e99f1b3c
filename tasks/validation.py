"""Validation: the files as they were written, and the data themselves."""

from prefect import task

from nsd_prep.stages import examination, validation
from nsd_prep.tasks.policy import cached

validate = task(name="validate", **cached())(validation.validate)
check_subjects = task(name="check-subjects", **cached())(examination.check_subjects)
examine = task(name="examine", **cached())(examination.examine)
check_stimuli = task(name="check-stimuli", **cached())(examination.check_stimuli)
