"""RDMs as the checks compare them: square, centred and scaled; and how reliable they are."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import squareform


def square_rdms(upper_triangles: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return RDMs (n_rdms, n_images, n_images) of upper triangles (n_rdms, n_pairs)."""
    return np.stack([squareform(pairs, force="tomatrix") for pairs in upper_triangles])


def rdm_reliability(responses: NDArray[np.float32]) -> float:
    """Return how reliable the RDM of averaged responses is.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        Single-trial z-scores.

    Returns
    -------
    float
        The mean correlation r of the RDMs of single repetitions, corrected to the average of
        three, 3 r / (1 + 2 r) (Spearman-Brown); at least 0. 0 with fewer than two voxels or three
        images.
    """
    n_images, n_repetitions, n_voxels = responses.shape
    if n_voxels < 2 or n_images < 3:
        return 0.0
    units = []
    for repetition in range(n_repetitions):
        patterns = responses[:, repetition]
        mean = patterns.mean(axis=1)
        # Centred afterwards: z-scores are small, and a copy of a region's responses is not.
        products = patterns @ patterns.T - n_voxels * np.multiply.outer(mean, mean)
        lengths = np.sqrt(np.maximum(products.diagonal(), 0))
        lengths[lengths == 0] = 1
        units.append(unit_rdm(1 - products / np.multiply.outer(lengths, lengths)).ravel())
    correlations = [float(first @ second) for first, second in combinations(units, 2)]
    mean = max(0.0, float(np.mean(correlations)))
    return n_repetitions * mean / (1 + (n_repetitions - 1) * mean)


def unit_rdm(rdm: NDArray[np.floating]) -> NDArray[np.float32]:
    """Centre an RDM off its diagonal and scale it: inner products are then correlations."""
    values = np.asarray(rdm, dtype=np.float64).copy()
    used = np.isfinite(values)
    np.fill_diagonal(used, False)
    values -= values[used].mean() if used.any() else 0
    values[~used] = 0
    length = np.linalg.norm(values)
    # Rounding leaves a constant RDM with a tiny length.
    return (values / length if length > 1e-9 else np.zeros_like(values)).astype(np.float32)
