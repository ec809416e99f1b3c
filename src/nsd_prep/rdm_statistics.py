"""Noise ceilings, intervals and cross-validated distances of dissimilarity matrices (RDMs)."""

from itertools import combinations, combinations_with_replacement
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Shares of the bootstrap samples below the ends of an interval of 95 %.
_ENDS: Final = ((1 - 0.95) / 2, (1 + 0.95) / 2)
#: Bootstrap samples that are handled together.
_AT_ONCE: Final = 256


class RDMNoiseCeiling(NamedTuple):
    """The correlation with subjects' RDMs that a perfect model can reach.

    Attributes
    ----------
    lower, upper : float
        Mean over subjects of the correlation of a subject's RDM with the mean of the others', and
        with the mean of all, in which it takes part itself.
    """

    lower: float
    upper: float


def rdm_noise_ceiling(rdms: NDArray[np.floating]) -> RDMNoiseCeiling:
    """Return the bounds of the noise ceiling over subjects (Nili et al. 2014, PLoS Comp. Biol. 10).

    Parameters
    ----------
    rdms : ndarray of float, shape (n_subjects, n_pairs)
        Upper triangles; they are z-scored before they are averaged.

    Returns
    -------
    RDMNoiseCeiling
        NaN with fewer than two subjects or three pairs, or where an RDM is constant.
    """
    n_subjects, n_pairs = rdms.shape
    if n_subjects < 2 or n_pairs < 3:
        return RDMNoiseCeiling(float("nan"), float("nan"))
    pairs = np.asarray(rdms, dtype=np.float64)
    pairs = pairs - pairs.mean(axis=1, keepdims=True)
    length = np.linalg.norm(pairs, axis=1, keepdims=True)
    pairs /= np.where(length > 1e-9, length, np.nan)
    total = pairs.sum(axis=0)
    upper = pairs @ total / np.linalg.norm(total)
    rest = total - pairs
    lower = (pairs * rest).sum(axis=1) / np.linalg.norm(rest, axis=1)
    return RDMNoiseCeiling(float(lower.mean()), float(upper.mean()))


def crossnobis(
    responses: NDArray[np.floating], precision: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Return cross-validated squared distances: 0 on average where two images evoke the same.

    The inner product of two images' differences in one repetition and in another, over all pairs
    of repetitions, divided by the number of voxels (Walther et al. 2016, NeuroImage 137:188). The
    repetitions of b3 are not quite independent, as its regularisation uses all of them.

    Parameters
    ----------
    responses : ndarray of float, shape (n_images, n_repetitions, n_voxels)
        At least two repetitions.
    precision : ndarray of float, shape (n_voxels,) or (n_voxels, n_voxels), optional
        Inverse noise variances, or covariances; Euclidean distances where none is given.

    Returns
    -------
    ndarray of float64, shape (n_images, n_images)
        Symmetric, 0 on the diagonal; may be negative.
    """
    values = np.asarray(responses, dtype=np.float64)
    _, n_repetitions, n_voxels = values.shape
    weighted = values
    if precision is not None:
        weighted = values * precision if precision.ndim == 1 else values @ precision
    products = np.mean(
        [
            weighted[:, a] @ values[:, b].T + weighted[:, b] @ values[:, a].T
            for a, b in combinations(range(n_repetitions), 2)
        ],
        axis=0,
    )
    products /= 2 * n_voxels
    own = products.diagonal()
    distances: NDArray[np.float64] = own[:, np.newaxis] + own - products - products.T
    np.fill_diagonal(distances, 0)
    return distances


def noise_precision(responses: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the inverse of each voxel's noise variance, for `crossnobis`.

    Parameters
    ----------
    responses : ndarray of float, shape (n_images, n_repetitions, n_voxels)
        At least two repetitions.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Inverse of the variance over repetitions, averaged over images; 0 where there is none.
    """
    variance = np.asarray(responses, dtype=np.float64).var(axis=1, ddof=1).mean(axis=0)
    precision = np.zeros_like(variance)
    np.divide(1, variance, out=precision, where=variance > 0)
    return precision


def correlation_intervals(
    rdms: NDArray[np.floating], *, samples: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Return 95 % intervals of the correlations of RDMs, by a bootstrap over images.

    Pairs of an image with itself are left out of each sample: they are alike in every RDM.

    Parameters
    ----------
    rdms : ndarray of float, shape (n_rdms, n_images, n_images)
        Symmetric, of the same images.
    samples : int
        How many.
    seed : int
        Of the samples.

    Returns
    -------
    ndarray of float64, shape (2, n_rdms, n_rdms)
        Lower and upper ends; NaN on the diagonal, with fewer than four images, and of an RDM that
        holds NaN.
    """
    n_rdms, n_images = rdms.shape[:2]
    ends = np.full((2, n_rdms, n_rdms), np.nan)
    if n_images < 4:
        return ends
    off_diagonal = ~np.eye(n_images, dtype=np.bool_)
    centred = [np.where(off_diagonal, rdm - rdm[off_diagonal].mean(), 0.0) for rdm in rdms]
    pairs = list(combinations_with_replacement(range(n_rdms), 2))
    generator = np.random.default_rng(seed)
    weights = [
        generator.multinomial(
            n_images, np.full(n_images, 1 / n_images), min(_AT_ONCE, samples - start)
        ).astype(np.float64)
        for start in range(0, samples, _AT_ONCE)
    ]

    def totals(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([np.einsum("si,si->s", some @ matrix, some) for some in weights])

    # One product of two RDMs in memory at a time: there are as many as pairs of regions.
    n = totals(off_diagonal.astype(np.float64))
    sums = [totals(matrix) for matrix in centred]
    products = {(a, b): totals(centred[a] * centred[b]) for a, b in pairs}
    for a, b in combinations(range(n_rdms), 2):
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = (products[a, a] - sums[a] ** 2 / n) * (products[b, b] - sums[b] ** 2 / n)
            found = (products[a, b] - sums[a] * sums[b] / n) / np.sqrt(spread)
        if np.isfinite(found).any():
            ends[:, a, b] = ends[:, b, a] = np.nanquantile(found, _ENDS)
    return ends
