"""Noise ceilings, intervals and cross-validated distances of dissimilarity matrices (RDMs)."""

from itertools import combinations, combinations_with_replacement
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

#: Images or subjects from which an interval is made.
FEWEST_UNITS: Final = 4


class RDMNoiseCeiling(NamedTuple):
    """The correlation with subjects' RDMs that a perfect model can reach.

    Means over subjects of a subject's correlation with the mean of the others (`lower`), and with
    the mean of all, in which it takes part itself (`upper`).
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
    """Return the inverse of each voxel's noise variance, float64 (n_voxels,), for `crossnobis`.

    The variance over the repetitions of `responses` (n_images, n_repetitions, n_voxels), averaged
    over images; 0 where there is none.
    """
    variance = np.asarray(responses, dtype=np.float64).var(axis=1, ddof=1).mean(axis=0)
    precision = np.zeros_like(variance)
    np.divide(1, variance, out=precision, where=variance > 0)
    return precision


def jackknife_interval(
    correlation: NDArray[np.floating] | float, left_out: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return 95 % intervals of correlations from what they are without each unit of a sample.

    By the jackknife on Fisher's z and Student's t (Efron & Tibshirani 1993, chapter 11).

    Parameters
    ----------
    correlation : float, or ndarray of float of any shape
        With all units.
    left_out : ndarray of float, shape (n_units, *shape)
        The same without each of them.

    Returns
    -------
    ndarray of float64, shape (2, *shape)
        Lower and upper ends; NaN where a value is NaN, 1 or -1, and of fewer than four units.
    """
    n_units = len(left_out)
    if n_units < FEWEST_UNITS:
        return np.full((2, *np.shape(correlation)), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, parts = np.arctanh(correlation), np.arctanh(left_out)
        spread = np.sqrt((n_units - 1) * parts.var(axis=0))
        half = np.where(np.isfinite(whole), stdtrit(n_units - 1, 0.975) * spread, np.nan)
        return np.tanh(np.stack([whole - half, whole + half]))


def correlations_without_each_image(rdms: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return Pearson r between RDMs with each image left out in turn.

    Parameters
    ----------
    rdms : ndarray of float, shape (n_rdms, n_images, n_images)
        Symmetric, of the same images; the diagonal is not looked at.

    Returns
    -------
    ndarray of float64, shape (n_images, n_rdms, n_rdms)
        Over the pairs of the other images; NaN where an RDM is constant or holds NaN, and of fewer
        than four images.
    """
    n_rdms, n_images = rdms.shape[:2]
    if n_images < FEWEST_UNITS:
        return np.full((n_images, n_rdms, n_rdms), np.nan)
    off_diagonal = ~np.eye(n_images, dtype=np.bool_)
    centred = [np.where(off_diagonal, rdm - rdm[off_diagonal].mean(), 0.0) for rdm in rdms]

    def without(of_image: NDArray[np.float64]) -> NDArray[np.float64]:
        # An image's pairs lie in its row and in its column.
        return of_image.sum() - 2 * of_image

    n_pairs = (n_images - 1) * (n_images - 2)
    means = [without(rdm.sum(axis=0)) / n_pairs for rdm in centred]
    covariance = np.empty((n_images, n_rdms, n_rdms))
    for a, b in combinations_with_replacement(range(n_rdms), 2):
        products = np.einsum("ij,ij->i", centred[a], centred[b])
        covariance[:, a, b] = without(products) / n_pairs - means[a] * means[b]
        covariance[:, b, a] = covariance[:, a, b]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.einsum("iaa->ia", covariance))
        correlation: NDArray[np.float64] = covariance / (
            spread[:, :, np.newaxis] * spread[:, np.newaxis]
        )
    return correlation
