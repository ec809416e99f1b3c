"""Noise ceilings, cross-validated distances and intervals of RDMs."""

import numpy as np
import pytest
from scipy import stats

from nsd_prep.analysis.rdm_statistics import (
    correlations_without_each_image,
    crossnobis,
    jackknife_interval,
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


class TestWithoutEachImage:
    def test_correlations_are_those_over_the_other_images(self) -> None:
        matrices = rdms(3, n_images=25) + np.eye(25)  # the diagonal does not matter
        found = correlations_without_each_image(matrices)
        for image in range(25):
            rest = np.delete(np.delete(matrices, image, axis=1), image, axis=2)
            np.testing.assert_allclose(found[image], np.corrcoef(triangles(rest)))

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("n_images", [1, 2, 3])
    def test_few_images_have_none(self, n_images: int) -> None:
        found = correlations_without_each_image(np.ones((2, n_images, n_images)))
        assert found.shape == (n_images, 2, 2)
        assert np.isnan(found).all()

    @pytest.mark.filterwarnings("error")
    def test_an_rdm_with_nan_has_none(self) -> None:
        matrices = rdms(3)
        matrices[1] = np.nan
        found = correlations_without_each_image(matrices)
        assert np.isfinite(found[:, 0, 2]).all()
        assert np.isnan(found[:, 1]).all()


class TestInterval:
    @pytest.mark.parametrize("n_images", [12, 60])
    def test_over_images_it_covers_the_truth_about_as_often_as_it_claims(
        self, n_images: int
    ) -> None:
        truth = np.corrcoef(triangles(rdms(2, 2000, seed=99)))[0, 1]
        inside = 0
        for seed in range(100):
            matrices = rdms(2, n_images, seed=seed)
            found = np.corrcoef(triangles(matrices))[0, 1]
            left_out = correlations_without_each_image(matrices)[:, 0, 1]
            low, high = jackknife_interval(found, left_out)
            assert low < found < high
            inside += low <= truth <= high
        assert inside >= 90

    @pytest.mark.parametrize("n_subjects", [4, 8])
    def test_over_subjects_it_covers_the_truth_about_as_often_as_it_claims(
        self, n_subjects: int
    ) -> None:
        # Two regions whose mean RDMs agree as far as subjects, of whom there are endless many, do.
        generator = np.random.default_rng(5)
        shared = generator.normal(size=(2, 500))
        shared[1] += shared[0]

        def correlation(subjects: np.ndarray) -> float:
            return float(np.corrcoef(subjects.mean(axis=0))[0, 1])

        samples = shared + generator.normal(size=(200, n_subjects, 2, 500))
        truth = np.mean([correlation(one) for one in samples])
        inside = 0
        for subjects in samples:
            left_out = [correlation(np.delete(subjects, s, axis=0)) for s in range(n_subjects)]
            low, high = jackknife_interval(correlation(subjects), np.array(left_out))
            inside += low <= truth <= high
        assert inside >= 180

    def test_of_a_mean_it_is_that_of_student(self) -> None:
        # Leaving units out of a mean of z gives the textbook's interval of that mean.
        z = np.random.default_rng(0).normal(0.3, 0.2, 9)
        left_out = np.array([np.delete(z, unit).mean() for unit in range(9)])
        found = jackknife_interval(np.tanh(z.mean()), np.tanh(left_out))
        expected = stats.t.interval(0.95, 8, loc=z.mean(), scale=stats.sem(z))
        np.testing.assert_allclose(np.arctanh(found), expected)

    @pytest.mark.filterwarnings("error")
    def test_fewer_than_four_units_have_none(self) -> None:
        assert np.isnan(jackknife_interval(0.3, np.array([0.2, 0.3, 0.4]))).all()
        assert np.isfinite(jackknife_interval(0.3, np.array([0.2, 0.3, 0.4, 0.3]))).all()

    @pytest.mark.filterwarnings("error")
    def test_of_what_is_not_known_it_is_not_known(self) -> None:
        found = np.array([np.nan, 1.0, 0.3])
        left_out = np.tile(found, (5, 1))
        left_out[:, 2] += np.linspace(-0.1, 0.1, 5)
        low, high = jackknife_interval(found, left_out)
        assert np.isfinite(low).tolist() == np.isfinite(high).tolist() == [False, False, True]
