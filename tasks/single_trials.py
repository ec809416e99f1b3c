"""Single trials: all trials of a subject in a file."""

from prefect import task

from nsd_prep.stages import single_trials
from nsd_prep.tasks.policy import cached

write_single_trials = task(
    name="write-single-trials",
    task_run_name="write-single-trials-subj{subject.subject:02d}",
    **cached(),
)(single_trials.write_single_trials)
