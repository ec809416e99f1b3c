"""Single trials: all trials of a subject in a file, checked, and on a page of their own."""

from collections.abc import Mapping, Sequence

from prefect import task

from nsd_prep.core.check import Check
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.pipeline.steps import single_trials
from nsd_prep.pipeline.steps.single_trials import SubjectTrials
from nsd_prep.single_trials.subject import SingleTrialOptions
from nsd_prep.tasks.policy import cached

write_single_trials = task(
    name="write-single-trials",
    task_run_name="write-single-trials-subj{subject.subject:02d}",
    **cached(),
)(single_trials.write_single_trials)

examine_single_trials = task(
    name="examine-single-trials",
    task_run_name="examine-single-trials-subj{subject.subject:02d}",
    **cached(2),
)(single_trials.examine_single_trials)


@task(name="write-single-trials-report", **cached())
def write_single_trials_report(
    subjects: Sequence[SubjectTrials],
    options: SingleTrialOptions,
    written: Mapping[int, StepOutput],
    examined: Mapping[int, StepOutput],
    checks: Sequence[Check],
    place: str,
    folder: Folder,
) -> StepOutput:
    """Write the report; what draws is imported only where it is needed."""
    from nsd_prep.pipeline.steps.single_trials_report import write_single_trials_report

    return write_single_trials_report(subjects, options, written, examined, checks, place, folder)
