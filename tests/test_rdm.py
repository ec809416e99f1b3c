"""RDMs: against rsatoolbox, on known geometries, and where a pattern has no variance."""

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
from hypothesis import strategies
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm

from nsd_prep.analysis.rdm import from_upper_triangle, rdm, upper_triangle


def oracle(patterns: np.ndarray) -> np.ndarray:
    """Return rsatoolbox's correlation distances (n_pairs,), in float64."""
    found = calc_rdm(Dataset(patterns.astype(np.float64)), method="correlation")
    return np.asarray(found.dissimilarities[0])


class TestDistances:
    @pytest.mark.parametrize(("n_images", "n_voxels"), [(2, 3), (7, 4), (40, 300), (25, 5000)])
    def test_are_those_of_rsatoolbox(self, n_images: int, n_voxels: int) -> None:
        patterns = np.random.default_rng(n_voxels).standard_normal((n_images, n_voxels))
        patterns = (patterns + patterns[0]).astype(np.float32)
        found = upper_triangle(rdm(patterns).distances)
        np.testing.assert_allclose(found, oracle(patterns), atol=2e-6)

    def test_do_not_suffer_from_a_large_mean(self) -> None:
        patterns = np.random.default_rng(1).standard_normal((20, 500)).astype(np.float32) + 100
        found = upper_triangle(rdm(patterns).distances)
        np.testing.assert_allclose(found, oracle(patterns), atol=2e-5)

    def test_of_equal_opposite_and_unrelated_patterns(self) -> None:
        patterns = np.array([[1, 2, 3, 4], [2, 4, 6, 8], [4, 3, 2, 1], [1, -1, -1, 1]], np.float32)
        expected = [[0, 0, 2, 1], [0, 0, 2, 1], [2, 2, 0, 1], [1, 1, 1, 0]]
        np.testing.assert_allclose(rdm(patterns).distances, expected, atol=1e-6)

    def test_of_some_columns_of_a_larger_array(self) -> None:
        responses = np.random.default_rng(2).standard_normal((15, 90)).astype(np.float32)
        np.testing.assert_array_equal(
            rdm(responses[:, 20:60]).distances, rdm(responses[:, 20:60].copy()).distances
        )

    @hypothesis.given(
        hypothesis.extra.numpy.arrays(
            np.float32,
            strategies.tuples(strategies.integers(1, 8), strategies.integers(1, 12)),
            elements=strategies.floats(-100, 100, width=32),
        )
    )
    def test_are_a_proper_rdm_whatever_the_patterns(self, patterns: np.ndarray) -> None:
        distances, without_variance = rdm(patterns)
        assert distances.dtype == np.float32
        assert distances.shape == (len(patterns), len(patterns))
        assert without_variance.shape == (len(patterns),)
        assert (distances == distances.T).all()
        assert (distances.diagonal() == 0).all()
        assert ((distances >= 0) & (distances <= 2)).all()

    def test_leave_the_patterns_as_they_were(self) -> None:
        patterns = np.random.default_rng(3).standard_normal((5, 9)).astype(np.float32)
        before = patterns.copy()
        rdm(patterns)
        np.testing.assert_array_equal(patterns, before)


class TestPatternsWithoutVariance:
    @pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e4, np.nan, np.inf])
    def test_lie_at_1_from_all_others_and_are_reported(self, value: float) -> None:
        patterns = np.random.default_rng(4).standard_normal((10, 333)).astype(np.float32)
        others = np.delete(np.arange(10), 4)
        undisturbed = rdm(patterns).distances[np.ix_(others, others)]
        patterns[4] = value
        distances, without_variance = rdm(patterns)
        assert np.flatnonzero(without_variance).tolist() == [4]
        assert (distances[4, others] == 1).all()
        assert distances[4, 4] == 0
        np.testing.assert_array_equal(distances[np.ix_(others, others)], undisturbed)

    def test_two_of_them_lie_at_1_from_each_other(self) -> None:
        distances, without_variance = rdm(np.zeros((2, 5), dtype=np.float32))
        assert without_variance.all()
        assert distances.tolist() == [[0, 1], [1, 0]]

    def test_a_small_variance_is_one(self) -> None:
        patterns = np.random.default_rng(5).standard_normal((6, 50)).astype(np.float32)
        patterns[2] = 1 + 1e-4 * patterns[2]
        distances, without_variance = rdm(patterns)
        assert not without_variance.any()
        np.testing.assert_allclose(upper_triangle(distances), oracle(patterns), atol=1e-3)


class TestUpperTriangle:
    def test_lists_pairs_row_by_row(self) -> None:
        matrix = rdm(np.random.default_rng(6).standard_normal((9, 20)).astype(np.float32)).distances
        expected = [matrix[i, j] for i in range(9) for j in range(i + 1, 9)]
        np.testing.assert_array_equal(upper_triangle(matrix), expected)

    def test_is_undone(self) -> None:
        matrix = rdm(np.random.default_rng(7).standard_normal((9, 20)).astype(np.float32)).distances
        np.testing.assert_array_equal(from_upper_triangle(upper_triangle(matrix)), matrix)
