"""Does the left hemisphere lie on the left? The affine tells."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.check import Check, Verdict, check

#: Share of pairs of a left and a right voxel with the left one on the left: above, in their places;
#: below 1 less this, exchanged.
IN_PLACE: Final = 0.9
#: Voxels in each hemisphere below which nothing is decided.
FEWEST_VOXELS: Final = 10


def share_on_the_left(
    affine: NDArray[np.float64],
    grid: tuple[int, int, int],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> float:
    """Return how often a voxel of the left hemisphere lies left of one of the right.

    Parameters
    ----------
    affine : ndarray of float64, shape (4, 4)
        Of the label volumes: from NIfTI indices (i, j, k) to millimetres, x growing to the
        subject's right (RAS+, NIfTI-1 and nibabel's convention).
    grid : tuple of int
        (Z, Y, X), the NIfTI's axes reversed.
    left, right : ndarray of int64, shape (n_voxels,)
        Voxels with a label in either hemisphere's volume: indices into the raveled grid (C order,
        0-based).

    Returns
    -------
    float
        Share of pairs, ties as half; NaN where a hemisphere is empty.
    """
    if not len(left) or not len(right):
        return float("nan")
    x_left, x_right = (
        np.stack(np.unravel_index(voxels, grid)[::-1], axis=1) @ affine[0, :3] + affine[0, 3]
        for voxels in (left, right)
    )
    ordered = np.sort(x_right)
    below = np.searchsorted(ordered, x_left, side="left")
    up_to = np.searchsorted(ordered, x_left, side="right")
    return float(1 - (below + up_to).mean() / 2 / len(ordered))


def check_hemispheres(
    subject: int,
    affine: NDArray[np.float64],
    grid: tuple[int, int, int],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> Check:
    """Check that the labels of the left hemisphere lie on the left.

    Parameters
    ----------
    subject : int
        1-based.
    affine, grid, left, right
        As for `share_on_the_left`.

    Returns
    -------
    Check
        Failed where they lie on the right; suspicious where they lie on both sides.
    """
    share = share_on_the_left(affine, grid, left, right)
    holds: Verdict = "suspicious"
    meaning = "A hemisphere's labels lie on both sides: look at them beside the anatomy."
    if min(len(left), len(right)) < FEWEST_VOXELS:
        holds, meaning = "not decidable", "Too few labelled voxels in a hemisphere to tell."
    elif share >= IN_PLACE:
        holds, meaning = "passed", "The hemispheres lie where the affine says."
    elif share <= 1 - IN_PLACE:
        holds = "failed"
        meaning = "The hemispheres are exchanged: lh holds what the affine places on the right."
    return check(
        "hemispheres on their sides",
        f"subj{subject:02d}",
        f"{share:.0%} of pairs of {len(left)} left and {len(right)} right voxels",
        f"at least {IN_PLACE:.0%} with the left voxel on the left",
        holds,
        meaning,
    )
