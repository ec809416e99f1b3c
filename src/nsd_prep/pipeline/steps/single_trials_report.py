"""The report of single trials: a page of its own, with each subject's trials and voxels."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from nsd_prep import __version__
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check
from nsd_prep.core.counts import counted
from nsd_prep.core.digests import read_table
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.dataset.trials import shows_images
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.steps.single_trials import SubjectTrials, responses_file
from nsd_prep.report.figures.single_trials import (
    draw_one_voxel,
    draw_reliability,
    draw_trials_by_session,
    trial_count_table,
)
from nsd_prep.report.methods import ALLEN_2022, listed
from nsd_prep.report.record import Report, Section, Table
from nsd_prep.report.write import write_report_files
from nsd_prep.single_trials.normalise import UNITS
from nsd_prep.single_trials.reading import open_single_trials
from nsd_prep.single_trials.subject import SingleTrialOptions

#: Of the table of sessions so much is on the page; all of it is in its file.
_COLUMNS_SHOWN, _SESSIONS_SHOWN = 7, 12
_NORMALISED: Final = {
    "session": "z-scored for each {site} over all trials of its session (population SD)",
    "none": "left as percent signal change",
    "train-only": "z-scored for each {site} with the mean and SD of its session's training trials",
}


def write_single_trials_report(
    subjects: Sequence[SubjectTrials],
    options: SingleTrialOptions,
    written: Mapping[int, StepOutput],
    examined: Mapping[int, StepOutput],
    checks: Sequence[Check],
    place: str,
    folder: Folder,
) -> StepOutput:
    """Write the report of all subjects' single trials.

    Parameters
    ----------
    subjects : sequence of SubjectTrials
        What was extracted.
    options : SingleTrialOptions
        What was made of it.
    written, examined : mapping of int to StepOutput
        What `write_single_trials` and `examine_single_trials` wrote for each subject (1-based).
    checks : sequence of Check
        Those of the sessions and masks, and of single trials.
    place : str
        Folder of the single trials below the output folder.
    folder : Folder
        The output folder.
    """
    first = subjects[0]
    regions = list(dict.fromkeys(name for subject in subjects for name in subject.regions))
    numbers = listed([str(subject.subject) for subject in subjects])
    noun = first.noun
    normalised = _NORMALISED[options.normalise].format(**noun.fields)
    report = Report(
        title=f"{first.attributes['dataset']}: single trials",
        summary=f"Responses of subject{'s' if len(subjects) > 1 else ''} {numbers}, trial by "
        f"trial, in {listed(regions)}.",
        facts={
            "Dataset": str(first.attributes["dataset"]),
            "Preparation": str(first.attributes["preparation"]),
            "Subjects": numbers,
            "Regions": ", ".join(regions),
            "Images": options.images,
            "Responses": f"{options.normalise} ({UNITS[options.normalise]}), {options.dtype}",
            "Software": f"nsd-prep {__version__}",
        },
        sections=tuple(
            _section(subject, options, written[subject.subject], examined[subject.subject], folder)
            for subject in subjects
        ),
        checks=tuple(map(describe, checks)),
        methods=(
            f"Responses to {options.images} images were {normalised}. Where an "
            f"image was seen twice, the reliability of a {noun.singular} is the correlation over "
            "images between the first and the second presentation. GLMdenoise and the ridge of "
            "preparation b3 share parameters between trials, so that repetitions are not quite "
            "independent, and reliability is slightly too high.",
        ),
        references=(ALLEN_2022,),
    )
    target = folder.path / place / outputs.REPORT
    return StepOutput.from_paths(folder, sorted(write_report_files(target, report)))


def _place(row: Any) -> str:
    """Return where a row of the table of voxels lies."""
    if "vertex_index" in row:
        return f"{row['hemisphere']}, vertex {row['vertex_index']}"
    return f"voxel (i, j, k) = {tuple(int(row[f'nifti_{axis}']) for axis in 'ijk')}"


def _section(
    subject: SubjectTrials,
    options: SingleTrialOptions,
    written: StepOutput,
    examined: StepOutput,
    folder: Folder,
) -> Section:
    name = f"subj{subject.subject:02d}"
    rows = subject.trials[shows_images(subject.trials, options.images)].reset_index(drop=True)
    counts = trial_count_table(rows).reset_index()
    pictures = [draw_trials_by_session(rows, subject.subject)]
    ncsnr = subject.voxels["ncsnr"].to_numpy()
    for file in examined.files:
        correlation = read_table(folder.path / file)["first_second_correlation"].to_numpy()
        pictures.append(draw_reliability(correlation, ncsnr, subject.subject, subject.noun))
    if not options.average and np.isfinite(ncsnr).any():
        best = int(np.nanargmax(ncsnr))
        with open_single_trials(responses_file(written, folder)) as dataset:
            responses = dataset["response"][:, best].to_numpy().astype(np.float32)
        title = f"{_place(subject.voxels.iloc[best])}, ncsnr {ncsnr[best]:.2f}"
        units = UNITS[options.normalise]
        pictures.append(
            draw_one_voxel(responses, rows, title, subject.subject, units, subject.noun)
        )
    return Section(
        name=f"single-trials-{name}",
        title=f"Subject {subject.subject}",
        text=f"{counted(len(rows), 'trial')} of {counted(rows['nsd_id'].nunique(), 'image')} in "
        f"{counted(len(counts), 'session')}, "
        f"{counted(len(subject.voxels), subject.noun.singular, subject.noun.plural)} of "
        f"{listed(list(subject.regions))}.",
        pictures=tuple(pictures),
        tables=(Table("Trials of each session.", counts.iloc[:, :_COLUMNS_SHOWN]),)
        if len(counts) <= _SESSIONS_SHOWN
        else (),
        files={f"trials-by-session-{name}": counts},
    )
