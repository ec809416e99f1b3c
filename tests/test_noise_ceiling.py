"""Noise ceilings, against the formulas by hand and against simulated voxels of known strength."""

import math

import numpy as np
import pytest

from nsd_prep.dataset.noise_ceiling import (
    noise_ceiling,
    noise_ceiling_of_unequal_repetitions,
    predicted_response_deviation,
)


def simulated(signal: float, n_images: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scored trials (n_images, 3) of a voxel with this ncsnr, and its true signal."""
    rng = np.random.default_rng(int(signal * 100))
    truth = rng.normal(size=n_images) * signal
    trials = truth[:, None] + rng.normal(size=(n_images, 3))
    return (trials - trials.mean()) / trials.std(), truth


class TestFormula:
    @pytest.mark.parametrize(
        ("ncsnr", "n_averaged", "percent"),
        [
            (1.0, 1, 50.0),
            (1.0, 3, 75.0),
            (2.0, 1, 80.0),
            (0.5, 3, 300 / 7),
            (0.0, 3, 0.0),
            (math.nan, 3, 0.0),
            (1e-20, 3, 0.0),
        ],
    )
    def test_by_hand(self, ncsnr: float, n_averaged: int, percent: float) -> None:
        found = noise_ceiling([ncsnr], n_averaged)
        assert found.dtype == np.float64
        assert found[0] == pytest.approx(percent, abs=1e-12)

    def test_three_repetitions_unless_said_otherwise(self) -> None:
        assert noise_ceiling([0.7])[0] == pytest.approx(100 * 0.49 / (0.49 + 1 / 3), rel=1e-14)

    def test_float32_ncsnr_is_taken_to_float64_first(self) -> None:
        ncsnr = np.random.default_rng(1).uniform(0, 2, 200).astype(np.float32)
        expected = [100 * float(s) ** 2 / (float(s) ** 2 + 1 / 3) for s in ncsnr]
        assert np.allclose(noise_ceiling(ncsnr), expected, rtol=1e-14, atol=0)

    def test_within_0_and_100(self) -> None:
        ncsnr = np.array([0, 1e-3, 0.5, 2, 100, 1e6, np.nan], dtype=np.float32)
        ceiling = noise_ceiling(ncsnr)
        assert ((ceiling >= 0) & (ceiling <= 100)).all()
        assert (np.diff(ceiling[:-1]) > 0).all()

    @pytest.mark.parametrize("signal", [0.3, 0.8, 1.5])
    @pytest.mark.parametrize("n_averaged", [1, 2, 3])
    def test_it_is_the_variance_that_the_true_signal_explains(
        self, signal: float, n_averaged: int
    ) -> None:
        zscores, truth = simulated(signal)
        explained = np.corrcoef(zscores[:, :n_averaged].mean(axis=1), truth)[0, 1] ** 2
        assert noise_ceiling([signal], n_averaged)[0] == pytest.approx(100 * explained, abs=4)


class TestUnequalRepetitions:
    def test_equal_repetitions_are_a_special_case(self) -> None:
        ncsnr = [0.0, 0.4, 1.3, np.nan]
        for n_averaged, counts in ((3, (9, 0, 0)), (2, (0, 4, 0)), (1, (0, 0, 7))):
            found = noise_ceiling_of_unequal_repetitions(ncsnr, *counts)
            assert np.allclose(found, noise_ceiling(ncsnr, n_averaged), rtol=1e-14)

    def test_by_hand(self) -> None:
        # (515/3 + 251/2 + 141) / 907
        noise_variance = (515 / 3 + 251 / 2 + 141) / 907
        found = noise_ceiling_of_unequal_repetitions([0.8], 515, 251, 141)[0]
        assert found == pytest.approx(100 * 0.64 / (0.64 + noise_variance), rel=1e-14)

    def test_no_data_is_0(self) -> None:
        assert noise_ceiling_of_unequal_repetitions([np.nan], 1, 1, 1)[0] == 0


class TestPredictedDeviation:
    @pytest.mark.parametrize("signal", [0.2, 0.6, 1.2])
    def test_simulated_voxels_have_it(self, signal: float) -> None:
        zscores, _ = simulated(signal)
        deviation = zscores.mean(axis=1).std()
        assert predicted_response_deviation([signal]) == pytest.approx(deviation, rel=0.03)
        expected = math.sqrt((signal**2 + 1 / 3) / (1 + signal**2))
        assert predicted_response_deviation([signal]) == pytest.approx(expected, rel=1e-12)

    def test_variances_are_averaged_over_voxels(self) -> None:
        # 1/3 without signal, (1 + 1/3) / 2 at ncsnr 1.
        expected = math.sqrt((1 / 3 + 2 / 3) / 2)
        assert predicted_response_deviation([0.0, 1.0]) == pytest.approx(expected, rel=1e-12)

    def test_voxels_without_ncsnr_are_passed_over(self) -> None:
        some = predicted_response_deviation([0.3, 0.9])
        assert predicted_response_deviation([0.3, np.nan, 0.9]) == some
        assert math.isnan(predicted_response_deviation([np.nan]))

    def test_single_trials_have_deviation_1(self) -> None:
        assert predicted_response_deviation([0.3, 0.9], n_averaged=1) == pytest.approx(1)
