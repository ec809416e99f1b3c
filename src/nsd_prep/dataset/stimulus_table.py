"""The table of stimuli (``nsd_stim_info_merged.csv``), and whether the design agrees with it."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.design import Design
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.published import IMAGES, REPETITIONS
from nsd_prep.dataset.trials import repetition_of_trial


def read_stimulus_table(
    path: Path, subjects: Sequence[int], read: Callable[[Path], bytes] = read_whole
) -> pd.DataFrame:
    """Read the trials that the stimulus table gives for each image.

    Parameters
    ----------
    path : Path
        ``nsd_stim_info_merged.csv``.
    subjects : sequence of int
        1-based.
    read : callable
        Returns the content of the file.

    Returns
    -------
    DataFrame of int64
        Index nsdId (0-based); columns shared1000 and subjectS_repR, the 1-based trial of the
        repetition R, 0 where the image was not shown.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file is not that table.
    """
    columns = ["nsdId", "shared1000", *_repetition_columns(subjects)]
    content = read(path)
    try:
        table = pd.read_csv(io.BytesIO(content), usecols=columns)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise InputFileError(
            f"The stimulus table {path} cannot be read ({error}): expected a CSV file with the "
            f"columns {', '.join(columns[:3])} and so on; download it again."
        ) from error
    table["shared1000"] = table["shared1000"].map({1: 1, 0: 0, "True": 1, "False": 0})
    table = table.apply(pd.to_numeric, errors="coerce")
    table = table.where((table % 1 == 0) & (table.abs() <= np.iinfo(np.int32).max))
    if table.isna().to_numpy().any():
        column = table.columns[table.isna().any()][0]
        raise InputFileError(
            f"The stimulus table {path} has something in the column {column} that is not a whole "
            "number: download it again."
        )
    return table.astype(np.int64).set_index("nsdId")


def count_images(dataset: Dataset) -> int | None:
    """Return how many images a dataset has, by its stimulus table; None where there is none."""
    if dataset.is_nsd:
        return IMAGES
    if not dataset.exists(dataset.stimulus_table):
        return None
    return len(read_stimulus_table(dataset.stimulus_table, (), dataset.read))


def _repetition_columns(subjects: Sequence[int]) -> list[str]:
    return [
        f"subject{subject}_rep{repetition}"
        for subject in subjects
        for repetition in range(REPETITIONS)
    ]


def contradictions(
    design: Design,
    stimulus_table: pd.DataFrame,
    trials_of_subjects: Mapping[int, int],
    design_file: Path,
    stimulus_table_file: Path,
) -> list[str]:
    """Compare the design with its independent copy, within each subject's own sessions.

    Parameters
    ----------
    design : Design
        The design.
    stimulus_table : DataFrame
        As `read_stimulus_table` gives it.
    trials_of_subjects : mapping of int to int
        How many trials each subject's sessions hold.
    design_file, stimulus_table_file : Path
        For the messages.

    Returns
    -------
    list of str
        One sentence a contradiction, at most one a subject.
    """
    advice = "one of the two is damaged or of another release; download both again."
    problems = []
    marked = np.sort(stimulus_table.index[stimulus_table["shared1000"] == 1].to_numpy())
    if not np.array_equal(marked, np.sort(design.shared_nsd_ids)):
        problems.append(
            f"The design {design_file} and the stimulus table {stimulus_table_file} disagree: "
            f"sharedix lists {len(design.shared_nsd_ids)} images and shared1000 marks "
            f"{len(marked)}, not the same ones; {advice}"
        )
    for subject, n_trials in trials_of_subjects.items():
        nsd_id = design.nsd_id_of_trial(subject, n_trials)
        expected = np.stack([nsd_id, repetition_of_trial(nsd_id)])
        columns = _repetition_columns([subject])
        entries = stimulus_table[columns].to_numpy()
        row, repetition = np.nonzero((entries >= 1) & (entries <= n_trials))
        trial = entries[row, repetition] - 1
        listed = np.full_like(expected, -1)
        listed[:, trial] = stimulus_table.index.to_numpy()[row], repetition
        wrong = np.flatnonzero((listed != expected).any(axis=0))
        if len(wrong) or len(trial) != n_trials:
            first = int(wrong[0]) if len(wrong) else int(np.argmax(np.bincount(trial)))
            problems.append(
                f"The design {design_file} and the stimulus table {stimulus_table_file} disagree "
                f"for subject {subject} at {max(len(wrong), 1)} of {n_trials} trials: in trial "
                f"{first + 1} the design shows nsd_id {expected[0, first]} (repetition "
                f"{expected[1, first]}), the table {_shown(listed[:, first])}; {advice}"
            )
    return problems


def _shown(listed: NDArray[np.int64]) -> str:
    return "no image" if listed[0] < 0 else f"nsd_id {listed[0]} (repetition {listed[1]})"
