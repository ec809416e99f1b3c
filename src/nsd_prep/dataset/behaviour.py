"""What a subject answered in each trial (``responses.tsv``), checked against the design."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.counts import counted
from nsd_prep.core.digests import read_whole
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.layout import Dataset

#: Columns of the file that are read (NSD data manual, "Behavioral data"), and their names here.
_ANSWERS: Final = {"ISOLD": "is_old", "ISCORRECT": "is_correct", "RT": "response_time"}
_DESIGN: Final = ("SUBJECT", "SESSION", "RUN", "TRIAL", "73KID")


def behaviour_file(dataset: Dataset, subject: int) -> Path:
    """Return the path of a subject's answers (subject 1-based); it need not be there."""
    name = f"subj{subject:02d}"
    if dataset.layout == "official":
        return dataset.root / "nsddata" / "ppdata" / name / "behav" / "responses.tsv"
    return dataset.root / name / "behav" / "responses.tsv"


def read_behaviour(
    path: Path,
    subject: int,
    trials: pd.DataFrame,
    read: Callable[[Path], bytes] = read_whole,
) -> pd.DataFrame:
    """Read a subject's answers, trial by trial.

    Parameters
    ----------
    path : Path
        ``responses.tsv``.
    subject : int
        1-based.
    trials : DataFrame
        All of the subject's trials, as `nsd_prep.dataset.trials.trial_table` gives them.
    read : callable
        Returns the content of the file.

    Returns
    -------
    DataFrame of float64, shape (n_trials, 3)
        With the index of `trials`: is_old (1 where the image was seen before), is_correct (1 or
        0), response_time (ms). NaN where there was no answer, where the file marks the trial's
        data as missing, and in sessions that the file does not hold.

    Raises
    ------
    OSError
        There is no such file, or the disk fails.
    InputFileError
        The file cannot be read, or contradicts the design.
    """
    needed = [*_DESIGN, *_ANSWERS]
    content = read(path)
    try:
        rows = pd.read_csv(io.BytesIO(content), sep="\t", usecols=needed, dtype=np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"The behaviour {path} cannot be read ({error}): expected numbers in the "
            f"tab-separated columns {', '.join(needed)}; download it again."
        ) from error
    _check_values(path, rows)
    rows = rows[rows["SESSION"] <= trials["session"].max()]
    rows = rows.sort_values(["SESSION", "RUN", "TRIAL"], kind="stable", ignore_index=True)
    positions = _positions(path, subject, rows, trials)
    answers = pd.DataFrame(np.nan, index=trials.index, columns=list(_ANSWERS.values()))
    answers.iloc[positions] = rows[list(_ANSWERS)].to_numpy()
    _check_old(path, answers["is_old"].to_numpy(), trials)
    return answers


def _positions(
    path: Path, subject: int, rows: pd.DataFrame, trials: pd.DataFrame
) -> NDArray[np.int64]:
    """Return which row of the trials each row of the file is."""
    advice = "the file belongs to another subject or release; download it again."
    other = rows.loc[rows["SUBJECT"] != subject, "SUBJECT"]
    if len(other):
        raise InputFileError(
            f"The behaviour {path} holds subject {other.iloc[0]:g}: expected {subject}; {advice}"
        )
    session = trials["session"].to_numpy()
    counts = rows["SESSION"].value_counts()
    planned = trials["session"].value_counts()
    for number, n_rows in counts.sort_index().items():
        if n_rows != planned.get(number, 0):
            raise InputFileError(
                f"The behaviour {path} has {n_rows} trials in session {number:g}: expected "
                f"{planned.get(number, 0)}; {advice}"
            )
    positions = np.flatnonzero(np.isin(session, counts.index))
    shown = rows["73KID"].to_numpy() - 1  # the file counts from 1
    wrong = np.flatnonzero(shown != trials["nsd_id"].to_numpy()[positions])
    if len(wrong):
        trial = trials.iloc[positions[wrong[0]]]
        raise InputFileError(
            f"The behaviour {path} and the design disagree in {len(wrong)} of {len(positions)} "
            f"trials: in session {trial['session']}, trial {trial['trial_in_session']} (0-based), "
            f"the design shows nsd_id {trial['nsd_id']}, the behaviour {shown[wrong[0]]:g}; "
            f"{advice}"
        )
    return positions


def _check_values(path: Path, rows: pd.DataFrame) -> None:
    """Raise where an answer is neither given nor missing, or took less than no time."""
    right = {
        "ISCORRECT": rows["ISCORRECT"].isin([0, 1]),
        "RT": rows["RT"].between(0, np.inf, inclusive="left"),
    }
    for column, is_right in right.items():
        wrong = rows.loc[~is_right & rows[column].notna(), column]
        if len(wrong):
            expected = "0, 1" if column == "ISCORRECT" else "milliseconds from 0 on"
            raise InputFileError(
                f"The behaviour {path} has {column} {wrong.iloc[0]:g} in line {wrong.index[0] + 2}"
                f" ({counted(len(wrong), 'such line')}): expected {expected}, or NaN; download it "
                "again."
            )


def _check_old(path: Path, is_old: NDArray[np.float64], trials: pd.DataFrame) -> None:
    """Raise where an image counts as old that was not seen before, or the reverse."""
    expected = trials["repetition"].to_numpy() > 0
    wrong = np.flatnonzero(np.isfinite(is_old) & (is_old != expected))
    if len(wrong):
        trial = trials.iloc[wrong[0]]
        raise InputFileError(
            f"The behaviour {path} calls an image old that the design shows for the first time, or "
            f"the reverse, in {counted(len(wrong), 'trial')}, the first in session "
            f"{trial['session']}, trial {trial['trial_in_session']} (0-based): expected ISOLD to "
            f"be {int(expected[wrong[0]])}; the file belongs to another subject or release; "
            "download it again."
        )
