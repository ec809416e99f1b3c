"""Is a subject's region the region it is called? Other subjects' RDMs of it tell."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.subject_agreement import unit_rdm
from nsd_prep.core.check import Check, Kind, Threshold, Verdict
from nsd_prep.dataset.regions import BUILT_IN_REGIONS

#: Standard errors by which two regions are surely in their places, suspicious, or exchanged.
SURELY_IN_PLACE: Final = 2.0
SUSPICIOUS: Final = 3.5
EXCHANGED: Final = 5.0
FEWEST_IMAGES_OF_IDENTITY: Final = 20

REGION_IDENTITY: Final = Kind(
    name="regions are what they are called",
    scope="subject",
    measures="for two regions, r with the others' RDMs as called less r crosswise, with its error "
    "over images",
    conditions={
        "failed": f"below 0 by {EXCHANGED:g} standard errors, with three subjects or more, of "
        "built-in regions: \"subj01's V1 looks like the others' V2\"",
        "suspicious": f"below 0 by {SUSPICIOUS:g} standard errors",
        "not decidable": f"fewer than {FEWEST_IMAGES_OF_IDENTITY} images, or neither",
        "passed": f"above 0 by {SURELY_IN_PLACE:g} standard errors, of all pairs",
    },
    value="{found} (gain {measured:.3f} +- {error:.3f})",
    expectation="each region's RDM fits the others' same region better than another",
    lower=0.0,
    unit="r",
    meanings={
        "passed": "Each region is most like the other subjects' region of the same name.",
        "not decidable": "Too few images, or regions too much alike, to tell.",
        "built-in": "The labels of two regions are exchanged in this subject, or in another of "
        "two.",
        "own": "Two regions are exchanged in this subject, or are not the same in all subjects.",
    },
    thresholds=(
        Threshold("standard errors, passed", SURELY_IN_PLACE, "simulated subjects"),
        Threshold("standard errors, suspicious", SUSPICIOUS, "simulated subjects: none of 990"),
        Threshold("standard errors, failed", EXCHANGED, "simulated subjects: none of 990"),
        Threshold("fewest images", FEWEST_IMAGES_OF_IDENTITY, "fewer say nothing"),
    ),
)


class Exchange(NamedTuple):
    """How much better two regions of a subject match the others' as called than exchanged.

    Attributes
    ----------
    first, second : str
        The regions.
    gain : float
        r of the first with the others' first, plus that of the second with their second, less the
        two crosswise: positive where both are what they are called.
    error : float
        Standard error over images, by the infinitesimal jackknife.
    """

    first: str
    second: str
    gain: float
    error: float


def exchanges(
    own: Mapping[str, NDArray[np.float32]], others: Mapping[str, NDArray[np.float32]]
) -> list[Exchange]:
    """Compare a subject's RDMs with the others' of the same and of other regions.

    Parameters
    ----------
    own, others : mapping of str to ndarray of float32, shape (n_images, n_images)
        The subject's RDM and the others' mean, by region, each as `unit_rdm` gives it.

    Returns
    -------
    list of Exchange
        For each pair of regions.
    """
    squares = {
        id(rdm): np.einsum("ij,ij->i", rdm, rdm) for rdm in (*own.values(), *others.values())
    }
    correlation, influence = {}, {}
    for mine, x in own.items():
        for theirs, y in others.items():
            products = np.einsum("ij,ij->i", x, y).astype(np.float64)
            r = float(products.sum())
            correlation[mine, theirs] = r
            # What each image's row and column add to r beyond their share of the norms.
            norms = (squares[id(x)] + squares[id(y)]) / 2
            influence[mine, theirs] = 2 * (products - r * norms)
    found = []
    for first, second in combinations(own, 2):
        same, crossed = [(first, first), (second, second)], [(first, second), (second, first)]
        gain = sum(correlation[p] for p in same) - sum(correlation[p] for p in crossed)
        each = np.sum([influence[p] for p in same], 0) - np.sum([influence[p] for p in crossed], 0)
        found.append(Exchange(first, second, gain, float(np.sqrt((each**2).sum()))))
    return found


def check_region_identity(
    subjects: Sequence[int], rdms: Mapping[str, NDArray[np.floating]]
) -> list[Check]:
    """Check that each subject's regions are most like the others' regions of the same name.

    Where all subjects' regions are exchanged, this says nothing.

    Parameters
    ----------
    subjects : sequence of int
        1-based, in the order of the RDMs.
    rdms : mapping of str to ndarray of float, shape (n_subjects, n_images, n_images)
        By region.

    Returns
    -------
    list of Check
        One for each subject; none with one subject or one region.
    """
    if len(subjects) < 2 or len(rdms) < 2:
        return []
    n_images = next(iter(rdms.values())).shape[1]
    units = {region: np.stack([unit_rdm(rdm) for rdm in stack]) for region, stack in rdms.items()}
    sums = {region: stack.sum(axis=0) for region, stack in units.items()}
    checks = []
    for row, subject in enumerate(subjects):
        own = {region: stack[row] for region, stack in units.items()}
        others = {region: unit_rdm(sums[region] - own[region]) for region in units}
        found = exchanges(own, others)
        checks.append(_check_subject(subject, len(subjects), found, n_images))
    return checks


def _check_subject(
    subject: int, n_subjects: int, found: Sequence[Exchange], n_images: int
) -> Check:
    ratios = np.array([one.gain / one.error if one.error > 0 else 0.0 for one in found])
    worst = found[int(np.argmin(ratios))]
    lowest = float(ratios.min())
    first, second = worst.first, worst.second
    verdict: Verdict = "not decidable"
    reason = ""
    told = f"{first} and {second} cannot be told apart"
    if n_images >= FEWEST_IMAGES_OF_IDENTITY and lowest < -SUSPICIOUS:
        # With two subjects, either may be the one.
        # Regions of one's own need not be alike in all subjects.
        alike = {first, second} <= set(BUILT_IN_REGIONS)
        sure = lowest < -EXCHANGED and n_subjects > 2 and alike
        verdict = "failed" if sure else "suspicious"
        reason = "built-in" if alike else "own"
        told = (
            f"subj{subject:02d}'s {first} looks like the others' {second}, and its {second} like "
            f"their {first}"
        )
    elif n_images >= FEWEST_IMAGES_OF_IDENTITY and lowest > SURELY_IN_PLACE:
        verdict, told = "passed", f"all regions; {first} and {second} are the closest"
    return REGION_IDENTITY.check(
        verdict,
        subject=f"subj{subject:02d}",
        measured=worst.gain,
        reason=reason,
        found=told,
        error=worst.error,
    )
