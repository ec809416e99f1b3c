"""Do the regions lie on the brain? The ncsnr volume, inside and around, tells."""

from collections.abc import Mapping
from itertools import permutations, product
from typing import Final

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from nsd_prep.assembly_checks import LARGEST_SHARE_WITHOUT_DATA
from nsd_prep.checks import Check, check
from nsd_prep.data_checks.decision import signal_share
from nsd_prep.errors import InputFileError

#: How far around a region to look, in voxels.
_AROUND: Final = 2
#: Voxels around below which the surroundings say nothing.
_FEWEST_AROUND: Final = 30
#: Fewer voxels without data than this may be chance, however small the region.
_FEWEST_MISSING: Final = 3
#: How much larger the share without signal may be inside than around.
_LARGEST_EXCESS: Final = 0.1
#: A turned mask with so many times the signal is the right one; with the inverse, surely not.
_CLEARLY_MORE: Final = 1.25
_AXES: Final = ("z", "y", "x")


def check_placement(
    subject: int,
    regions: Mapping[str, NDArray[np.int64]],
    ncsnr_volume: NDArray[np.float32],
    brain: NDArray[np.bool_] | None = None,
) -> list[Check]:
    """Check that a subject's regions lie where there is a brain, and signal.

    Parameters
    ----------
    subject : int
        1-based.
    regions : mapping of str to ndarray of int64, shape (n_voxels,)
        Each region's voxels: indices into the raveled volume (C order, 0-based).
    ncsnr_volume : ndarray of float32, shape (Z, Y, X)
        NaN where a voxel has no data.
    brain : ndarray of bool, shape (Z, Y, X), optional
        The brain mask, where there is one.

    Returns
    -------
    list of Check
        One for each region (two with a brain mask), and one for all regions together.

    Raises
    ------
    InputFileError
        A region reaches beyond the volume, or the brain mask has another grid.
    """
    name = f"subj{subject:02d}"
    _check_grids(name, regions, ncsnr_volume, brain)
    everything = np.zeros(ncsnr_volume.shape, dtype=np.bool_)
    for voxels in regions.values():
        everything.ravel()[voxels] = True
    found = []
    for region, voxels in regions.items():
        inside = np.zeros(ncsnr_volume.shape, dtype=np.bool_)
        inside.ravel()[voxels] = True
        around = scipy.ndimage.binary_dilation(inside, iterations=_AROUND) & ~everything
        found.append(_check_signal_inside(f"{region}, {name}", inside, around, ncsnr_volume))
        if brain is not None:
            outside = float((~brain[inside]).mean())
            found.append(
                check(
                    "region inside the brain mask",
                    f"{region}, {name}",
                    f"{outside:.1%} of {len(voxels)} voxels outside",
                    f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}",
                    outside <= LARGEST_SHARE_WITHOUT_DATA
                    or (None if outside * len(voxels) < _FEWEST_MISSING else False),
                    "More would mean that the region's labels lie turned against the brain mask.",
                )
            )
    found.append(_check_orientation(name, everything, ncsnr_volume))
    return found


def _check_grids(
    name: str,
    regions: Mapping[str, NDArray[np.int64]],
    ncsnr_volume: NDArray[np.float32],
    brain: NDArray[np.bool_] | None,
) -> None:
    highest = max((int(voxels.max()) for voxels in regions.values() if len(voxels)), default=-1)
    if highest >= ncsnr_volume.size:
        raise InputFileError(
            f"A region of {name} has the voxel {highest}: expected indices below "
            f"{ncsnr_volume.size}, the size of the ncsnr volume {ncsnr_volume.shape}; give labels "
            "and ncsnr of one grid."
        )
    if brain is not None and brain.shape != ncsnr_volume.shape:
        raise InputFileError(
            f"The brain mask of {name} has the grid {brain.shape}: expected {ncsnr_volume.shape}, "
            "that of the ncsnr; download both again."
        )


def _check_signal_inside(
    where: str,
    inside: NDArray[np.bool_],
    around: NDArray[np.bool_],
    ncsnr_volume: NDArray[np.float32],
) -> Check:
    n_inside, n_around = np.count_nonzero(inside), np.count_nonzero(around)
    missing = float(np.isnan(ncsnr_volume[inside]).mean()) if n_inside else 1.0
    without = float((~(ncsnr_volume[inside] > 0)).mean()) if n_inside else 1.0
    surroundings = float((~(ncsnr_volume[around] > 0)).mean()) if n_around else float("nan")
    holds: bool | None = True
    if missing > LARGEST_SHARE_WITHOUT_DATA:
        holds = False if missing * n_inside >= _FEWEST_MISSING or missing == 1 else None
    elif n_around < _FEWEST_AROUND:
        holds = None
    elif without > surroundings:
        holds = False if without - surroundings > _LARGEST_EXCESS else None
    return check(
        "mask in the brain",
        where,
        f"{missing:.1%} of {n_inside} voxels without data, {without:.1%} without signal; around, "
        f"{surroundings:.1%} of {n_around}",
        f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%} without data, fewer without signal than around",
        holds,
        "A region lies on responding cortex; a misplaced mask reaches out of the brain, or has no "
        "more signal than its surroundings.",
    )


def _check_orientation(
    name: str, mask: NDArray[np.bool_], ncsnr_volume: NDArray[np.float32]
) -> Check:
    """Compare the signal under the mask with that under every turned and mirrored copy of it."""
    signal = np.nan_to_num(signal_share(ncsnr_volume), nan=0.0)
    as_given = float(signal[mask].mean()) if mask.any() else 0.0
    best, turn = 0.0, "none"
    for how, turned in _turned(mask):
        under = float(signal[turned].mean()) if mask.any() else 0.0
        if under > best:
            best, turn = under, how
    holds: bool | None = None
    if best > as_given * _CLEARLY_MORE:
        holds = False
    elif as_given > best:
        holds = True
    return check(
        "orientation of the masks",
        name,
        f"signal {as_given:.3f} under the regions, {best:.3f} under them with {turn}",
        "more than under any turned or mirrored copy",
        holds,
        "The regions have more signal as they lie than turned; otherwise labels and ncsnr lie "
        "turned against each other: read both with their axes fully reversed.",
    )


def _turned(mask: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the copies of a mask, turned and mirrored, that keep its grid."""
    copies = []
    for order in permutations(range(3)):
        if tuple(mask.shape[axis] for axis in order) != mask.shape:
            continue
        for mirrored in product((False, True), repeat=3):
            axes = [axis for axis in range(3) if mirrored[axis]]
            if order == (0, 1, 2) and not axes:
                continue
            how = []
            if order != (0, 1, 2):
                how.append("axes " + ", ".join(_AXES[axis] for axis in order))
            how.extend(f"{_AXES[axis]} mirrored" for axis in axes)
            copies.append((" and ".join(how), np.flip(mask.transpose(order), tuple(axes))))
    return copies
