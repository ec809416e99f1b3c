"""How reliable each voxel is: split halves, and selections by what is reliable."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.atomic import explained_write_errors
from nsd_prep.core.counts import counted
from nsd_prep.core.errors import ParameterError

#: The column of `split_half_reliability`.
SPLIT_HALF: Final = "split_half_reliability"


@dataclass(frozen=True)
class VoxelMinima:
    """What voxels must have at least to be taken.

    Attributes
    ----------
    ncsnr : float, optional
        Noise ceiling SNR.
    noise_ceiling : float, optional
        Percent, of means of three trials.
    reliability : float, optional
        As `split_half_reliability`.
    """

    ncsnr: float | None = None
    noise_ceiling: float | None = None
    reliability: float | None = None

    def attributes(self) -> dict[str, float]:
        """Return what a file records of them: those that are set, as ``min_ncsnr`` and so on."""
        return {f"min_{name}": value for name, value in vars(self).items() if value is not None}

    def select(self, voxels: pd.DataFrame, subject: int) -> NDArray[np.bool_]:
        """Return which voxels are taken, bool (n_voxels,).

        Parameters
        ----------
        voxels : DataFrame
            As `nsd_prep.single_trials.voxels.trial_voxels`, for `reliability` with the column
            split_half_reliability. A value that is not known is not enough.
        subject : int
            1-based; whose they are, for the error.

        Raises
        ------
        ParameterError
            None is.
        """
        columns = {"ncsnr": "ncsnr", "noise_ceiling": "noise_ceiling", "reliability": SPLIT_HALF}
        taken = np.ones(len(voxels), dtype=np.bool_)
        for name, column in columns.items():
            least = getattr(self, name)
            if least is None:
                continue
            values = voxels[column].to_numpy(dtype=np.float64)
            left = taken & (values >= least)
            if not left.any():
                highest = np.nanmax(np.where(taken, values, np.nan), initial=-np.inf)
                raise ParameterError(
                    f"No voxel of subject {subject} meets min_{name}={least:g}: of "
                    f"{counted(int(taken.sum()), 'voxel')} the highest {column} is {highest:.3g}; "
                    "choose a lower threshold."
                )
            taken = left
        return taken


def spearman_brown(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the reliability of the mean of two halves that correlate by so much: 2r / (1 + r).

    Spearman 1910, Brown 1910. NaN where r is NaN or -1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(correlation > -1, 2 * correlation / (1 + correlation), np.nan)


def split_half_reliability(
    sessions: Iterable[tuple[int, NDArray[np.float32]]], trials: pd.DataFrame, scratch: Path
) -> NDArray[np.float64]:
    """Return each voxel's split-half reliability, from the first two presentations of images.

    Pearson's r, over images that were seen twice at least, between the responses to the first and
    to the second presentation, and `spearman_brown` of it. Responses to first presentations wait
    for the second in a temporary file, since those of all images would fill a computer's memory.

    Parameters
    ----------
    sessions : iterable of (int, ndarray of float32, shape (n_trials, n_voxels))
        Every session (1-based, ascending) with the responses of all its trials.
    trials : DataFrame
        All of the subject's trials, as `nsd_prep.dataset.trials.trial_table` gives them.
    scratch : Path
        A folder for the temporary file: n_images x n_voxels x 4 bytes.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        NaN where a voxel is constant.

    Raises
    ------
    ParameterError
        Fewer than three images were seen twice.
    OutputError
        The disk is full or cannot be written.
    """
    session_of_trial = trials["session"].to_numpy()
    repetition = trials["repetition"].to_numpy()
    image = np.unique(trials["nsd_id"].to_numpy(), return_inverse=True)[1]
    twice = np.isin(image, image[repetition == 1])
    n_pairs = int(np.count_nonzero(repetition == 1))
    if n_pairs < 3:
        raise ParameterError(
            f"The trials have {counted(n_pairs, 'image')} with two presentations: expected at "
            "least three for a reliability; take more sessions, or leave out min_reliability=."
        )
    sums: NDArray[np.float64] | None = None
    scratch.mkdir(parents=True, exist_ok=True)
    with explained_write_errors(scratch):
        file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (closed below)
    with file, explained_write_errors(scratch):
        for session, responses in sessions:
            rows = np.flatnonzero(session_of_trial == session)
            length = responses.shape[1] * 4
            if sums is None:
                sums = np.zeros((5, responses.shape[1]))
            for row, response in zip(rows.tolist(), responses, strict=True):
                if not twice[row] or repetition[row] > 1:
                    continue
                file.seek(int(image[row]) * length)
                if repetition[row] == 0:
                    file.write(np.ascontiguousarray(response).data)
                    continue
                first = np.frombuffer(file.read(length), np.float32).astype(np.float64)
                second = response.astype(np.float64)
                sums += np.stack([first, second, first**2, second**2, first * second])
    assert sums is not None
    mean_1, mean_2, square_1, square_2, product = sums / n_pairs
    variance = (square_1 - mean_1**2) * (square_2 - mean_2**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = (product - mean_1 * mean_2) / np.sqrt(variance)
    return spearman_brown(np.where(variance > 0, correlation, np.nan))
