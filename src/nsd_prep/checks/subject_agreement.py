"""Do subjects agree as they should? Their dissimilarity matrices (RDMs) tell."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks.rdms import unit_rdm
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, number_text, worst

#: Permutations of the images, and the largest p that counts as agreement.
PERMUTATIONS: Final = 500
#: Images that are permuted at most: more would cost time, and agreement is plain with these.
IMAGES_PERMUTED: Final = 256
LARGEST_P: Final = 0.005
#: Agreement that two brains usually have, as a share of what their RDMs' reliability allows: small
#: or individual regions may have less, so its absence is suspicious at most.
USUAL_CONSISTENCY: Final = 0.3
FEWEST_IMAGES_OF_SUSPICION: Final = 50
#: A subject at chance fails only where half of what the others have among themselves would be seen.
LOWEST_SHARE_OF_OTHERS: Final = 0.5
#: Agreement at chance counts only where that much would lie so many standard deviations of chance
#: above 0.
SEEN: Final = 5.0
#: Subjects whose RDMs correlate above this have the same data.
SAME_DATA: Final = 0.98

_AGREEMENT_THRESHOLDS: Final = (
    Threshold("largest p", LARGEST_P, f"images permuted up to {PERMUTATIONS} times"),
    Threshold(
        "usual share of what reliability allows",
        USUAL_CONSISTENCY,
        "chosen",
    ),
    Threshold("fewest images for *suspicious*", FEWEST_IMAGES_OF_SUSPICION, "simulated subjects"),
    Threshold("standard deviations of chance that are seen", SEEN, "chosen"),
)

SUBJECTS_AGREE: Final = Kind(
    name="subjects agree",
    scope="region",
    measures="mean correlation of the subjects' RDMs, images permuted",
    draws=("images",),
    conditions={
        "suspicious": f"p above {LARGEST_P:g} with {FEWEST_IMAGES_OF_SUSPICION} images or more, "
        f"although the RDMs are reliable enough to see {USUAL_CONSISTENCY:g} of what that allows",
        "not decidable": f"p above {LARGEST_P:g} otherwise",
        "passed": f"p at most {LARGEST_P:g}",
    },
    value="mean r {mean:.3f}, p {measured:.2g}",
    expectation=f"above chance (p at most {LARGEST_P:g}, images permuted)",
    upper=LARGEST_P,
    unit="p",
    meanings={
        "passed": "The subjects' RDMs agree.",
        "suspicious": "The RDMs are reliable, yet those of different subjects do not agree: rows "
        "belong to other images than the ids say, in some subject or in all, or the region differs "
        "from subject to subject.",
        "not decidable": "The RDMs are too unreliable for agreement to be seen.",
    },
    thresholds=_AGREEMENT_THRESHOLDS,
)

EACH_SUBJECT_AGREES: Final = Kind(
    name="each subject agrees with the others",
    scope="region",
    measures="correlation of a subject's RDM with the mean of the others'; the subject is named",
    draws=("images",),
    conditions={
        "failed": f"at chance, where {LOWEST_SHARE_OF_OTHERS:g} of what the others have would be "
        "seen",
        "suspicious": SUBJECTS_AGREE.conditions["suspicious"],
        "not decidable": SUBJECTS_AGREE.conditions["not decidable"],
        "passed": f"p at most {LARGEST_P:g}, of every subject",
    },
    value="{found}",
    expectation=f"every subject above chance (p at most {LARGEST_P:g}, images permuted)",
    upper=LARGEST_P,
    unit="p",
    meanings={
        "passed": "Each subject's RDM agrees with the others'.",
        "alone": "A subject at chance, while the others agree, has another subject's table of "
        "trials, or images under wrong ids.",
        "not decidable": "The subject's RDM is too unreliable for agreement to be seen.",
    },
    thresholds=(
        *_AGREEMENT_THRESHOLDS,
        Threshold("share of the others' agreement", LOWEST_SHARE_OF_OTHERS, "chosen"),
    ),
)

SUBJECTS_DIFFER: Final = Kind(
    name="subjects differ",
    scope="region",
    measures="highest correlation of two subjects' RDMs",
    conditions={
        "failed": f"above {SAME_DATA:g}",
        "not decidable": "RDMs are constant",
        "passed": f"at most {SAME_DATA:g}",
    },
    value="{found}",
    expectation=f"no two subjects with r above {SAME_DATA:g}",
    upper=SAME_DATA,
    unit="r",
    meanings={
        "passed": "No two subjects have the same data.",
        "failed": "No two brains are alike: two subjects with the same RDM have the same data.",
        "not decidable": "The RDMs have no variance, so they cannot be compared.",
    },
    thresholds=(Threshold("largest r", SAME_DATA, "brains differ; simulated subjects: none"),),
)


@dataclass(frozen=True)
class SubjectAgreement:
    """How the RDMs of subjects agree in a region.

    Attributes
    ----------
    correlation : ndarray of float64, shape (n_subjects, n_subjects)
        Pearson r of the upper triangles; NaN where an RDM is constant.
    mean : float
        Over pairs of subjects.
    p : float
        How often permuted images would agree as much as the mean: a bound from the standard
        deviation where that is at most `LARGEST_P`; else the share of permutations with at least
        the mean observed, which is counted among them, from `IMAGES_PERMUTED` images, evenly
        spaced, where there are more.
    with_others : ndarray of float64, shape (n_subjects,)
        r of each subject's RDM with the mean of the others'.
    p_of_subjects : ndarray of float64, shape (n_subjects,)
        The same as `p` for each subject with the others.
    spread : float
        Standard deviation over permutations of the mean over pairs.
    spread_of_subjects : ndarray of float64, shape (n_subjects,)
        Standard deviation over permutations of each subject's r with the others.
    n_images : int
        Of the RDMs.
    """

    correlation: NDArray[np.float64]
    mean: float
    p: float
    with_others: NDArray[np.float64]
    p_of_subjects: NDArray[np.float64]
    spread: float
    spread_of_subjects: NDArray[np.float64]
    n_images: int


def subject_agreement(
    rdms: NDArray[np.floating], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> SubjectAgreement:
    """Correlate the RDMs of subjects, and compare with those of permuted images.

    Mean and variance over all permutations are known without one (Mantel 1967, Cancer Research
    27:209), and no distribution exceeds its mean by z standard deviations with a probability above
    1 / (1 + z^2) (Cantelli). Images are permuted only where this bound does not settle it.

    Parameters
    ----------
    rdms : ndarray of float, shape (n_subjects, n_images, n_images)
        Symmetric; at least two subjects. What is not finite counts as the RDM's mean.
    permutations : int
        How many, where they are needed.
    seed : int
        Of the permutations.

    Returns
    -------
    SubjectAgreement
        p is at least 1 / (permutations + 1) where images were permuted.
    """
    units = np.stack([unit_rdm(rdm) for rdm in rdms])
    correlation = np.einsum("kij,lij->kl", units, units, optimize=True).astype(np.float64)
    constant = ~units.any(axis=(1, 2))
    correlation[constant] = correlation[:, constant] = np.nan
    rest = _rest(units)
    mean, with_others = _agreements(units, rest)
    spread, spread_of_subjects = _spreads(units, rest)
    p = float(_largest_p(mean, spread))
    p_of_subjects = _largest_p(with_others, spread_of_subjects)
    if max(p, *p_of_subjects) > LARGEST_P:
        p, p_of_subjects = _permuted(rdms, permutations, seed)
    return SubjectAgreement(
        correlation,
        mean,
        p,
        with_others,
        p_of_subjects,
        float(spread),
        spread_of_subjects,
        rdms.shape[1],
    )


def _largest_p(
    agreement: NDArray[np.float64] | float, spread: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return Cantelli's bound of the probability of an agreement or more; 1 of none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.asarray(agreement) / spread
    return np.where(z > 0, 1 / (1 + z**2), 1.0)


def _spreads(
    units: NDArray[np.float32], rest: NDArray[np.float32]
) -> tuple[np.float64, NDArray[np.float64]]:
    """Return the standard deviations over permutations of what `_agreements` returns.

    Each subject's images are permuted independently, so that pairs of subjects do not covary.
    """
    n_subjects = len(units)
    sums = [_sums(unit) for unit in units]
    n_images = units.shape[1]
    pairs = sum(_variance(*two, n_images) for two in combinations(sums, 2))
    of_subjects = [
        _variance(own, _sums(others), n_images) for own, others in zip(sums, rest, strict=True)
    ]
    return 2 * np.sqrt(pairs) / (n_subjects * (n_subjects - 1)), np.sqrt(of_subjects)


def _sums(unit: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what the variance takes of an RDM whose sum is 0, for pairs of its entries.

    The sum of the products of all pairs that are the same entry, share one image, and share none.
    """
    same = np.einsum("ij,ij->", unit, unit, dtype=np.float64)
    of_images = (unit.sum(axis=1, dtype=np.float64) ** 2).sum()
    return np.array([same, of_images - same, 2 * same - 4 * of_images])


def _variance(first: NDArray[np.float64], second: NDArray[np.float64], n_images: int) -> float:
    """Return the variance of the inner product of two RDMs over permutations of one's images."""
    n = n_images
    counts = np.array([n * (n - 1), n * (n - 1) * (n - 2), n * (n - 1) * (n - 2) * (n - 3)])
    terms = np.array([2, 4, 1]) * first * second
    return max(0.0, float(np.divide(terms, counts, where=counts > 0, out=np.zeros(3)).sum()))


def _permuted(
    rdms: NDArray[np.floating], permutations: int, seed: int
) -> tuple[float, NDArray[np.float64]]:
    """Return the shares of permutations with at least the agreement observed, as `p` and so on."""
    n_images = rdms.shape[1]
    some = np.arange(n_images)
    if n_images > IMAGES_PERMUTED:
        some = np.linspace(0, n_images - 1, IMAGES_PERMUTED).astype(np.int64)
    units = np.stack([unit_rdm(rdm[np.ix_(some, some)]) for rdm in rdms])
    rest = _rest(units)
    observed, observed_of_subjects = _agreements(units, rest)
    generator = np.random.default_rng(seed)
    as_much, as_much_of_subjects = 1, np.ones(len(units))
    permuted = np.empty_like(units)
    for _ in range(permutations):
        for subject, unit in enumerate(units):
            order = generator.permutation(len(unit))
            permuted[subject] = unit.take(order, axis=0).take(order, axis=1)
        by_chance, of_subjects_by_chance = _agreements(permuted, rest)
        as_much += by_chance >= observed
        as_much_of_subjects += of_subjects_by_chance >= observed_of_subjects
    return as_much / (permutations + 1), as_much_of_subjects / (permutations + 1)


def _rest(units: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return, for each subject, the other subjects' mean RDM, centred and scaled."""
    return np.stack(
        [unit_rdm(np.delete(units, subject, 0).sum(0)) for subject in range(len(units))]
    )


def _agreements(
    units: NDArray[np.float32], rest: NDArray[np.float32]
) -> tuple[float, NDArray[np.float64]]:
    """Return the mean r over pairs of `units`, and the r of each with its `rest`."""
    flat = units.reshape(len(units), -1)
    total = flat.sum(axis=0)
    # The square of the sum is the sum over all pairs, and each RDM with itself.
    pairs = float(total @ total) - sum(float(unit @ unit) for unit in flat)
    with_rest = np.array(
        [own @ other for own, other in zip(flat, rest.reshape(flat.shape), strict=True)]
    )
    return pairs / (len(units) * (len(units) - 1)), with_rest.astype(np.float64)


def check_subject_agreement(
    region: str,
    subjects: Sequence[int],
    agreement: SubjectAgreement,
    reliability: Callable[[], NDArray[np.float64]],
) -> list[Check]:
    """Check that the subjects' RDMs agree above chance, each with the others, and differ.

    Parameters
    ----------
    region : str
        Its name.
    subjects : sequence of int
        1-based, in the order of the RDMs.
    agreement : SubjectAgreement
        As `subject_agreement` gives it.
    reliability : callable
        Gives the reliability of each subject's RDM, float64 (n_subjects,), as
        `nsd_prep.checks.rdms.rdm_reliability` does: it tells whether an agreement at chance means
        anything. Called where there is one, with images enough to tell, and at most once.

    Returns
    -------
    list of Check
        Three.
    """
    reliability = functools.cache(reliability)
    n_subjects = len(subjects)
    names = [f"subj{subject:02d}" for subject in subjects]
    verdicts = [_verdict_of_subject(index, agreement, reliability) for index in range(n_subjects)]
    alone = [n for n, v in zip(names, verdicts, strict=True) if v in ("failed", "suspicious")]
    unsure = [n for n, v in zip(names, verdicts, strict=True) if v == "not decidable"]
    is_enough = agreement.n_images >= FEWEST_IMAGES_OF_SUSPICION
    together: Verdict = "not decidable"
    if agreement.p <= LARGEST_P:
        together = "passed"
    elif is_enough and _usually_seen(float(reliability().mean()), agreement.spread):
        together = "suspicious"
    pairs = agreement.correlation[np.triu_indices(n_subjects, 1)]
    highest = float(np.nanmax(pairs)) if np.isfinite(pairs).any() else float("nan")
    same = ", ".join(
        f"{names[first]} and {names[second]}"
        for first, second in np.argwhere(np.triu(agreement.correlation > SAME_DATA, 1))
    )
    lowest = int(np.argmin(agreement.with_others))
    r = number_text(agreement.with_others[lowest], ".3f")
    told = f"all; the lowest is {names[lowest]} with r {r}"
    if alone:
        told = f"at chance: {', '.join(alone)}"
    elif unsure:
        told = f"cannot be told: {', '.join(unsure)}"
    return [
        SUBJECTS_AGREE.check(together, region=region, measured=agreement.p, mean=agreement.mean),
        EACH_SUBJECT_AGREES.check(
            worst(verdicts),
            region=region,
            measured=agreement.p_of_subjects.max(),
            reason="alone" if alone else "",
            found=told,
        ),
        SUBJECTS_DIFFER.check(
            not same if np.isfinite(highest) else None,
            region=region,
            measured=highest,
            found=f"the same: {same}" if same else f"highest r {number_text(highest, '.3f')}",
        ),
    ]


def _verdict_of_subject(
    index: int, agreement: SubjectAgreement, reliability: Callable[[], NDArray[np.float64]]
) -> Verdict:
    """Decide on a subject's agreement with the others; at chance, by how these agree."""
    if agreement.p_of_subjects[index] <= LARGEST_P:
        return "passed"
    spread = float(agreement.spread_of_subjects[index])
    others = np.delete(np.delete(agreement.correlation, index, 0), index, 1)
    pairs = others[np.triu_indices(len(others), 1)]
    # The others' mean r with each other is less than that with the mean of all of them.
    if len(pairs) and _seen(LOWEST_SHARE_OF_OTHERS * float(np.nan_to_num(pairs).mean()), spread):
        return "failed"
    if agreement.n_images < FEWEST_IMAGES_OF_SUSPICION:
        return "not decidable"
    of_rdms = reliability()
    usual = float(np.sqrt(of_rdms[index] * np.delete(of_rdms, index).mean()))
    return "suspicious" if _usually_seen(usual, spread) else "not decidable"


def _usually_seen(reliability: float, spread: float) -> bool:
    """Return whether what subjects usually share would stand out from chance."""
    return _seen(USUAL_CONSISTENCY * reliability, spread)


def _seen(agreement: float, spread: float) -> bool:
    """Return whether so much agreement would stand out from chance."""
    return agreement >= SEEN * spread > 0
