"""The checks of sound but small, individual or gappy data: nothing fails, nothing warns."""

from itertools import product

import numpy as np
import pytest

from nsd_prep.analysis.rdm import upper_triangle
from nsd_prep.checks import (
    SingleTrials,
    check_images,
    check_placement,
    check_run,
    check_single_trials,
)
from nsd_prep.checks.rdms import rdm_reliability
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check
from nsd_prep.dataset.space import VolumeSpace

pytestmark = pytest.mark.filterwarnings("error")


def checks_of(
    seed: int,
    *,
    n_images: int = 60,
    n_voxels: int = 60,
    n_subjects: int = 3,
    regions: tuple[str, ...] = ("A", "B"),
    strength: float = 0.5,
    shared: float = 0.5,
    gaps: float = 0.0,
    tired: float = 1.0,
) -> list[Check]:
    """Simulate a run with a share of signal common to subjects, and check it."""
    generator = np.random.default_rng(seed)
    n_sessions = 6
    common = {region: generator.normal(size=(n_images, 12)) for region in regions}
    evidence, found, reliability = [], [], {}
    rdms: dict[str, list[np.ndarray]] = {region: [] for region in regions}
    for subject, region in product(range(1, n_subjects + 1), regions):
        own = generator.normal(size=(n_images, 12))
        features = np.sqrt(shared) * common[region] + np.sqrt(1 - shared) * own
        ncsnr = strength * generator.lognormal(0, 0.5, n_voxels)
        tuning = generator.normal(size=(12, n_voxels)) / np.sqrt(12)
        place = np.random.default_rng([seed, subject]).permutation(3 * n_images)
        place = place.reshape(n_images, 3)
        session, trial = place % n_sessions + 1, place // n_sessions
        gain = np.where(session == n_sessions, tired, 1.0)[..., np.newaxis]
        signal = (features @ tuning * ncsnr)[:, np.newaxis] * gain
        trials = signal + generator.normal(size=(n_images, 3, n_voxels))
        trials /= np.sqrt(1 + (gain * ncsnr) ** 2)
        without_data = generator.random((n_sessions, n_voxels)) < gaps
        trials[without_data[session - 1]] = 0
        every = -(-3 * n_images // n_sessions)
        single = SingleTrials(
            trials.astype(np.float32),
            ncsnr.astype(np.float32),
            session,
            trial,
            100 * every,
            np.arange(1, n_sessions + 1),
            without_data,
        )
        one = check_single_trials(region, subject, single)
        evidence.append(one)
        found += one.checks
        reliability[subject, region] = rdm_reliability(single.responses)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = trials.mean(axis=1)
            centred = mean - mean.mean(axis=1, keepdims=True)
            centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        rdms[region].append(1 - np.nan_to_num(centred @ centred.T))
    upper = {region: np.stack([upper_triangle(rdm) for rdm in own]) for region, own in rdms.items()}
    return [*found, *check_run(evidence, upper, lambda *at: reliability[at], permutations=210)]


SMALL = {
    "two images": {"n_images": 2},
    "one image": {"n_images": 1},
    "one subject": {"n_subjects": 1},
    "one region": {"regions": ("A",)},
    "one voxel": {"n_voxels": 1},
    "two voxels": {"n_voxels": 2},
    "no reliable voxel": {"strength": 0.02},
    "no signal by the ncsnr": {"strength": 0.0},
    "dead voxels": {"gaps": 0.05},
    "many dead voxels": {"gaps": 0.5},
    "nothing shared": {"shared": 0.0, "n_images": 40},
    "little shared, weak": {"shared": 0.2, "strength": 0.3},
}


@pytest.mark.parametrize("case", SMALL)
def test_small_and_individual_data_fail_nothing(case: str) -> None:
    for seed in range(5):
        failed = [check for check in checks_of(seed, **SMALL[case]) if check.verdict == "failed"]
        assert failed == []


@pytest.mark.parametrize("seed", range(5))
def test_a_tired_last_session_is_suspicious_at_most(seed: int) -> None:
    checks = checks_of(seed, n_images=130, n_voxels=200, tired=1 / 3)
    assert [check for check in checks if check.verdict == "failed"] == []


def test_a_subject_about_whom_nothing_is_decided_is_suspicious_or_too_small() -> None:
    weak = [one for one in checks_of(0, strength=0.02) if one.name == "subject can be judged"]
    assert {one.verdict for one in weak} == {"suspicious"}
    empty = [one for one in checks_of(0, strength=0.0) if one.name == "subject can be judged"]
    assert {one.verdict for one in empty} == {"suspicious"}
    assert "0 of 120 voxels with signal" in describe(empty[0]).value
    small = [one for one in checks_of(0, n_images=5) if one.name == "subject can be judged"]
    assert {one.verdict for one in small} == {"not decidable"}


class TestPlacement:
    SPACE = VolumeSpace((20, 24, 22), np.eye(4))

    def volume(self) -> np.ndarray:
        generator = np.random.default_rng(0)
        ncsnr = generator.uniform(0.05, 0.5, (20, 24, 22)).astype(np.float32)
        ncsnr[generator.random(ncsnr.shape) < 0.1] = 0
        ncsnr[:3] = np.nan
        return ncsnr

    @pytest.mark.parametrize(
        ("n_voxels", "verdict"),
        [(5, "passed"), (18, "suspicious"), (80, "suspicious"), (300, "failed")],
    )
    def test_a_third_out_of_coverage_is_sure_in_large_regions_alone(
        self, n_voxels: int, verdict: str
    ) -> None:
        ncsnr = self.volume()
        out, covered = np.flatnonzero(np.isnan(ncsnr)), np.flatnonzero(ncsnr > 0)
        inside = np.sort(
            np.concatenate([out[: n_voxels // 3], covered[: n_voxels - n_voxels // 3]])
        )
        checks = check_placement(1, {"own": inside}, self.SPACE, ncsnr, np.isfinite(ncsnr))
        for name in ("mask in the brain", "region inside the brain mask"):
            found = next(check for check in checks if check.name == name)
            assert found.verdict == verdict

    def test_a_few_more_voxels_without_signal_than_around_are_chance(self) -> None:
        ncsnr = self.volume()
        region = np.zeros(ncsnr.shape, dtype=bool)
        region[8:11, 8:11, 8:10] = True
        ncsnr[region] = 0.3
        ncsnr.ravel()[np.flatnonzero(region)[:4]] = 0
        checks = check_placement(1, {"own": np.flatnonzero(region)}, self.SPACE, ncsnr)
        assert "failed" not in {check.verdict for check in checks}

    def test_an_ncsnr_of_zeros_is_no_ncsnr(self) -> None:
        region = np.arange(20 * 20 * 4)
        ncsnr = np.zeros((20, 20, 20), np.float32)
        space = VolumeSpace(ncsnr.shape, np.eye(4))
        (mask, _) = check_placement(1, {"V1": region}, space, ncsnr)
        assert (mask.name, mask.verdict) == ("mask in the brain", "failed")
        assert "ncsnr volume is empty" in describe(mask).meaning
        ncsnr[-1] = 0.5  # far from the region
        (mask, _) = check_placement(1, {"V1": region}, space, ncsnr)
        assert mask.verdict == "suspicious"

    def test_an_empty_region_says_nothing(self) -> None:
        checks = check_placement(1, {"own": np.zeros(0, np.int64)}, self.SPACE, self.volume())
        assert {check.verdict for check in checks} == {"not decidable"}


def test_few_images_are_not_compared_with_v1() -> None:
    found = check_images(np.zeros((2, 5)), np.zeros((2, 2)), natural=True)
    assert found.verdict == "not decidable"
