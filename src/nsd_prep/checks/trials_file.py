"""Are the sessions of a file of single trials in their places? Its own repetitions tell."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks import SingleTrials
from nsd_prep.checks.decision import FEWEST_IMAGES_OF_SHARE, FEWEST_VOXELS_OF_SHARE
from nsd_prep.checks.presentations import rows_of_presentations, telling_voxels
from nsd_prep.dataset.published import REPETITIONS
from nsd_prep.single_trials.reading import TrialReader

#: Rows read at once: the system may map 2 MB of the file around each.
_ROWS_AT_ONCE: Final = 32
#: Voxels of the highest ncsnr: with so many trials they tell every run, in 100 MB.
_VOXELS_OF_FILE: Final = 64


def repetitions_in_file(
    path: Path | str,
    trials: pd.DataFrame,
    ncsnr: NDArray[np.floating],
    trials_per_session: int,
    first_two: NDArray[np.float32],
) -> SingleTrials | None:
    """Return the responses to all images seen three times, of the voxels that tell most.

    Of the file the third presentations are read.

    Parameters
    ----------
    path : Path or str
        A file or a Zarr store of single trials.
    trials : DataFrame
        Its table.
    ncsnr : ndarray of float, shape (n_voxels,)
        Of its voxels; NaN where one has no data.
    trials_per_session : int
        750 in NSD.
    first_two : ndarray of float32, shape (2, n_images, n_telling)
        Of all images seen twice, as `nsd_prep.checks.presentations.PresentationPairs.telling`.

    Returns
    -------
    SingleTrials or None
        z-scored within each session over these trials, whatever the file's normalisation; None
        where too few images were seen three times, or too few voxels have signal.
    """
    index = rows_of_presentations(trials, REPETITIONS)
    telling = telling_voxels(ncsnr)
    if len(index) < FEWEST_IMAGES_OF_SHARE or len(telling) < FEWEST_VOXELS_OF_SHARE:
        return None
    seen_thrice = np.isin(rows_of_presentations(trials, 2)[:, 0], index[:, 0])
    best = np.sort(np.argsort(-ncsnr[telling], kind="stable")[:_VOXELS_OF_FILE])
    telling = telling[best]
    repetitions = np.empty((*index.shape, len(telling)), dtype=np.float32)
    repetitions[:, :2] = first_two[:, seen_thrice][:, :, best].transpose(1, 0, 2)
    reader = TrialReader(path)
    for start in range(0, len(index), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        repetitions[part, 2] = reader[index[part, 2]][:, telling]
    responses = repetitions.reshape(index.size, -1)  # a view
    session = trials["session"].to_numpy()[index]
    sessions = np.unique(session)
    without_data = np.zeros((len(sessions), len(telling)), dtype=np.bool_)
    for row, number in enumerate(sessions):
        inside = (session == number).ravel()
        values = responses[inside] - responses[inside].mean(axis=0)
        deviation = values.std(axis=0)
        without_data[row] = deviation == 0
        responses[inside] = values / np.where(deviation > 0, deviation, 1)
    return SingleTrials(
        repetitions,
        np.asarray(ncsnr[telling], dtype=np.float32),
        session,
        trials["trial_in_session"].to_numpy()[index],
        trials_per_session,
        sessions,
        without_data,
    )
