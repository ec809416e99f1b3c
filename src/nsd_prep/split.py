"""The fixed split of the images into train and test."""

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.errors import ParameterError


def train_images(n_images: int, seed: int = 42, train_fraction: float = 0.8) -> NDArray[np.bool_]:
    """Choose the train images.

    The indices 0..n-1 are shuffled by NumPy's ``RandomState(seed)``; the first
    ``int(train_fraction * n)`` are train. This is the split of the published Allen2022 benchmark.

    Parameters
    ----------
    n_images : int
        How many images there are.
    seed : int
        0 to 2**32 - 1.
    train_fraction : float
        Above 0 and below 1.

    Returns
    -------
    ndarray of bool, shape (n_images,)
        True for train, False for test, in the order of the images.

    Raises
    ------
    ParameterError
        Train or test would be empty.
    """
    n_train = int(train_fraction * n_images)
    if not 0 < n_train < n_images:
        raise ParameterError(
            f"The split leaves {n_train} of {n_images} images for train: expected at least one for "
            "train and one for test; choose another --train-fraction, or subjects that share more "
            "images."
        )
    # RandomState, not Generator: the published split was made with it.
    order = np.arange(n_images)
    np.random.RandomState(seed).shuffle(order)
    is_train = np.zeros(n_images, dtype=np.bool_)
    is_train[order[:n_train]] = True
    return is_train
