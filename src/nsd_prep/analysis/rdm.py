"""Representational dissimilarity matrices (RDMs)."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

#: A pattern whose deviation is below this share of its mean cannot be told from a constant one
#: in float32, of which this is eight times the resolution.
_SMALLEST_DEVIATION: Final = 8 * float(np.finfo(np.float32).eps)


class RDM(NamedTuple):
    """How different the response patterns of images are.

    Attributes
    ----------
    distances : ndarray of float32, shape (n_images, n_images)
        1 - Pearson r, 0 to 2; symmetric, 0 on the diagonal.
    without_variance : ndarray of bool, shape (n_images,)
        Images whose pattern is the same in all voxels, or holds a value that is not finite. They
        correlate with nothing: their distance to every other image is 1.
    """

    distances: NDArray[np.float32]
    without_variance: NDArray[np.bool_]


def rdm(patterns: NDArray[np.float32]) -> RDM:
    """Return 1 - Pearson r between the response patterns of all pairs of images.

    Each pattern's mean over voxels is taken off, all products come from one matrix product, and
    the norms from its diagonal (Kriegeskorte et al. 2008, Frontiers in Systems Neuroscience 2:4,
    for the measure).

    Parameters
    ----------
    patterns : ndarray of float32, shape (n_images, n_voxels)
        Responses, at least one voxel.

    Returns
    -------
    RDM
        The distances, and which images have none of their own.
    """
    n_voxels = patterns.shape[1]
    # Where a value is not finite, so are its pattern's products, and they are set apart below.
    with np.errstate(invalid="ignore", over="ignore"):
        mean = patterns.mean(axis=1, keepdims=True)
        centred = patterns - mean
        distances = centred @ centred.T
        squares = distances.diagonal().astype(np.float64)
        smallest = n_voxels * (_SMALLEST_DEVIATION * mean[:, 0].astype(np.float64)) ** 2
        without_variance = ~((squares > smallest) & (squares < np.inf))
        norms = np.sqrt(np.where(without_variance, 1.0, squares)).astype(np.float32)
        # One division by the products of norms: two in a row would round differently on the two
        # sides of the diagonal.
        distances /= np.multiply.outer(norms, norms)
        np.subtract(np.float32(1), distances, out=distances)
        np.clip(distances, 0, 2, out=distances)
    distances[without_variance] = 1
    distances[:, without_variance] = 1
    np.fill_diagonal(distances, 0)
    return RDM(distances, without_variance)


def upper_triangle(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pairs of images (i, j) with i < j, row by row.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n_images, n_images)
        Symmetric.

    Returns
    -------
    ndarray of float32, shape (n_images * (n_images - 1) / 2,)
        In the order that SciPy calls condensed; of a symmetric matrix the lower triangle holds
        the same pairs.
    """
    triangle: NDArray[np.float32] = squareform(matrix, force="tovector", checks=False)
    return triangle


def from_upper_triangle(pairs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the symmetric matrix of `upper_triangle`, with 0 on the diagonal.

    Parameters
    ----------
    pairs : ndarray of float32, shape (n_images * (n_images - 1) / 2,)
        As `upper_triangle` gives them.

    Returns
    -------
    ndarray of float32, shape (n_images, n_images)
    """
    matrix: NDArray[np.float32] = squareform(pairs, force="tomatrix", checks=False)
    return matrix
