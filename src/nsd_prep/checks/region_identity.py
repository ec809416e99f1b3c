"""Is a subject's region the region it is called? Other subjects' RDMs of it tell."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.subject_agreement import unit_rdm
from nsd_prep.core.check import Check, Verdict, check
from nsd_prep.dataset.regions import BUILT_IN_REGIONS

#: Standard errors by which two regions are surely in their places, suspicious, or exchanged.
SURE: Final = 2.0
SUSPICIOUS: Final = 3.5
EXCHANGED: Final = 5.0
FEWEST_IMAGES: Final = 20


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
    holds: Verdict = "not decidable"
    value = f"{worst.first} and {worst.second} cannot be told apart"
    meaning = "Too few images, or regions too much alike, to tell."
    if n_images >= FEWEST_IMAGES and lowest < -SUSPICIOUS:
        # With two subjects, either may be the one.
        # Regions of one's own need not be alike in all subjects.
        alike = {worst.first, worst.second} <= set(BUILT_IN_REGIONS)
        sure = lowest < -EXCHANGED and n_subjects > 2 and alike
        holds = "failed" if sure else "suspicious"
        value = (
            f"subj{subject:02d}'s {worst.first} looks like the others' {worst.second}, and its "
            f"{worst.second} like their {worst.first}"
        )
        meaning = (
            "The labels of two regions are exchanged in this subject, or in another of two."
            if alike
            else "Two regions are exchanged in this subject, or are not the same in all subjects."
        )
    elif n_images >= FEWEST_IMAGES and lowest > SURE:
        holds, value = "passed", f"all regions; {worst.first} and {worst.second} are the closest"
        meaning = "Each region is most like the other subjects' region of the same name."
    return check(
        "regions are what they are called",
        f"subj{subject:02d}",
        f"{value} (gain {worst.gain:.3f} +- {worst.error:.3f})",
        "each region's RDM fits the others' same region better than another",
        holds,
        meaning,
    )
