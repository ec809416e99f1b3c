"""The published numbers, against each other and against the theory that they follow."""

import math

import pytest

from nsd_prep.dataset import published
from nsd_prep.dataset.noise_ceiling import predicted_response_deviation
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.dataset.splits import train_images

#: Median noise ceilings in percent, subjects 1 to 8.
MEDIANS = {
    "V1": (48.0, 49.1, 38.7, 33.7, 40.9, 38.8, 25.5, 21.5),
    "V2": (40.2, 31.0, 32.0, 31.7, 36.1, 32.0, 25.5, 20.1),
    "V4": (27.4, 42.1, 26.1, 21.2, 30.3, 23.8, 20.5, 19.4),
}


def test_284_sessions_and_213000_trials() -> None:
    assert tuple(published.SESSION_COUNTS) == published.SUBJECTS == (1, 2, 3, 4, 5, 6, 7, 8)
    assert sum(published.SESSION_COUNTS.values()) == 284
    assert sum(published.SESSION_COUNTS.values()) * published.TRIALS_PER_SESSION == 213_000
    assert published.PLANNED_TRIALS == published.REPETITIONS * published.IMAGES_OF_A_SUBJECT
    assert max(published.SESSION_COUNTS.values()) * published.TRIALS_PER_SESSION == 30_000
    own = published.IMAGES_OF_A_SUBJECT - published.SHARED_IMAGES
    assert published.SHARED_IMAGES + 8 * own == published.IMAGES


def test_every_subject_has_a_grid_of_its_own() -> None:
    assert set(published.GRIDS) == set(published.SUBJECTS)
    assert len(set(published.GRIDS.values())) == 8
    assert published.GRIDS[1] == (81, 104, 83)
    assert published.GRIDS[8] == (80, 103, 78)
    assert all(len(set(grid)) == 3 for grid in published.GRIDS.values())


@pytest.mark.parametrize(
    ("region", "in_all"), [("V1", 9039), ("V2", 8792), ("V4", 3982), ("IT", 62_751)]
)
def test_voxels_add_up(region: str, in_all: int) -> None:
    assert region in BUILT_IN_REGIONS
    assert len(published.VOXEL_COUNTS[region]) == 8
    assert sum(published.VOXEL_COUNTS[region]) == in_all


def test_all_regions_of_all_subjects_are_84564_neuroids() -> None:
    assert sum(map(sum, published.VOXEL_COUNTS.values())) == 84_564
    four = sum(
        item[subject - 1] for item in published.VOXEL_COUNTS.values() for subject in (1, 2, 5, 7)
    )
    assert four == 40_314


def test_repetitions_account_for_every_shared_image_and_session_count() -> None:
    for subject, counts in published.REPETITION_COUNTS.items():
        assert sum(counts) == published.SHARED_IMAGES
        same_sessions = [
            other
            for other in published.SUBJECTS
            if published.SESSION_COUNTS[other] == published.SESSION_COUNTS[subject]
        ]
        assert {published.REPETITION_COUNTS[other] for other in same_sessions} == {counts}
    assert min(counts[0] for counts in published.REPETITION_COUNTS.values()) == 515


@pytest.mark.parametrize("region", MEDIANS)
def test_mean_of_the_medians(region: str) -> None:
    mean = sum(MEDIANS[region]) / 8
    assert published.MEAN_MEDIAN_NOISE_CEILING[region] == pytest.approx(mean, abs=0.06)
    assert published.MEAN_MEDIAN_NOISE_CEILING_TOLERANCE == 0.5


def test_split_of_the_published_images() -> None:
    is_train = train_images(515)
    assert int(is_train.sum()) == 412
    first_five = ["03049", "03077", "03157", "03164", "03171"]
    train = [nsd_id for nsd_id, train in zip(first_five, is_train, strict=False) if train]
    assert train == ["03049", "03157", "03164", "03171"]


@pytest.mark.parametrize(("region", "deviation"), [("V1", 0.676), ("V2", 0.665), ("V4", 0.648)])
def test_published_deviations_follow_from_the_noise_ceilings(region: str, deviation: float) -> None:
    # NC = 100 s^2 / (s^2 + 1/3), so that s^2 = NC / (3 (100 - NC)); a subject by its median.
    ncsnr = [math.sqrt(ceiling / (3 * (100 - ceiling))) for ceiling in MEDIANS[region]]
    assert predicted_response_deviation(ncsnr) == pytest.approx(deviation, rel=0.04)
