"""Z-scores over the trials of a session."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset.published import BETA_SCALE

#: Voxels z-scored together: few enough for a core's cache, so many that threads that compute and
#: read seldom wait for each other's turn in the interpreter.
_VOXELS_AT_ONCE: Final = 512


def zscore_trials(
    values: NDArray[np.int16], trials: Sequence[int] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Z-score each voxel over the trials of a session.

    All in float32 with the population's standard deviation (ddof 0), each voxel's trials summed
    contiguously: bit for bit the z-scores of ``(x - x.mean(0)) / x.std(0)`` on the percent signal
    change of the same voxels in Fortran order.

    Parameters
    ----------
    values : ndarray of int16, shape (n_voxels, n_trials)
        As stored: 300 times the percent signal change.
    trials : sequence of int, optional
        Trials (0-based) whose z-scores are returned, all of them where nothing is said. Mean and
        standard deviation are those of all trials in any case.

    Returns
    -------
    zscores : ndarray of float32, shape (n_voxels, n_returned_trials)
        0 where a voxel is constant.
    constant : ndarray of bool, shape (n_voxels,)
        Voxels without data in this session: all trials have one value, 0 in NSD.
    """
    returned = slice(None) if trials is None else np.asarray(trials, dtype=np.int64)
    n_returned = values.shape[1] if trials is None else len(trials)
    zscores = np.empty((len(values), n_returned), dtype=np.float32)
    constant = values.min(axis=1) == values.max(axis=1)
    for start in range(0, len(values), _VOXELS_AT_ONCE):
        rows = slice(start, start + _VOXELS_AT_ONCE)
        block = np.divide(values[rows], np.float32(BETA_SCALE), dtype=np.float32)
        block -= block.mean(axis=1, keepdims=True)
        deviation = np.sqrt(np.square(block).mean(axis=1, keepdims=True))
        deviation[deviation == 0] = 1
        np.divide(block[:, returned], deviation, out=zscores[rows])
    zscores[constant] = 0
    return zscores, constant
