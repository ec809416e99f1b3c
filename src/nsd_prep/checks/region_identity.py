"""Is a subject's region the region it is called? Other subjects' RDMs of it tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
import scipy.special
from numpy.typing import NDArray

from nsd_prep.checks.decision import effective_degrees
from nsd_prep.checks.rdms import square_rdms, unit_rdm
from nsd_prep.core.check import Check, Kind, Threshold, Verdict
from nsd_prep.dataset.regions import BUILT_IN_REGIONS

#: Standard errors by which two regions are surely in their places.
SURELY_IN_PLACE: Final = 2.0
#: Probability, by Student's t, of each of the two findings that make an exchange: the subject's
#: regions match the others' crosswise, and the others' match each other as called.
CHANCE_OF_SUSPICION: Final = 1e-3
CHANCE_OF_EXCHANGE: Final = 1e-4
#: The subject's gain, as a share of the others' among themselves (1 in its place, -1 exchanged).
HIGHEST_SHARE_OF_EXCHANGED: Final = -0.5
#: Subjects from which errors over subjects can be told.
FEWEST_SUBJECTS_OF_ERROR: Final = 4
#: With fewer, r of the differences between two regions that is no chance of their voxels.
CORRELATION_OF_DIFFERENCES: Final = 0.7
FEWEST_IMAGES_OF_IDENTITY: Final = 20

REGION_IDENTITY: Final = Kind(
    name="regions are what they are called",
    scope="subject",
    measures="for two regions, mean over the other subjects of r with their RDMs as called less r "
    "crosswise, and the same among the others",
    draws=("images", "voxels", "subjects"),
    conditions={
        "failed": "the gain surely below 0, and below "
        f"{HIGHEST_SHARE_OF_EXCHANGED:g} of the others' among themselves, which is surely above 0 "
        f"(t, p below {CHANCE_OF_EXCHANGE:g} each), of built-in regions, with "
        f"{FEWEST_SUBJECTS_OF_ERROR} subjects or more: \"subj01's V1 looks like the others' V2\"",
        "suspicious": f"the same with p below {CHANCE_OF_SUSPICION:g}; of 2 or 3 subjects, the "
        f"regions' differences have r below -{CORRELATION_OF_DIFFERENCES:g} with the others', and "
        f"above {CORRELATION_OF_DIFFERENCES:g} among the others",
        "not decidable": f"fewer than {FEWEST_IMAGES_OF_IDENTITY} images, or neither",
        "passed": f"above 0 by {SURELY_IN_PLACE:g} standard errors, of all pairs; of 2 or 3 "
        "subjects the error holds images alone",
    },
    value="{found} (gain {measured:.3f} ± {error:.3f})",
    expectation="each region's RDM fits the others' same region better than another",
    lower=0.0,
    unit="r",
    meanings={
        "passed": "Each region is most like the other subjects' region of the same name.",
        "not decidable": "Too few images or subjects, or regions too much alike, to tell.",
        "built-in": "The labels of two regions are exchanged in this subject, or in another of "
        "two.",
        "own": "Two regions are exchanged in this subject, or are not the same in all subjects.",
    },
    thresholds=(
        Threshold("standard errors, passed", SURELY_IN_PLACE, "simulated subjects"),
        Threshold("p, suspicious", CHANCE_OF_SUSPICION, "simulated regions"),
        Threshold("p, failed", CHANCE_OF_EXCHANGE, "simulated regions: no sound subject"),
        Threshold("share of the others' gain", HIGHEST_SHARE_OF_EXCHANGED, "half of an exchange"),
        Threshold("fewest subjects", FEWEST_SUBJECTS_OF_ERROR, "fewer have no error"),
        Threshold("r of 2 or 3 subjects", CORRELATION_OF_DIFFERENCES, "simulated regions"),
        Threshold("fewest images", FEWEST_IMAGES_OF_IDENTITY, "fewer say nothing"),
    ),
)


class Estimate(NamedTuple):
    """A gain, its standard error, and the degrees of freedom of that."""

    gain: float
    error: float
    degrees_of_freedom: float

    @property
    def in_errors(self) -> float:
        """The gain in standard errors."""
        return self.gain / self.error if self.error > 0 else 0.0

    def chance(self, sign: int) -> float:
        """Return the probability that a gain of 0 looks at least so far on the side of `sign`."""
        return float(scipy.special.stdtr(self.degrees_of_freedom, -sign * self.in_errors))


@dataclass(frozen=True)
class Gains:
    """How much better two regions match between subjects as called than exchanged.

    Attributes
    ----------
    first, second : str
        The regions.
    between : ndarray of float64, shape (n_subjects, n_subjects)
        r of a subject's first region with another's first, plus that of the second with their
        second, less the two crosswise: positive where both are what they are called. Symmetric.
    influence : ndarray of float64, shape (n_subjects, n_images)
        Of each image on a subject's mean gain over the others (infinitesimal jackknife).
    """

    first: str
    second: str
    between: NDArray[np.float64]
    influence: NDArray[np.float64]

    def of_subject(self, row: int) -> "Estimate":
        """Return a subject's mean gain with the others."""
        own = np.delete(self.between[row], row)
        # The subject's own voxels are one draw, and weigh as much in all its gains as two subjects'
        # do in the residual variance.
        draws = self._residual(row) * (1 / len(own) + 1 / 2)
        return self._estimate(float(own.mean()), draws, self.influence[row])

    def of_others(self, row: int) -> "Estimate":
        """Return the mean gain among the others."""
        n_others = len(self.between) - 1
        influence = (self.influence.sum(axis=0) - 2 * self.influence[row]) / (n_others - 1)
        mean = float(self._others(row).mean())
        return self._estimate(mean, self._residual(row) * 2 / n_others, influence)

    def _estimate(self, gain: float, draws: float, influence: NDArray[np.float64]) -> "Estimate":
        of_images = float((influence**2).sum())
        degrees = effective_degrees(
            (np.array(draws), max(self._pairs() - 2, 1)),
            (np.array(of_images), max(len(influence) - 1, 1)),
        )
        return Estimate(gain, float(np.sqrt(draws + of_images)), float(degrees))

    def _pairs(self) -> int:
        return len(self.between) * (len(self.between) - 1) // 2

    def _others(self, row: int) -> NDArray[np.float64]:
        others = np.delete(np.delete(self.between, row, 0), row, 1)
        return others[np.triu_indices(len(others), 1)]

    def _residual(self, row: int) -> float:
        """Return the variance of gains around those of the subject and those among the others.

        Pairs of subjects are independent where the regions do not differ.
        """
        if len(self.between) < FEWEST_SUBJECTS_OF_ERROR:
            return 0.0
        groups = np.delete(self.between[row], row), self._others(row)
        squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        return squares / (self._pairs() - 2)


def gains_of_regions(rdms: Mapping[str, NDArray[np.floating]]) -> list[Gains]:
    """Compare subjects' RDMs of two regions, as called and crosswise.

    Parameters
    ----------
    rdms : mapping of str to ndarray of float, shape (n_subjects, n_pairs)
        By region: upper triangles, row by row, as SciPy condenses them.

    Returns
    -------
    list of Gains
        For each pair of regions.
    """
    regions = list(rdms)
    n_regions, n_subjects = len(rdms), len(rdms[regions[0]])
    n_images = square_rdms(rdms[regions[0]][:1]).shape[1]
    units = np.empty((n_regions, n_subjects, n_images, n_images), dtype=np.float32)
    for of_region, upper in zip(units, rdms.values(), strict=True):
        for unit, square in zip(of_region, square_rdms(upper), strict=True):
            unit[...] = unit_rdm(square)
    flat = units.reshape(n_regions * n_subjects, -1)
    r = (flat @ flat.T).astype(np.float64).reshape(n_regions, n_subjects, n_regions, n_subjects)
    squares = np.einsum("rsij,rsij->rsi", units, units).astype(np.float64)
    sums = units.sum(axis=1)
    influence = np.empty((n_subjects, n_regions, n_regions, n_images))
    for subject in range(n_subjects):
        others = (sums - units[:, subject]) / (n_subjects - 1)
        with_others = r[:, subject].copy()
        with_others[:, :, subject] = 0
        with_others /= n_subjects - 1
        for mine in range(n_regions):
            products = np.einsum("ij,rij->ri", units[mine, subject], others)
            # What each image's row and column add to r beyond their share of the norms.
            norms = with_others[mine].sum(axis=1, keepdims=True) * squares[mine, subject]
            norms = norms + np.einsum("rs,rsi->ri", with_others[mine], squares)
            influence[subject, mine] = 2 * products - norms
    gains = []
    for (a, first), (b, second) in combinations(enumerate(regions), 2):
        between = r[a, :, a] + r[b, :, b] - r[a, :, b] - r[b, :, a]
        each = influence[:, a, a] + influence[:, b, b]
        each = each - influence[:, a, b] - influence[:, b, a]
        gains.append(Gains(first, second, between, each))
    return gains


def check_region_identity(
    subjects: Sequence[int], rdms: Mapping[str, NDArray[np.floating]]
) -> list[Check]:
    """Check that each subject's regions are most like the others' regions of the same name.

    Where all subjects' regions are exchanged, this says nothing.

    Parameters
    ----------
    subjects : sequence of int
        1-based, in the order of the RDMs.
    rdms : mapping of str to ndarray of float, shape (n_subjects, n_pairs)
        By region: upper triangles, row by row, as SciPy condenses them.

    Returns
    -------
    list of Check
        One for each subject; none with one subject or one region.
    """
    if len(subjects) < 2 or len(rdms) < 2:
        return []
    gains = gains_of_regions(rdms)
    return [_check_subject(subject, row, gains) for row, subject in enumerate(subjects)]


def _check_subject(subject: int, row: int, gains: Sequence[Gains]) -> Check:
    n_images = gains[0].influence.shape[1]
    enough = n_images >= FEWEST_IMAGES_OF_IDENTITY
    judged = [(_verdict_of_pair(pair, row) if enough else "not decidable") for pair in gains]
    ratios = [pair.of_subject(row).in_errors for pair in gains]
    order = {"failed": 0, "suspicious": 1}
    index = min(range(len(gains)), key=lambda i: (order.get(judged[i], 2), ratios[i]))
    first, second = gains[index].first, gains[index].second
    own = gains[index].of_subject(row)
    verdict: Verdict = judged[index]
    reason = ""
    if verdict in order:
        # Regions of one's own need not be alike in all subjects.
        alike = {first, second} <= set(BUILT_IN_REGIONS)
        verdict = verdict if alike else "suspicious"
        reason = "built-in" if alike else "own"
        text = (
            f"subj{subject:02d}'s {first} looks like the others' {second}, and its {second} like "
            f"their {first}"
        )
    elif verdict == "passed":
        text = f"all regions; {first} and {second} are the closest"
    else:
        text = f"{first} and {second} cannot be told apart"
    return REGION_IDENTITY.check(
        verdict,
        subject=f"subj{subject:02d}",
        measured=own.gain,
        reason=reason,
        found=text,
        error=own.error,
    )


def _verdict_of_pair(pair: Gains, row: int) -> Verdict:
    """Judge two regions of a subject: exchanged, in their places, or neither for sure."""
    n_subjects = len(pair.between)
    own = pair.of_subject(row)
    if n_subjects < FEWEST_SUBJECTS_OF_ERROR:
        # The errors hold images alone: the regions' differences must be the same ones.
        lengths = np.sqrt(np.maximum(np.diag(pair.between), 0))
        r = pair.between / np.maximum(np.outer(lengths, lengths), 1e-12)
        r[row] *= -1
        r[:, row] *= -1
        if (r[np.triu_indices(n_subjects, 1)] > CORRELATION_OF_DIFFERENCES).all():
            return "suspicious"
    else:
        others = pair.of_others(row)
        exchanged = own.gain < HIGHEST_SHARE_OF_EXCHANGED * others.gain
        chance = max(own.chance(-1), others.chance(1))
        if exchanged and chance < CHANCE_OF_SUSPICION:
            return "failed" if chance < CHANCE_OF_EXCHANGE else "suspicious"
    return "passed" if own.in_errors > SURELY_IN_PLACE else "not decidable"
