"""Noise ceilings, cross-validated distances and intervals of RDMs."""

import numpy as np
import pytest

from nsd_prep.rdm_statistics import (
    correlation_intervals,
    crossnobis,
    noise_precision,
    rdm_noise_ceiling,
)


def rdms(n_subjects: int, n_images: int = 30, common: float = 0.5, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(n_images, 20))
    own = generator.normal(size=(n_subjects, n_images, 20))
    return np.stack(
        [1 - np.corrcoef(np.sqrt(common) * shared + np.sqrt(1 - common) * one) for one in own]
    )


def triangles(full: np.ndarray) -> np.ndarray:
    return full[:, *np.triu_indices(full.shape[1], 1)]


class TestNoiseCeiling:
    def test_bounds_are_those_of_plain_correlations(self) -> None:
        pairs = rdms(5)[:, *np.triu_indices(30, 1)]
        z = (pairs - pairs.mean(1, keepdims=True)) / pairs.std(1, keepdims=True)
        upper = [np.corrcoef(one, z.mean(0))[0, 1] for one in z]
        lower = [np.corrcoef(z[s], np.delete(z, s, 0).mean(0))[0, 1] for s in range(5)]
        found = rdm_noise_ceiling(triangles(rdms(5)))
        assert found.lower == pytest.approx(np.mean(lower))
        assert found.upper == pytest.approx(np.mean(upper))
        assert found.lower < found.upper

    def test_agreement_without_noise_is_1(self) -> None:
        assert rdm_noise_ceiling(np.repeat(triangles(rdms(1)), 3, axis=0)) == pytest.approx((1, 1))

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("shape", [(1, 30), (4, 2)])
    def test_one_subject_or_two_images_have_none(self, shape: tuple[int, int]) -> None:
        assert np.isnan(rdm_noise_ceiling(triangles(rdms(*shape)))).all()


class TestNoisePrecision:
    def test_is_the_inverse_of_the_noise_that_was_simulated(self) -> None:
        generator = np.random.default_rng(2)
        noise = np.array([0.5, 1.0, 2.0])
        responses = generator.normal(size=(4000, 1, 3)) + noise * generator.normal(
            size=(4000, 3, 3)
        )
        np.testing.assert_allclose(noise_precision(responses), noise**-2, rtol=0.05)

    @pytest.mark.filterwarnings("error")
    def test_a_voxel_without_noise_has_no_weight(self) -> None:
        assert noise_precision(np.zeros((5, 3, 2))).tolist() == [0, 0]


class TestCrossnobis:
    def responses(self) -> np.ndarray:
        generator = np.random.default_rng(0)
        signal = generator.normal(size=(12, 1, 40))
        return signal + 2 * generator.normal(size=(12, 3, 40))

    @pytest.mark.parametrize("precision", [None, "variances", "covariances"])
    def test_distances_are_those_of_a_plain_loop(self, precision: str | None) -> None:
        values = self.responses()
        generator = np.random.default_rng(1)
        given = None
        matrix = np.eye(40)
        if precision == "variances":
            given = generator.uniform(0.5, 2, 40)
            matrix = np.diag(given)
        elif precision == "covariances":
            root = generator.normal(size=(40, 40))
            given = matrix = root @ root.T
        found = crossnobis(values, given)
        for first, second in ((0, 1), (3, 7), (11, 2)):
            difference = values[first] - values[second]
            pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
            expected = np.mean([difference[a] @ matrix @ difference[b] / 40 for a, b in pairs])
            assert found[first, second] == pytest.approx(expected)

    def test_distances_are_those_of_rsatoolbox(self) -> None:
        rsatoolbox = pytest.importorskip("rsatoolbox")
        values = self.responses()
        dataset = rsatoolbox.data.Dataset(
            values.reshape(36, 40),
            obs_descriptors={"image": np.repeat(np.arange(12), 3), "run": np.tile(range(3), 12)},
        )
        expected = rsatoolbox.rdm.calc_rdm(
            dataset, method="crossnobis", descriptor="image", cv_descriptor="run"
        ).get_matrices()[0]
        np.testing.assert_allclose(crossnobis(values), expected, atol=1e-10)

    def test_noise_alone_has_distances_of_0_on_average(self) -> None:
        noise = np.random.default_rng(0).normal(size=(60, 3, 50))
        distances = crossnobis(noise)[np.triu_indices(60, 1)]
        assert abs(distances.mean()) < 4 * 0.021  # four standard errors
        assert (distances < 0).any()


class TestInterval:
    def test_it_covers_the_truth_about_as_often_as_it_claims(self) -> None:
        truth = np.corrcoef(rdms(2, 2000, seed=99)[:, *np.triu_indices(2000, 1)])[0, 1]
        inside = 0
        for seed in range(60):
            first, second = rdms(2, 60, seed=seed)
            low, high = correlation_intervals(np.stack([first, second]), samples=300)[:, 0, 1]
            assert (
                low
                < np.corrcoef(*(one[np.triu_indices(60, 1)] for one in (first, second)))[0, 1]
                < high
            )
            inside += low <= truth <= high
        assert inside >= 50

    @pytest.mark.filterwarnings("error")
    def test_few_images_have_none(self) -> None:
        assert np.isnan(correlation_intervals(np.ones((2, 3, 3)))).all()

    def test_several_at_once_are_those_of_a_plain_bootstrap(self) -> None:
        matrices = rdms(3, n_images=25)
        found = correlation_intervals(matrices, samples=200, seed=4)
        counts = np.random.default_rng(4).multinomial(25, np.full(25, 1 / 25), 200)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            drawn = []
            for count in counts:
                images = np.repeat(np.arange(25), count)
                first, second = np.triu_indices(25, 1)
                different = images[first] != images[second]
                pairs = images[first][different], images[second][different]
                drawn.append(np.corrcoef(matrices[a][pairs], matrices[b][pairs])[0, 1])
            np.testing.assert_allclose(found[:, a, b], np.quantile(drawn, [0.025, 0.975]))
            assert (found[:, a, b] == found[:, b, a]).all()
        assert np.isnan(found[:, range(3), range(3)]).all()

    @pytest.mark.filterwarnings("error")
    def test_an_rdm_with_nan_has_none(self) -> None:
        matrices = rdms(3)
        matrices[1] = np.nan
        found = correlation_intervals(matrices, samples=50)
        assert np.isfinite(found[:, 0, 2]).all()
        assert np.isnan(found[:, 1]).all()
