"""Do the regions lie on the brain? The ncsnr volume, inside and around, tells."""

from collections.abc import Mapping
from itertools import permutations, product
from typing import Final

import numpy as np
import scipy.ndimage
import scipy.stats
from numpy.typing import NDArray

from nsd_prep.checks.assembly import LARGEST_SHARE_WITHOUT_DATA
from nsd_prep.checks.decision import signal_share
from nsd_prep.core.check import Check, Verdict, as_verdict, check
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.regions import union_of_regions
from nsd_prep.dataset.space import VolumeSpace

#: How far around a region to look, in voxels.
_AROUND: Final = 2
#: Voxels around below which the surroundings say nothing.
_FEWEST_AROUND: Final = 30
#: Fewer voxels without data than this may be chance, however small the region.
_FEWEST_MISSING: Final = 3
#: A region of fewer voxels may lie at the edge of coverage, or in dropout: that many of its voxels
#: lack data, or signal, is suspicious then. Where most lack data it is wrong whatever its size.
_FEWEST_VOXELS: Final = 200
_MOST_MISSING: Final = 0.5
#: How much larger the share without signal may be inside than around, and the probability of such
#: an excess by chance below which it is sure, or suspicious.
_LARGEST_EXCESS: Final = 0.1
_CHANCE: Final = 1e-6
_CHANCE_OF_SUSPICION: Final = 1e-4
#: Neighbouring voxels lose their signal together: so many count as one.
_VOXELS_IN_CLUSTER: Final = 4
#: A turned mask with so many times the signal is the right one; with the inverse, surely not.
_CLEARLY_MORE: Final = 1.25
#: Regions with fewer voxels in all, or on one side of the volume, may have less signal than what
#: they are turned onto. They are turned for sure where the copy fits a boundary: the signal inside
#: it is so many times that around it, and this ratio so many times that of the mask as given.
_FEWEST_FOR_ORIENTATION: Final = 300
_BOUNDARY: Final = 20.0
_BETTER_BOUNDARY: Final = 4.0
_FEWEST_FOR_BOUNDARY: Final = 20
_LARGEST_SHARE_ON_A_SIDE: Final = 0.8
_AXES: Final = ("z", "y", "x")


def check_placement(
    subject: int,
    regions: Mapping[str, NDArray[np.int64]],
    space: VolumeSpace,
    ncsnr_volume: NDArray[np.float32],
    brain: NDArray[np.bool_] | None = None,
) -> list[Check]:
    """Check that a subject's regions lie where there is a brain, and signal.

    Parameters
    ----------
    subject : int
        1-based.
    regions : mapping of str to ndarray of int64, shape (n_voxels,)
        Each region's voxels: sites of the space.
    space : VolumeSpace
        Where they lie.
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
        A region reaches beyond the volume, or the brain mask or the ncsnr has another grid.
    """
    name = f"subj{subject:02d}"
    _check_grids(name, regions, space, ncsnr_volume, brain)
    everything = union_of_regions(regions)
    ncsnr = ncsnr_volume.ravel()
    found = []
    for region, voxels in regions.items():
        if not len(voxels):
            continue
        around = np.setdiff1d(space.neighbours(voxels, _AROUND), everything)
        found.append(_check_signal_inside(f"{region}, {name}", ncsnr[voxels], ncsnr[around], ncsnr))
        if brain is not None:
            outside = float((~brain.ravel()[voxels]).mean())
            found.append(
                check(
                    "region inside the brain mask",
                    f"{region}, {name}",
                    f"{outside:.1%} of {len(voxels)} voxels outside",
                    f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}",
                    _few_missing(outside, len(voxels)),
                    "A region lies in the brain; if much of it does not, its labels lie turned or "
                    "shifted against the brain mask (a small one may lie at the edge of coverage).",
                )
            )
    found.append(_check_orientation(name, space.mask(everything), ncsnr_volume))
    return found


def _check_grids(
    name: str,
    regions: Mapping[str, NDArray[np.int64]],
    space: VolumeSpace,
    ncsnr_volume: NDArray[np.float32],
    brain: NDArray[np.bool_] | None,
) -> None:
    highest = max((int(voxels.max()) for voxels in regions.values() if len(voxels)), default=-1)
    if highest >= space.n_sites:
        raise InputFileError(
            f"A region of {name} has the voxel {highest}: expected indices below {space.n_sites}, "
            f"the size of the volume {space.grid}; give labels and ncsnr of one grid."
        )
    for what, volume in (("ncsnr", ncsnr_volume), ("brain mask", brain)):
        if volume is not None and volume.shape != space.grid:
            raise InputFileError(
                f"The {what} of {name} has the grid {volume.shape}: expected {space.grid}, that of "
                "the label volumes; download both again."
            )


def _check_signal_inside(
    where: str,
    inside: NDArray[np.float32],
    around: NDArray[np.float32],
    ncsnr: NDArray[np.float32],
) -> Check:
    """Compare the ncsnr of a region's voxels with that of those around it."""
    n_inside, n_around = len(inside), len(around)
    missing = float(np.isnan(inside).mean())
    n_without = int(np.count_nonzero(~(inside > 0)))
    n_without_around = int(np.count_nonzero(~(around > 0)))
    without = n_without / n_inside
    surroundings = n_without_around / n_around if n_around else float("nan")
    holds = as_verdict(_few_missing(missing, n_inside))
    meaning = "The region lies on responding cortex."
    if holds in ("failed", "suspicious"):
        meaning = (
            "Much of the region has no data: its mask reaches out of the brain, or a small region "
            "lies at the edge of coverage."
        )
    elif n_inside >= _FEWEST_VOXELS and without == surroundings == 1:
        holds = "suspicious" if (ncsnr > 0).any() else "failed"
        meaning = "Nothing has signal here: the ncsnr volume is empty."
    elif n_around < _FEWEST_AROUND:
        holds, meaning = "not decidable", "Too few voxels lie around the region to compare."
    elif without - surroundings > _LARGEST_EXCESS:
        chance = _chance_of(n_without, n_inside, n_without_around, n_around)
        if chance < _CHANCE_OF_SUSPICION:
            sure = chance < _CHANCE and n_inside >= _FEWEST_VOXELS
            holds = "failed" if sure else "suspicious"
            meaning = (
                "The region has less signal than what lies around it: its mask is misplaced, or "
                "the region lies in dropout."
            )
    return check(
        "mask in the brain",
        where,
        f"{missing:.1%} of {n_inside} voxels without data, {without:.1%} without signal; around, "
        f"{surroundings:.1%} of {n_around}",
        f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%} without data, fewer without signal than around",
        holds,
        meaning,
    )


def _few_missing(share: float, n_voxels: int) -> Verdict | bool:
    """Judge the share of a region's voxels that lie outside."""
    if share <= LARGEST_SHARE_WITHOUT_DATA or share * n_voxels < _FEWEST_MISSING:
        return True
    sure = n_voxels >= _FEWEST_VOXELS or share > _MOST_MISSING
    return False if sure else "suspicious"


def _chance_of(n_without: int, n_inside: int, n_without_around: int, n_around: int) -> float:
    """Return the probability of so many voxels without signal inside, clusters counting as one."""
    counts = np.array([n_without, n_inside, n_without_around, n_around]) / _VOXELS_IN_CLUSTER
    without, drawn, around, n = np.round(counts).astype(np.int64).tolist()
    return float(scipy.stats.hypergeom.sf(without - 1, drawn + n, without + around, drawn))


def _check_orientation(
    name: str, mask: NDArray[np.bool_], ncsnr_volume: NDArray[np.float32]
) -> Check:
    """Compare the signal under the mask with that under every turned and mirrored copy of it."""
    signal = np.nan_to_num(signal_share(ncsnr_volume), nan=0.0)
    as_given = float(signal[mask].mean()) if mask.any() else 0.0
    best, turn, best_mask = 0.0, "none", mask
    for how, turned in _turned(mask):
        under = float(signal[turned].mean()) if mask.any() else 0.0
        if under > best:
            best, turn, best_mask = under, how, turned
    holds: bool | None = None
    meaning = "The regions have more signal as they lie than turned."
    if as_given > best:
        holds = True
    elif best <= as_given * _CLEARLY_MORE:
        meaning = "The regions have as much signal turned as they do as they lie."
    elif (
        np.count_nonzero(mask) >= _FEWEST_FOR_ORIENTATION and not _one_sided(mask)
    ) or _fits_a_boundary(mask, best_mask, signal):
        holds = False
        meaning = (
            "Labels and ncsnr lie turned against each other: read both with their axes fully "
            "reversed."
        )
    else:
        meaning = "So small, or one-sided, regions may have less signal than what they turn onto."
    return check(
        "orientation of the masks",
        name,
        f"signal {as_given:.3f} under the regions, {best:.3f} under them with {turn}",
        "more than under any turned or mirrored copy",
        holds,
        meaning,
    )


def _one_sided(mask: NDArray[np.bool_]) -> bool:
    """Return whether nearly all of a mask lies in one half of the volume along x."""
    middle = mask.shape[2] // 2
    left = np.count_nonzero(mask[:, :, :middle]) / np.count_nonzero(mask)
    return bool(max(left, 1 - left) > _LARGEST_SHARE_ON_A_SIDE)


def _fits_a_boundary(
    given: NDArray[np.bool_], turned: NDArray[np.bool_], signal: NDArray[np.float64]
) -> bool:
    """Return whether signal stops where the turned mask does, and not where the given one does."""
    if np.count_nonzero(given) < _FEWEST_FOR_BOUNDARY:
        return False
    ratios = []
    for mask in (given, turned):
        shell = scipy.ndimage.binary_dilation(mask, iterations=_AROUND) & ~mask
        around = float(signal[shell].mean()) if shell.any() else 0.0
        ratios.append(float(signal[mask].mean()) / max(around, 1e-9))
    return ratios[1] > max(_BOUNDARY, _BETTER_BOUNDARY * ratios[0])


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
