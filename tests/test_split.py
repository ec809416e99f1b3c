"""The split into train and test images."""

import numpy as np
import pytest

from nsd_prep.core.errors import ParameterError
from nsd_prep.dataset.splits import train_images


def by_definition(n_images: int, seed: int, train_fraction: float) -> list[bool]:
    """Return the split as it is defined, image by image."""
    order = list(range(n_images))
    np.random.RandomState(seed).shuffle(order)
    train = order[: int(train_fraction * n_images)]
    return [image in train for image in range(n_images)]


@pytest.mark.parametrize(
    ("n_images", "n_train", "n_test"), [(515, 412, 103), (1000, 800, 200), (2, 1, 1)]
)
def test_numbers_of_images(n_images: int, n_train: int, n_test: int) -> None:
    is_train = train_images(n_images)
    assert is_train.dtype == np.bool_
    assert (is_train.sum(), (~is_train).sum()) == (n_train, n_test)


def test_the_published_split_of_515_images() -> None:
    # The 515 start 03049 03077 03157 03164 03171; train 03049 03157 03164 03171, test 03077.
    assert train_images(515)[:5].tolist() == [True, False, True, True, True]


@pytest.mark.parametrize(("seed", "fraction"), [(42, 0.8), (0, 0.8), (42, 0.5), (7, 0.29)])
@pytest.mark.parametrize("n_images", [10, 24, 515])
def test_any_seed_and_fraction(n_images: int, seed: int, fraction: float) -> None:
    found = train_images(n_images, seed, fraction).tolist()
    assert found == by_definition(n_images, seed, fraction)


def test_another_seed_is_another_split() -> None:
    assert not np.array_equal(train_images(100, seed=1), train_images(100, seed=2))


def test_numpys_own_random_state_is_left_alone() -> None:
    before = np.random.get_state()  # noqa: NPY002
    train_images(100)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize(("n_images", "fraction"), [(1, 0.8), (0, 0.8), (10, 0.05), (10, 1.0)])
def test_a_side_without_images(n_images: int, fraction: float) -> None:
    with pytest.raises(ParameterError) as raised:
        train_images(n_images, train_fraction=fraction)
    message = str(raised.value)
    assert f"leaves {int(fraction * n_images)} of {n_images} images for train" in message
    assert "choose another train_fraction=" in message
