"""What the truth of a synthetic dataset implies, computed for tests."""

import numpy as np
from numpy.typing import NDArray

from nsd_prep.synthetic import SubjectTruth, SyntheticTruth
from nsd_prep.synthetic.latents import DIMENSIONS, dimension_weights
from nsd_prep.synthetic.plan import REGIONS


def region_rows(truth: SubjectTruth, name: str) -> NDArray[np.int64]:
    """Return the rows of a region's voxels, ascending: indices into the arrays of the truth."""
    return np.flatnonzero(truth.in_region[REGIONS.index(name)])


def region_latents(
    truth: SyntheticTruth, region: str, nsd_ids: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the shared features of a region, (n, DIMENSIONS).

    Each is scaled to its share of the region's signal: inner products of rows are the expected
    similarity of the images in a region of very many voxels.
    """
    weights = dimension_weights(region)[:DIMENSIONS]
    return truth.shared_latents[nsd_ids].astype(np.float64) * np.sqrt(weights)


def signal(truth: SyntheticTruth, subject: int, nsd_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the noise-free responses of a subject to images of its own, (n, n_voxels).

    In units of the noise's SD: ``signal_strength * (tuning . features)``.
    """
    images, features = truth.latents(subject)
    order = np.argsort(images)
    place = order[np.searchsorted(images, nsd_ids, sorter=order)]
    np.testing.assert_array_equal(images[place], nsd_ids)
    voxels = truth.subjects[subject]
    return features[place] @ (voxels.tuning * voxels.signal_strength[:, np.newaxis]).T
