"""Do the regions lie on the brain? The ncsnr volume, inside and around, tells."""

from collections.abc import Mapping
from itertools import permutations, product
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.assembly_values import FEWEST_VOXELS_OF_A_MASK, LARGEST_SHARE_WITHOUT_DATA
from nsd_prep.checks.decision import signal_share
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, any_verdict, of_vertices
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.regions import union_of_regions
from nsd_prep.dataset.space import VolumeSpace

#: How far around a region to look, in voxels.
_AROUND: Final = 2
#: Voxels around below which the surroundings say nothing.
_FEWEST_AROUND: Final = 30
#: Fewer voxels without data than this may be chance, however small the region.
_FEWEST_MISSING: Final = 3
#: Where most voxels of a region lack data it is wrong whatever its size.
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

_FEW_MISSING: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        "failed": f"above {LARGEST_SHARE_WITHOUT_DATA:.0%} of {FEWEST_VOXELS_OF_A_MASK} voxels or "
        f"more, or above {_MOST_MISSING:.0%}",
        "suspicious": f"above {LARGEST_SHARE_WITHOUT_DATA:.0%} of fewer voxels",
        "passed": f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}, or fewer than {_FEWEST_MISSING} "
        "voxels",
    }
)
_SIZE_OF_MASK: Final = (
    Threshold("share of voxels without data", LARGEST_SHARE_WITHOUT_DATA, "simulated cortex"),
    Threshold("share whatever the size", _MOST_MISSING, "more than half of a region"),
    Threshold(
        "fewest voxels for *failed*",
        FEWEST_VOXELS_OF_A_MASK,
        "smaller regions may lie in dropout, or at the edge of coverage",
    ),
)

MASK_IN_BRAIN: Final = Kind(
    name="mask in the brain",
    scope="subject, region",
    measures="voxels without data, and without signal (ncsnr 0), inside and up to "
    f"{_AROUND} voxels around",
    draws=("voxels",),
    conditions={
        "failed": f"{_FEW_MISSING['failed']} without data; or less signal than around with p below "
        f"{_CHANCE:g}, {_VOXELS_IN_CLUSTER} voxels counted as one",
        "suspicious": f"{_FEW_MISSING['suspicious']} without data; or less signal than around with "
        f"p below {_CHANCE_OF_SUSPICION:g}",
        "not decidable": f"fewer than {_FEWEST_AROUND} voxels around; on surfaces, whose mesh is "
        "not read",
        "passed": "as much signal as around",
    },
    value="{n_inside} {sites}: {missing:.1%} without data, {without:.1%} without signal"
    "{surroundings}",
    expectation=f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%} without data, fewer without signal than "
    "around",
    unit="share of {sites}",
    meanings={
        "passed": "The region lies on responding cortex.",
        "no data": "Much of the region has no data: its mask extends beyond the brain, or a small "
        "region lies at the edge of coverage.",
        "empty": "Nothing has signal here: the ncsnr volume is empty.",
        "not decidable": "Too few {sites} lie around the region to compare.",
        "no mesh": "On a surface only the mesh tells what lies around a region, and it is not "
        "read.",
        "less signal": "The region has less signal than what lies around it: its mask is "
        "misplaced, or the region lies in dropout.",
    },
    thresholds=(
        *_SIZE_OF_MASK,
        Threshold("excess without signal", _LARGEST_EXCESS, "simulated cortex"),
        Threshold("p of the excess, failed", _CHANCE, "one error in a million checks"),
        Threshold("p of the excess, suspicious", _CHANCE_OF_SUSPICION, "simulated cortex"),
        Threshold("voxels counted as one", _VOXELS_IN_CLUSTER, "neighbours lose signal together"),
        Threshold("fewest voxels around", _FEWEST_AROUND, "fewer say nothing"),
    ),
)

INSIDE_BRAIN_MASK: Final = Kind(
    name="region inside the brain mask",
    scope="subject, region",
    measures="voxels outside the brain mask",
    conditions=_FEW_MISSING,
    value="{measured:.1%} of {n_voxels} {sites} outside",
    expectation=f"at most {LARGEST_SHARE_WITHOUT_DATA:.0%}",
    upper=LARGEST_SHARE_WITHOUT_DATA,
    unit="share of {sites}",
    meanings=any_verdict(
        "A region lies in the brain; if much of it does not, its labels are flipped or shifted "
        "against the brain mask (a small one may lie at the edge of coverage)."
    ),
    thresholds=_SIZE_OF_MASK,
)

ORIENTATION: Final = Kind(
    name="orientation of the masks",
    scope="subject",
    measures="mean signal under all regions, and under every mirrored or transposed copy; the "
    "best one is named",
    conditions={
        "failed": f"a copy has more than {_CLEARLY_MORE:g} times the signal, and the regions have "
        f"{_FEWEST_FOR_ORIENTATION} voxels on both sides or the copy fits a boundary of signal",
        "not decidable": "a copy has more signal otherwise; on surfaces, which have no axes",
        "passed": "no copy has as much",
    },
    value="signal {measured:.3f} under the regions{beside}",
    expectation="more than under any turned or mirrored copy",
    unit="share of variance",
    meanings={
        "passed": "The regions have more signal in place than mirrored or transposed.",
        "as much": "The regions have as much signal mirrored or transposed as in place.",
        "failed": "Labels and ncsnr are oriented differently: read both with their axes fully "
        "reversed.",
        "small": "Regions so small or one-sided may have less signal than what a mirrored copy "
        "falls on.",
        "surface": "This does not apply to surfaces, whose vertices have no axes to mirror.",
    },
    thresholds=(
        Threshold("times the signal", _CLEARLY_MORE, "simulated cortex"),
        Threshold("fewest voxels", _FEWEST_FOR_ORIENTATION, "simulated cortex"),
        Threshold("largest share on a side", _LARGEST_SHARE_ON_A_SIDE, "one hemisphere's regions"),
        Threshold("signal inside a boundary, times around", _BOUNDARY, "simulated cortex"),
        Threshold("times that of the masks as given", _BETTER_BOUNDARY, "simulated cortex"),
        Threshold("fewest voxels for a boundary", _FEWEST_FOR_BOUNDARY, "simulated cortex"),
    ),
)


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
    checks = []
    for region, voxels in regions.items():
        if not len(voxels):
            continue
        around = np.setdiff1d(space.neighbours(voxels, _AROUND), everything)
        checks.append(_check_signal_inside(region, name, ncsnr[voxels], ncsnr[around], ncsnr))
        if brain is not None:
            outside = float((~brain.ravel()[voxels]).mean())
            checks.append(
                INSIDE_BRAIN_MASK.check(
                    _few_missing(outside, len(voxels)),
                    region=region,
                    subject=name,
                    measured=outside,
                    n_voxels=len(voxels),
                )
            )
    checks.append(_check_orientation(name, space.mask(everything), ncsnr_volume))
    return checks


def check_placement_on_surface(
    subject: int, regions: Mapping[str, NDArray[np.int64]], ncsnr: NDArray[np.float32]
) -> list[Check]:
    """Check that a subject's regions have data, as far as vertices tell without a mesh.

    Parameters
    ----------
    subject : int
        1-based.
    regions : mapping of str to ndarray of int64, shape (n_vertices,)
        Each region's vertices: sites of the space.
    ncsnr : ndarray of float32, shape (n_sites,)
        NaN where a vertex has no data.

    Returns
    -------
    list of Check
        As `check_placement`; that turned masks have more signal is not decidable.
    """
    name = f"subj{subject:02d}"
    nothing = np.zeros(0, dtype=np.float32)
    checks = [
        _check_signal_inside(region, name, ncsnr[vertices], nothing, ncsnr, "no mesh")
        for region, vertices in regions.items()
        if len(vertices)
    ]
    measured = float(np.nan_to_num(signal_share(ncsnr[union_of_regions(regions)])).mean())
    not_turned = ORIENTATION.check(
        None, subject=name, measured=measured, reason="surface", beside=""
    )
    return [of_vertices(check) for check in (*checks, not_turned)]


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
    region: str,
    subject: str,
    inside: NDArray[np.float32],
    around: NDArray[np.float32],
    ncsnr: NDArray[np.float32],
    why_none_around: str = "",
) -> Check:
    """Compare the ncsnr of a region's voxels with that of those around it."""
    n_inside, n_around = len(inside), len(around)
    missing = float(np.isnan(inside).mean())
    n_without = int(np.count_nonzero(~(inside > 0)))
    n_without_around = int(np.count_nonzero(~(around > 0)))
    without = n_without / n_inside
    surroundings = n_without_around / n_around if n_around else float("nan")
    verdict = _few_missing(missing, n_inside)
    # What the verdict rests on.
    measured, upper, reason = missing, LARGEST_SHARE_WITHOUT_DATA, ""
    if verdict != "passed":
        reason = "no data"
    elif n_inside >= FEWEST_VOXELS_OF_A_MASK and without == surroundings == 1:
        verdict = "suspicious" if (ncsnr > 0).any() else "failed"
        measured, reason = without, "empty"
    elif n_around < _FEWEST_AROUND:
        verdict, reason = "not decidable", why_none_around
    elif without - surroundings > _LARGEST_EXCESS:
        chance = _chance_of(n_without, n_inside, n_without_around, n_around)
        if chance < _CHANCE_OF_SUSPICION:
            sure = chance < _CHANCE and n_inside >= FEWEST_VOXELS_OF_A_MASK
            verdict = "failed" if sure else "suspicious"
            measured, upper, reason = without, surroundings + _LARGEST_EXCESS, "less signal"
    return MASK_IN_BRAIN.check(
        verdict,
        region=region,
        subject=subject,
        measured=measured,
        upper=upper,
        reason=reason,
        missing=missing,
        n_inside=n_inside,
        without=without,
        surroundings=f"; {n_around} around: {surroundings:.1%} without signal" if n_around else "",
    )


def _few_missing(share: float, n_voxels: int) -> Verdict:
    """Judge the share of a region's voxels that lie outside."""
    if share <= LARGEST_SHARE_WITHOUT_DATA or share * n_voxels < _FEWEST_MISSING:
        return "passed"
    sure = n_voxels >= FEWEST_VOXELS_OF_A_MASK or share > _MOST_MISSING
    return "failed" if sure else "suspicious"


def _chance_of(n_without: int, n_inside: int, n_without_around: int, n_around: int) -> float:
    """Return the probability of so many voxels without signal inside, clusters counting as one."""
    from scipy.stats import hypergeom  # which takes most of a second, and is seldom asked

    counts = np.array([n_without, n_inside, n_without_around, n_around]) / _VOXELS_IN_CLUSTER
    without, drawn, around, n = np.round(counts).astype(np.int64).tolist()
    return float(hypergeom.sf(without - 1, drawn + n, without + around, drawn))


def _check_orientation(
    name: str, mask: NDArray[np.bool_], ncsnr_volume: NDArray[np.float32]
) -> Check:
    """Compare the signal under the mask with that under every turned and mirrored copy of it."""
    signal = np.nan_to_num(signal_share(ncsnr_volume), nan=0.0)
    as_given = float(signal[mask].mean()) if mask.any() else 0.0
    best, turn, best_mask = 0.0, "", mask
    for how, turned in _turned(mask):
        under = float(signal[turned].mean()) if mask.any() else 0.0
        if under > best:
            best, turn, best_mask = under, how, turned
    verdict: Verdict = "not decidable"
    reason = "small"
    if as_given > best:
        verdict, reason = "passed", ""
    elif best <= as_given * _CLEARLY_MORE:
        reason = "as much"
    elif (
        np.count_nonzero(mask) >= _FEWEST_FOR_ORIENTATION and not _one_sided(mask)
    ) or _fits_a_boundary(mask, best_mask, signal):
        verdict, reason = "failed", ""
    return ORIENTATION.check(
        verdict,
        subject=name,
        measured=as_given,
        lower=best,
        reason=reason,
        beside=f", {best:.3f} under them with {turn}" if turn else "",
    )


def _one_sided(mask: NDArray[np.bool_]) -> bool:
    """Return whether nearly all of a mask lies in one half of the volume along x."""
    middle = mask.shape[2] // 2
    left = np.count_nonzero(mask[:, :, :middle]) / np.count_nonzero(mask)
    return bool(max(left, 1 - left) > _LARGEST_SHARE_ON_A_SIDE)


def _fits_a_boundary(
    mask_as_given: NDArray[np.bool_], turned: NDArray[np.bool_], signal: NDArray[np.float64]
) -> bool:
    """Return whether signal stops where the turned mask does, and not where the given one does."""
    from scipy.ndimage import binary_dilation  # as above

    if np.count_nonzero(mask_as_given) < _FEWEST_FOR_BOUNDARY:
        return False
    ratios = []
    for mask in (mask_as_given, turned):
        shell = binary_dilation(mask, iterations=_AROUND) & ~mask
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
