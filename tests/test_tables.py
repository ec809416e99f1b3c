"""Tables: 95 % intervals of the report's correlations, and columns joined on keys."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import t
from simulated_assemblies import Simulation, simulate

from nsd_prep.analysis.geometry import Geometry, RegionGeometry, analyse
from nsd_prep.analysis.tables import between_regions_table, between_subjects_table, region_table
from nsd_prep.assemblies.assembly import SubjectVoxels, voxel_table
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.pipeline.steps.checks import reliability_table

SUBJECTS = ["subj01", "subj02", "subj05", "subj07"]


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(subjects=(1, 2, 5, 7), n_images=16)


@pytest.fixture(scope="module")
def geometry(simulation: Simulation) -> Geometry:
    return analyse(simulation.assemblies())


def interval(found: float, left_out: list[float]) -> tuple[float, float]:
    """Return the jackknife's 95 % interval on Fisher's z, as textbooks write it."""
    z, n = np.arctanh(left_out), len(left_out)
    error = np.sqrt((n - 1) / n * ((z - z.mean()) ** 2).sum())
    half = t.ppf(0.975, n - 1) * error
    return float(np.tanh(np.arctanh(found) - half)), float(np.tanh(np.arctanh(found) + half))


def rdm_of(simulation: Simulation, region: str, subject: str, without: int | None) -> np.ndarray:
    matrix = squareform(pdist(simulation.of(region, subject), metric="correlation"))
    if without is not None:
        matrix = np.delete(np.delete(matrix, without, axis=0), without, axis=1)
    return matrix[np.triu_indices(len(matrix), k=1)]


def between_two(
    simulation: Simulation, regions: tuple[str, str], subjects: list[str], without: int | None
) -> float:
    means = [
        np.mean([rdm_of(simulation, region, name, without) for name in subjects], axis=0)
        for region in regions
    ]
    return float(np.corrcoef(means)[0, 1])


def mean_agreement(
    simulation: Simulation, region: str, subjects: list[str], without: int | None
) -> float:
    found = np.corrcoef([rdm_of(simulation, region, name, without) for name in subjects])
    return float(found[np.triu_indices(len(subjects), k=1)].mean())


class TestBetweenRegions:
    def test_intervals_are_those_of_leaving_out_images_and_subjects(
        self, simulation: Simulation, geometry: Geometry
    ) -> None:
        for row in between_regions_table(geometry).itertuples():
            pair = (row.region_a, row.region_b)
            images = [between_two(simulation, pair, SUBJECTS, image) for image in range(16)]
            subjects = [
                between_two(simulation, pair, [one for one in SUBJECTS if one != name], None)
                for name in SUBJECTS
            ]
            expected = interval(row.r, images)
            assert (row.low_images, row.high_images) == pytest.approx(expected, abs=1e-4)
            expected = interval(row.r, subjects)
            assert (row.low_subjects, row.high_subjects) == pytest.approx(expected, abs=1e-4)

    @pytest.mark.filterwarnings("error")
    def test_a_subject_who_has_neither_region_does_not_count(self, geometry: Geometry) -> None:
        # Without one of four subjects three are left, of whom there is no interval.
        few = [region.without("subj07") for region in geometry.all_voxels[:2]]
        third = geometry.all_voxels[2]
        table = between_regions_table(replace(geometry, all_voxels=(*few, third)))
        rows = table.set_index(["region_a", "region_b"])
        assert np.isnan(rows.loc[("V1", "V2"), "low_subjects"])
        assert np.isfinite(rows.loc[("V1", "IT"), ["low_subjects", "high_subjects"]]).all()
        assert np.isfinite(rows[["low_images", "high_images"]].to_numpy()).all()

    @pytest.mark.filterwarnings("error")
    def test_one_region_has_no_rows(self, geometry: Geometry) -> None:
        alone = replace(
            geometry,
            all_voxels=geometry.all_voxels[:1],
            reliable_voxels=geometry.reliable_voxels[:1],
        )
        assert len(between_regions_table(alone)) == 0


class TestBetweenSubjects:
    def test_intervals_of_pairs_are_those_of_leaving_out_images(
        self, simulation: Simulation, geometry: Geometry
    ) -> None:
        table = between_subjects_table(geometry)
        assert len(table) == 3 * 6
        for row in table.iloc[::5].itertuples():
            pair = [row.subject_a, row.subject_b]
            images = [mean_agreement(simulation, row.region, pair, image) for image in range(16)]
            expected = interval(row.r, images)
            assert (row.low_images, row.high_images) == pytest.approx(expected, abs=1e-4)

    def test_intervals_of_the_mean_are_those_of_leaving_out_images_and_subjects(
        self, simulation: Simulation, geometry: Geometry
    ) -> None:
        for row in region_table(geometry, simulation.voxels).itertuples():
            images = [
                mean_agreement(simulation, row.region, SUBJECTS, image) for image in range(16)
            ]
            subjects = [
                mean_agreement(
                    simulation, row.region, [one for one in SUBJECTS if one != name], None
                )
                for name in SUBJECTS
            ]
            expected = interval(row.between_subjects, images)
            assert (row.low_images, row.high_images) == pytest.approx(expected, abs=1e-4)
            expected = interval(row.between_subjects, subjects)
            assert (row.low_subjects, row.high_subjects) == pytest.approx(expected, abs=1e-4)

    @pytest.mark.filterwarnings("error")
    def test_a_subject_without_an_rdm_leaves_the_others_their_intervals(
        self, simulation: Simulation, geometry: Geometry
    ) -> None:
        def without_voxels(region: RegionGeometry) -> RegionGeometry:
            rdms, counts = region.rdms.copy(), region.n_voxels.copy()
            rdms[0], counts[0] = np.nan, 2
            return replace(region, rdms=rdms, n_voxels=counts)

        broken = replace(geometry, all_voxels=tuple(map(without_voxels, geometry.all_voxels)))
        table = region_table(broken, simulation.voxels)
        assert np.isfinite(
            table[["between_subjects", "low_images", "high_images"]].to_numpy()
        ).all()
        assert np.isnan(table[["low_subjects", "high_subjects"]].to_numpy()).all()  # of three


class TestReliabilityTable:
    """A voxel has the correlation of its own subject, region and place, whatever the order."""

    GRID = (3, 4, 5)

    def places(self) -> dict[tuple[int, str], SubjectVoxels]:
        found = {}
        for subject, region, voxels in (
            (2, "V4", [3, 17]),
            (1, "V4", [5, 8, 30]),
            (2, "V1", [4, 40, 41, 59]),
            (1, "V1", [2, 33]),
        ):
            n = len(voxels)
            found[subject, region] = SubjectVoxels(
                subject,
                VolumeSpace(self.GRID, np.eye(4)),
                np.array(voxels),
                np.ones(n, np.float32),
                np.ones(n),
                np.zeros(n, np.int64),
                np.arange(n) != 1 if n > 2 else None,
            )
        return found

    def test_the_order_of_regions_subjects_and_rows_does_not_matter(self) -> None:
        places = self.places()
        # The correlation says where it belongs.
        split_half = {
            (subject, region): 100.0 * subject + 1000 * (region == "V4") + place.voxels
            for (subject, region), place in places.items()
        }
        voxels = pd.concat(
            [voxel_table(region, [place]) for (_, region), place in places.items()],
            ignore_index=True,
        ).sample(frac=1, random_state=1)
        table = reliability_table(voxels, dict(sorted(split_half.items())), places)
        assert len(table) == voxels["kept"].sum() == 9
        expected = (
            100.0 * table["subject"].str[-1].astype(int)
            + 1000 * (table["region"] == "V4")
            + np.ravel_multi_index([table[f"voxel_{axis}"] for axis in "xyz"], self.GRID)
        )
        np.testing.assert_array_equal(table["split_half_correlation"], expected)
