"""Are the sessions of a file of single trials in their places? Its own repetitions tell."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.data_checks import SingleTrials
from nsd_prep.data_checks.decision import FEWEST_IMAGES, FEWEST_VOXELS
from nsd_prep.published import REPETITIONS
from nsd_prep.single_trials.reading import TrialReader
from nsd_prep.single_trials.reliability import telling_voxels

#: Rows read at once: of nsdgeneral 20 MB.
_ROWS_AT_ONCE: Final = 3 * 100


def repetitions_in_file(
    path: Path | str, trials: pd.DataFrame, ncsnr: NDArray[np.floating], trials_per_session: int
) -> SingleTrials | None:
    """Read the responses to all images seen three times, of the voxels that tell most.

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

    Returns
    -------
    SingleTrials or None
        z-scored within each session over these trials, whatever the file's normalisation; None
        where too few images were seen three times, or too few voxels have signal.
    """
    keys = pd.MultiIndex.from_frame(trials[["nsd_id", "repetition"]])
    rows = pd.Series(np.arange(len(trials)), index=keys).unstack("repetition")
    rows = rows.reindex(columns=range(REPETITIONS)).dropna()
    index = rows.to_numpy(dtype=np.int64)
    telling = telling_voxels(ncsnr)
    if len(index) < FEWEST_IMAGES or len(telling) < FEWEST_VOXELS:
        return None
    responses = np.empty((index.size, len(telling)), dtype=np.float32)
    reader = TrialReader(path)
    in_file_order = np.argsort(index.ravel())
    for start in range(0, index.size, _ROWS_AT_ONCE):
        part = in_file_order[start : start + _ROWS_AT_ONCE]
        responses[part] = reader[index.ravel()[part]][:, telling]
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
        responses.reshape(*index.shape, -1),
        np.asarray(ncsnr[telling], dtype=np.float32),
        session,
        trials["trial_in_session"].to_numpy()[index],
        trials_per_session,
        sessions,
        without_data,
    )
