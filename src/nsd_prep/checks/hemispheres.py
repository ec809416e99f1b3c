"""Does the left hemisphere lie on the left? The affine tells."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.check import Check, Kind, Threshold, Verdict
from nsd_prep.dataset.space import VolumeSpace

#: Share of pairs of a left and a right voxel with the left one on the left: above, in their places;
#: below 1 less this, exchanged.
IN_PLACE: Final = 0.9
#: Voxels in each hemisphere below which nothing is decided.
FEWEST_VOXELS_OF_HEMISPHERE: Final = 10

HEMISPHERES: Final = Kind(
    name="hemispheres on their sides",
    scope="subject",
    measures="by the affine, pairs of a left and a right voxel with the left one on the left",
    conditions={
        "failed": f"at most {1 - IN_PLACE:.0%}",
        "suspicious": f"below {IN_PLACE:.0%}",
        "not decidable": f"fewer than {FEWEST_VOXELS_OF_HEMISPHERE} labelled voxels in a "
        "hemisphere",
        "passed": f"at least {IN_PLACE:.0%}",
    },
    value="{measured:.0%} of pairs of {left} left and {right} right {sites}",
    expectation=f"at least {IN_PLACE:.0%} with the left {{site}} on the left",
    lower=IN_PLACE,
    unit="share of pairs",
    meanings={
        "passed": "The hemispheres lie where the affine says.",
        "failed": "The hemispheres are exchanged: lh holds what the affine places on the right.",
        "suspicious": "A hemisphere's labels lie on both sides: compare them with the anatomy.",
        "not decidable": "Too few labelled {sites} in a hemisphere to tell.",
    },
    thresholds=(
        Threshold("pairs in their places", IN_PLACE, "chosen"),
        Threshold(
            "fewest voxels of a hemisphere",
            FEWEST_VOXELS_OF_HEMISPHERE,
            "fewer may lie anywhere",
        ),
    ),
)


def share_on_the_left(
    space: VolumeSpace,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> float:
    """Return how often a voxel of the left hemisphere lies left of one of the right.

    Parameters
    ----------
    space : VolumeSpace
        Of the label volumes.
    left, right : ndarray of int64, shape (n_voxels,)
        Sites with a label in either hemisphere's volume.

    Returns
    -------
    float
        Share of pairs, ties as half; NaN where a hemisphere is empty.
    """
    if not len(left) or not len(right):
        return float("nan")
    x_left, x_right = (space.millimetres(sites)[:, 0] for sites in (left, right))
    ordered = np.sort(x_right)
    below = np.searchsorted(ordered, x_left, side="left")
    up_to = np.searchsorted(ordered, x_left, side="right")
    return float(1 - (below + up_to).mean() / 2 / len(ordered))


def check_hemispheres(
    subject: int,
    space: VolumeSpace,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> Check:
    """Check that the labels of the left hemisphere lie on the left.

    Parameters
    ----------
    subject : int
        1-based.
    space, left, right
        As for `share_on_the_left`.

    Returns
    -------
    Check
        Failed where they lie on the right; suspicious where they lie on both sides.
    """
    share = share_on_the_left(space, left, right)
    verdict: Verdict = "suspicious"
    if min(len(left), len(right)) < FEWEST_VOXELS_OF_HEMISPHERE:
        verdict = "not decidable"
    elif share >= IN_PLACE:
        verdict = "passed"
    elif share <= 1 - IN_PLACE:
        verdict = "failed"
    return HEMISPHERES.check(
        verdict,
        subject=f"subj{subject:02d}",
        measured=share,
        left=len(left),
        right=len(right),
    )
