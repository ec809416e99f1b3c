"""Geometry of regions: against plain computations, and against a truth that was simulated."""

import gc
import itertools
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist
from simulated_assemblies import Simulation, simulate

from nsd_prep.analysis.geometry import (
    FEWEST_VOXELS,
    RegionGeometry,
    analyse,
    between_regions,
    between_subjects,
    cluster_order,
    correlations,
    mean_over_pairs,
    region_geometry,
)
from nsd_prep.analysis.rdm import upper_triangle
from nsd_prep.core.errors import InputFileError

SUBJECTS = ("subj01", "subj02", "subj05")


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate()


def plain_rdm(patterns: np.ndarray) -> np.ndarray:
    """Return SciPy's correlation distances (n_pairs,), in float64."""
    return pdist(patterns.astype(np.float64), metric="correlation")


class TestAnalyse:
    def test_gives_each_subjects_rdm_in_each_region(self, simulation: Simulation) -> None:
        geometry = analyse(simulation.assemblies())
        assert [item.region for item in geometry.all_voxels] == list(simulation.responses)
        np.testing.assert_array_equal(geometry.nsd_ids, simulation.nsd_ids)
        for item in geometry.all_voxels:
            assert item.subjects == SUBJECTS
            for place, subject in enumerate(SUBJECTS):
                patterns = simulation.of(item.region, subject)
                np.testing.assert_allclose(item.rdms[place], plain_rdm(patterns), atol=2e-6)
                assert item.n_voxels[place] == patterns.shape[1]

    def test_gives_the_same_with_reliable_voxels_only(self, simulation: Simulation) -> None:
        geometry = analyse(simulation.assemblies())
        for item in geometry.reliable_voxels:
            for place, subject in enumerate(SUBJECTS):
                patterns = simulation.of(item.region, subject, reliable=True)
                assert 3 < patterns.shape[1] < simulation.of(item.region, subject).shape[1]
                np.testing.assert_allclose(item.rdms[place], plain_rdm(patterns), atol=2e-6)
                assert item.n_voxels[place] == patterns.shape[1]

    def test_refuses_regions_of_different_images(self, simulation: Simulation) -> None:
        def assemblies() -> Iterator[tuple[str, xr.DataArray]]:
            (first, whole), (second, other), _ = simulation.assemblies()
            yield first, whole
            yield second, other[1:]

        with pytest.raises(InputFileError, match=r"V2 has 29 images.*30"):
            analyse(assemblies())

    def test_refuses_to_analyse_nothing(self) -> None:
        with pytest.raises(InputFileError, match="no assembly"):
            analyse([])

    def test_holds_one_assembly_at_a_time(self, simulation: Simulation) -> None:
        seen: list[weakref.ref[xr.DataArray]] = []

        def assemblies() -> Iterator[tuple[str, xr.DataArray]]:
            for region in simulation.responses:
                gc.collect()
                assert all(earlier() is None for earlier in seen)
                assembly = dict(simulation.assemblies())[region]
                seen.append(weakref.ref(assembly))
                pair = (region, assembly)
                del assembly
                yield pair
                del pair

        analyse(assemblies())
        assert len(seen) == 3


class TestRegionGeometry:
    def test_mean_rdm_is_the_mean_over_subjects(self, simulation: Simulation) -> None:
        item = analyse(simulation.assemblies()).all_voxels[0]
        plain = np.mean([plain_rdm(simulation.of("V1", subject)) for subject in SUBJECTS], axis=0)
        np.testing.assert_allclose(item.mean_rdm, plain, atol=2e-6)

    def test_patterns_without_variance_are_counted_for_each_subject(
        self, simulation: Simulation
    ) -> None:
        responses = simulation.responses["V1"].copy()
        names = simulation.tables["V1"]["subject"].to_numpy()
        responses[np.ix_([3, 7], np.flatnonzero(names == "subj02"))] = 0
        item = region_geometry("V1", responses, names, np.ones(len(names), dtype=np.bool_))
        assert item.n_without_variance.tolist() == [0, 2, 0]
        assert np.isfinite(item.rdms).all()

    @pytest.mark.parametrize("kept", range(FEWEST_VOXELS + 2))
    def test_a_subject_with_too_few_voxels_has_no_rdm(
        self, simulation: Simulation, kept: int
    ) -> None:
        names = simulation.tables["V1"]["subject"].to_numpy()
        keep = np.ones(len(names), dtype=np.bool_)
        keep[np.flatnonzero(names == "subj01")[kept:]] = False
        item = region_geometry("V1", simulation.responses["V1"], names, keep)
        assert item.n_voxels[0] == kept
        assert np.isnan(item.rdms[0]).all() == (kept < FEWEST_VOXELS)
        assert np.isfinite(item.mean_rdm).all()
        if kept < FEWEST_VOXELS:
            np.testing.assert_array_equal(item.mean_rdm, item.rdms[1:].mean(axis=0))

    def test_without_any_voxel_the_mean_is_not_known(self, simulation: Simulation) -> None:
        names = simulation.tables["V1"]["subject"].to_numpy()
        keep = np.zeros(len(names), dtype=np.bool_)
        item = region_geometry("V1", simulation.responses["V1"], names, keep)
        assert np.isnan(item.mean_rdm).all()
        assert np.isnan(between_subjects(item)).all()
        assert np.isnan(mean_over_pairs(between_subjects(item)))


class TestAgreement:
    def test_between_regions_is_pearson_r_of_mean_rdms(self, simulation: Simulation) -> None:
        geometry = analyse(simulation.assemblies())
        means = [
            np.mean([plain_rdm(simulation.of(region, subject)) for subject in SUBJECTS], axis=0)
            for region in simulation.responses
        ]
        found = between_regions(geometry.all_voxels)
        np.testing.assert_allclose(found, np.corrcoef(means), atol=1e-5)

    def test_between_subjects_is_pearson_r_of_their_rdms(self, simulation: Simulation) -> None:
        for item in analyse(simulation.assemblies()).reliable_voxels:
            plain = np.corrcoef(
                [plain_rdm(simulation.of(item.region, name, reliable=True)) for name in SUBJECTS]
            )
            np.testing.assert_allclose(between_subjects(item), plain, atol=1e-5)
            pairs = [plain[0, 1], plain[0, 2], plain[1, 2]]
            assert mean_over_pairs(between_subjects(item)) == pytest.approx(
                np.mean(pairs), abs=1e-5
            )

    def test_between_regions_is_what_the_simulated_features_say(self) -> None:
        simulation = simulate(n_images=200, n_voxels=800, noise=0.0, subjects=(1, 2))
        geometry = analyse(simulation.assemblies())
        truth = [simulation.true_rdm(region) for region in simulation.responses]
        for item, expected in zip(geometry.all_voxels, truth, strict=True):
            assert np.corrcoef(item.mean_rdm, expected)[0, 1] > 0.98
        found = between_regions(geometry.all_voxels)
        np.testing.assert_allclose(found, np.corrcoef(truth), atol=0.03)
        assert found[0, 1] > found[1, 2] > found[0, 2]

    def test_between_subjects_is_none_where_nothing_is_shared(self) -> None:
        one, other = simulate(seed=1, n_images=100), simulate(seed=2, n_images=100)
        rows = np.stack([plain_rdm(item.of("V1", "subj01")) for item in (one, other)])
        assert abs(correlations(rows.astype(np.float32))[0, 1]) < 0.1

    def test_noise_lowers_the_agreement_of_the_noisy_subject_alone(self) -> None:
        simulation = simulate(n_images=80, n_voxels=200)
        noisy = simulation.tables["V1"]["subject"].to_numpy() == "subj05"
        spread = 20 * noisy * np.random.default_rng(0).standard_normal((80, len(noisy)))
        simulation.responses["V1"][:] += spread.astype(np.float32)
        found = between_subjects(analyse(simulation.assemblies()).all_voxels[0])
        assert found[0, 1] > 0.8
        assert max(found[0, 2], found[1, 2]) < 0.3

    def test_is_not_known_for_a_constant_or_missing_rdm(self) -> None:
        generator = np.random.default_rng(3)
        rows = generator.uniform(0, 2, (4, 45)).astype(np.float32)
        rows[1], rows[3] = 0.7, np.nan
        found = correlations(rows)
        assert np.isnan(found[[1, 3]]).all()
        assert np.isnan(found[:, [1, 3]]).all()
        assert found[0, 2] == pytest.approx(np.corrcoef(rows[0], rows[2])[0, 1])
        assert found[0, 0] == found[2, 2] == 1

    def test_mean_over_pairs_passes_over_missing_pairs(self) -> None:
        matrix = np.array([[1, 0.2, np.nan], [0.2, 1, 0.6], [np.nan, 0.6, 1]])
        assert mean_over_pairs(matrix) == pytest.approx(0.4)


def average_linkage(distances: np.ndarray) -> list[frozenset[int]]:
    """Return every cluster of a hierarchy with average linkage, by brute force."""
    clusters = [frozenset([image]) for image in range(len(distances))]
    found = []
    while len(clusters) > 1:
        first, second = min(
            itertools.combinations(clusters, 2),
            key=lambda pair: distances[np.ix_(sorted(pair[0]), sorted(pair[1]))].mean(),
        )
        clusters = [item for item in clusters if item not in (first, second)] + [first | second]
        found.append(first | second)
    return found


class TestClusterOrder:
    @pytest.mark.parametrize("seed", range(5))
    def test_keeps_every_cluster_of_average_linkage_together(self, seed: int) -> None:
        points = np.random.default_rng(seed).standard_normal((14, 6))
        distances = (1 - np.corrcoef(points)).astype(np.float32)
        order = cluster_order(upper_triangle(distances))
        place = np.argsort(order)
        assert sorted(order.tolist()) == list(range(14))
        for cluster in average_linkage(distances):
            places = place[sorted(cluster)]
            assert places.max() - places.min() == len(cluster) - 1

    def test_is_the_order_given_where_the_rdm_is_not_known(self) -> None:
        assert cluster_order(np.full(10, np.nan, dtype=np.float32)).tolist() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("n_images", [1, 2, 3])
    def test_of_few_images(self, n_images: int) -> None:
        pairs = np.linspace(0.5, 1, n_images * (n_images - 1) // 2, dtype=np.float32)
        assert sorted(cluster_order(pairs).tolist()) == list(range(n_images))


def test_one_subject_has_no_pairs() -> None:
    item = RegionGeometry(
        "V1", ("subj01",), np.array([9]), np.array([0]), np.ones((1, 3), dtype=np.float32)
    )
    assert np.isnan(mean_over_pairs(between_subjects(item)))


def test_negative_distances_are_clustered_in_the_same_order() -> None:
    """Cross-validated distances may be negative."""
    pairs = np.random.default_rng(0).random(45).astype(np.float32)
    order = cluster_order(pairs)
    assert cluster_order(pairs - np.float32(0.5)).tolist() == order.tolist()
