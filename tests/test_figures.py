"""Figures: what they draw, in which colours, and that the same data give the same bytes."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from simulated_assemblies import GRIDS, Simulation, simulate

from nsd_prep.analysis.geometry import Geometry, analyse, cluster_order
from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.report.figures import clusters as cluster_figures
from nsd_prep.report.figures import noise_ceilings as voxel_figures
from nsd_prep.report.figures import rdms as figures
from nsd_prep.report.figures import sessions as session_figures
from nsd_prep.report.figures import slices, style
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.slices import Anatomy
from nsd_prep.report.figures.style import (
    MISSING_COLOUR,
    booklet,
    region_colours,
    voxel_colours,
)

COUNTS = pd.DataFrame(
    {3: [20, 12], 2: [0, 5], 1: [0, 2], 0: [0, 1]}, index=pd.Index([1, 5], name="subject")
)


AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
DRAWING = (cluster_figures, figures, session_figures, slices, voxel_figures)
LIMITS = (0.5, 1.5)


def anatomy(volume: np.ndarray, **options: object) -> Anatomy:
    """Return a volume with NSD's affine: the middle of the grid is at 0."""
    affine = AFFINE.copy()
    affine[:3, 3] = -0.9 * (np.array(volume.shape[::-1]) - 1)
    return Anatomy(volume, **({"space": VolumeSpace(volume.shape, affine)} | options))


def session_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": [1, 1, 1, 2, 2],
            "session": [1, 2, 4, 1, 2],
            "agreement": [0.9, 1.1, 0.8, np.nan, 0.1],
            "share_without_data": [0.0, 0.1, 0.2, 0.5, 0.0],
            "deviation": np.nan,
        }
    )


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate()


@pytest.fixture(scope="module")
def geometry(simulation: Simulation) -> Geometry:
    return analyse(simulation.assemblies())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return a list that every figure is put into, instead of being rendered."""
    seen: list[Figure] = []

    def keep(
        figure: Figure, name: str, title: str, caption: str, *_: object, **__: object
    ) -> ReportFigure:
        seen.append(figure)
        return ReportFigure(name, title, caption, 0, b"")

    for module in DRAWING:
        monkeypatch.setattr(module, "picture", keep)
    return seen


def texts(figure: Figure) -> list[str]:
    """Return all texts within a figure's axes."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


class TestMeanRDMs:
    def test_show_both_orders_of_every_region(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        figures.draw_mean_rdms(geometry)
        panels = [axes for axes in drawn[0].axes if axes.images and axes.get_subplotspec()]
        shown = [np.asarray(axes.images[0].get_array()) for axes in panels][:6]
        assert [axes.get_title() for axes in panels[:3]] == ["V1", "V2", "IT"]
        for item, original, clustered in zip(
            geometry.all_voxels, shown[:3], shown[3:], strict=True
        ):
            matrix = from_upper_triangle(item.mean_rdm)
            order = cluster_order(item.mean_rdm)
            np.testing.assert_array_equal(original, matrix)
            np.testing.assert_array_equal(clustered, matrix[order][:, order])

    def test_share_one_scale_of_colours_with_the_bar(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        figures.draw_mean_rdms(geometry)
        pooled = np.concatenate([item.mean_rdm for item in geometry.all_voxels])
        expected = np.percentile(pooled, [2, 98])
        scales = {axes.images[0].get_clim() for axes in drawn[0].axes if axes.images}
        np.testing.assert_allclose(list(scales), [expected], rtol=1e-6)
        bar = drawn[0].axes[-1]
        low, high = bar.get_ylim()
        np.testing.assert_allclose([low, high], expected, rtol=1e-6)

    @pytest.mark.parametrize("n_regions", [1, 2, 5])
    def test_have_a_column_for_each_region_in_rows_of_four(
        self, geometry: Geometry, drawn: list[Figure], n_regions: int
    ) -> None:
        regions = (geometry.all_voxels * 2)[:n_regions]
        figures.draw_mean_rdms(Geometry(geometry.nsd_ids, regions, regions))
        panels = [axes for axes in drawn[0].axes if axes.images and axes.axison]
        assert len(
            [item for item in panels if np.asarray(item.images[0].get_array()).shape == (30, 30)]
        )
        visible = [axes for axes in drawn[0].axes[:-1] if axes.axison]
        assert len(visible) == 2 * n_regions


class TestAgreement:
    def test_between_subjects_shows_all_voxels_below_and_reliable_ones_above(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        figures.draw_between_subjects(geometry)
        for axes, item, reliable in zip(
            drawn[0].axes, geometry.all_voxels, geometry.reliable_voxels, strict=False
        ):
            below, above = np.corrcoef(item.rdms), np.corrcoef(reliable.rdms)
            shown = {text.get_position(): float(text.get_text()) for text in axes.texts}
            assert len(shown) == 6
            for (column, row), number in shown.items():
                expected = (below if row > column else above)[row, column]
                assert number == pytest.approx(expected, abs=0.00501)
            means = [matrix[np.triu_indices(3, k=1)].mean() for matrix in (below, above)]
            for mark, mean in zip("◣◥", means, strict=True):
                assert float(axes.get_title().split(mark)[1].split()[0]) == pytest.approx(
                    mean, abs=0.00501
                )

    def test_between_regions_shows_each_pair_once(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        figures.draw_between_regions(geometry)
        for axes, regions in zip(
            drawn[0].axes, (geometry.all_voxels, geometry.reliable_voxels), strict=False
        ):
            expected = np.corrcoef([item.mean_rdm for item in regions])
            shown = {text.get_position(): float(text.get_text()) for text in axes.texts}
            assert sorted(shown) == [(0, 1), (0, 2), (1, 2)]
            for (column, row), number in shown.items():
                assert number == pytest.approx(expected[row, column], abs=0.00501)

    def test_a_missing_rdm_is_a_dash(self, geometry: Geometry, drawn: list[Figure]) -> None:
        item = geometry.all_voxels[0]
        rdms = item.rdms.copy()
        rdms[1] = np.nan
        broken = type(item)(
            item.region, item.subjects, np.array([9, 1, 9]), item.n_without_variance, rdms
        )
        figures.draw_between_subjects(Geometry(geometry.nsd_ids, (item,), (broken,)))
        assert texts(drawn[0]).count("\N{EN DASH}") == 2


class TestNoiseCeilings:
    def test_show_medians_of_subjects_and_of_all(
        self, simulation: Simulation, drawn: list[Figure]
    ) -> None:
        voxel_figures.draw_noise_ceilings(simulation.voxels)
        for axes, table in zip(drawn[0].axes, simulation.tables.values(), strict=False):
            ceilings = table["noise_ceiling"].to_numpy()
            of_subjects = [ceilings[table["subject"] == name] for name in pd.unique(table.subject)]
            expected = [f"{np.median(item):.1f}" for item in (*of_subjects, ceilings)]
            assert [text.get_text() for text in axes.texts] == expected
            assert axes.lines[0].get_ydata()[0] == 30

    def test_shapes_hold_every_voxel(self, simulation: Simulation) -> None:
        histogram = voxel_figures.noise_ceiling_histogram(simulation.voxels)
        for (region, subject), item in histogram.groupby(["region", "subject"]):
            table = simulation.tables[region]
            ceilings = table["noise_ceiling"].to_numpy()
            if subject != "all":
                ceilings = ceilings[table["subject"] == subject]
            for low, high, voxels in zip(item["from"], item["to"], item["voxels"], strict=True):
                below = ceilings <= high if high == 100 else ceilings < high
                assert voxels == ((ceilings >= low) & below).sum()


class TestClusters:
    def test_show_the_mean_rdm_in_the_order_of_its_clusters(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        region = geometry.all_voxels[0]
        cluster_figures.draw_clusters(region, geometry.nsd_ids, LIMITS)
        order = cluster_order(region.mean_rdm)
        shown = np.asarray(drawn[0].axes[1].images[0].get_array())
        expected = from_upper_triangle(region.mean_rdm)[order][:, order]
        np.testing.assert_array_equal(shown, expected)

    def test_each_leaf_of_the_dendrogram_stands_beside_its_row(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        cluster_figures.draw_clusters(geometry.all_voxels[0], geometry.nsd_ids, LIMITS)
        branches, matrix = drawn[0].axes[:2]
        lines = np.concatenate(branches.collections[0].get_segments())
        leaves = lines[lines[:, 0] == 0, 1]
        np.testing.assert_allclose(np.sort(leaves), np.arange(30))
        assert branches.get_ylim() == matrix.get_ylim()
        assert branches.get_position().y0 == matrix.get_position().y0
        assert branches.get_position().y1 == matrix.get_position().y1

    def test_clusters_are_the_blocks_that_the_images_form(self) -> None:
        generator = np.random.default_rng(8)
        group = generator.permutation(np.repeat(np.arange(4), 10))
        points = 8 * np.eye(4)[group] + generator.standard_normal((40, 4))
        distances = np.sqrt(((points[:, np.newaxis] - points) ** 2).sum(axis=2))
        pairs = distances[np.triu_indices(40, k=1)].astype(np.float32)
        tree = cluster_figures.average_linkage(pairs)
        order = cluster_order(pairs)
        found = cluster_figures.clusters_in_order(tree, order, 4)
        assert {frozenset(images.tolist()) for images in found} == {
            frozenset(np.flatnonzero(group == number).tolist()) for number in range(4)
        }
        assert np.concatenate(found).tolist() == order.tolist()

    def test_thumbnails_are_the_most_central_images_of_each_cluster(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        region = geometry.all_voxels[0]
        wanted = cluster_figures.images_of_clusters(geometry)
        # The colour of each thumbnail is the place of its image.
        place = {int(nsd_id): number for number, nsd_id in enumerate(geometry.nsd_ids)}
        thumbnails = {
            int(nsd_id): np.full((4, 4, 3), place[int(nsd_id)], dtype=np.uint8) for nsd_id in wanted
        }
        cluster_figures.draw_clusters(region, geometry.nsd_ids, LIMITS, thumbnails)
        shown = [int(image.get_array()[0, 0, 0]) for image in drawn[0].axes[-1].images]
        matrix = from_upper_triangle(region.mean_rdm)
        tree = cluster_figures.average_linkage(region.mean_rdm)
        clusters = cluster_figures.clusters_in_order(tree, cluster_order(region.mean_rdm), 12)
        expected = []
        for images in clusters:
            means = [matrix[image, images].mean() for image in images]
            expected += [int(image) for _, image in sorted(zip(means, images, strict=True))[:3]]
        assert shown == expected

    def test_a_thumbnail_is_small_and_of_the_same_shape(self) -> None:
        pixels = np.zeros((100, 425, 3), dtype=np.uint8)
        pixels[:, 200:] = 255
        small = cluster_figures.thumbnail(pixels)
        assert small.shape == (17, 72, 3)
        assert (small[:, :30] == 0).all()
        assert (small[:, 40:] == 255).all()

    @pytest.mark.parametrize("largest", [4, 7, 30, 40])
    def test_block_means_are_means(self, largest: int) -> None:
        matrix = np.random.default_rng(1).uniform(size=(30, 30)).astype(np.float32)
        found = cluster_figures.block_means(matrix, largest)
        size = -(-30 // largest)
        assert len(found) <= largest
        for row in range(len(found)):
            for column in range(len(found)):
                block = matrix[row * size : (row + 1) * size, column * size : (column + 1) * size]
                assert found[row, column] == pytest.approx(block.mean(), rel=1e-5)

    def test_subjects_have_a_row_for_each_region(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        cluster_figures.draw_subject_rdms(geometry, LIMITS)
        images = drawn[0].axes[0].images
        for row, (region, image) in enumerate(zip(geometry.all_voxels, images, strict=True)):
            assert image.get_extent()[2:] == [31 * row + 30.5, 31 * row - 0.5]
            shown = np.ma.filled(image.get_array(), np.nan)
            order = cluster_order(region.mean_rdm)
            for column, pairs in enumerate(region.rdms):
                matrix = from_upper_triangle(pairs)[order][:, order]
                left = 31 * column
                np.testing.assert_array_equal(shown[:30, left : left + 30], matrix)


def test_regions_of_a_run_have_colours_of_their_own_and_usual_ones_the_same() -> None:
    usual = region_colours(["V1", "V2", "V4", "IT"])
    own = ["V1-left", "early-and-V4", "V1", "FFA", *map(str, range(24))]
    colours = region_colours(own)
    assert len(set(colours.values())) == len(own)
    assert colours["V1"] == usual["V1"]
    assert not {colours[region] for region in own if region != "V1"} & set(usual.values())


class TestSessions:
    def test_have_a_panel_for_each_measure_that_is_known(self, drawn: list[Figure]) -> None:
        session_figures.draw_sessions(session_table())
        panels = [axes for axes in drawn[0].axes if axes.images]
        shown = [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in panels]
        nan = np.nan
        np.testing.assert_allclose(shown[0], [[0.9, 1.1, nan, 0.8], [nan, 0.1, nan, nan]])
        np.testing.assert_allclose(shown[1], [[0, 10, nan, 20], [50, 0, nan, nan]])
        assert len(shown) == 2

    def test_colours_run_to_what_is_suspicious_however_sound_the_sessions_are(
        self, drawn: list[Figure]
    ) -> None:
        nearly_sound = session_table().assign(share_without_data=[0, 0, 0, 0.0007, 0])
        session_figures.draw_sessions(nearly_sound)
        image = next(axes.images[0] for axes in drawn[0].axes if "without" in axes.get_title())
        assert (image.norm.vmin, image.norm.vmax) == (0, 15)
        colour = image.cmap(image.norm(0.07))
        assert sum(colour[:3]) / 3 > 0.85

    def test_are_summarised_over_regions_by_their_voxels(self) -> None:
        parts = pd.DataFrame(
            {
                "subject": ["subj02", "subj02", "subj01"],
                "session": [1, 1, 3],
                "region": ["V1", "IT", "V1"],
                "voxels": [100, 300, 50],
                "constant_voxels": [10, 10, 0],
                "saturated": [0.02, 0.0, 0.5],
                "deviation": [2.0, 1.0, 3.0],
            }
        )
        agreement = pd.DataFrame({"subject": ["subj02"], "session": [1], "agreement": [0.7]})
        table = session_figures.summarise_sessions(parts, agreement)
        assert table["subject"].tolist() == ["subj02", "subj01"]
        assert table["share_without_data"].tolist() == [0.05, 0]
        assert table["deviation"].tolist() == [1.25, 3]
        assert table["saturated"].tolist() == [0.005, 0.5]
        assert table["agreement"].tolist()[0] == 0.7
        assert np.isnan(table["agreement"][1])

    def test_without_any_number_there_is_nothing_to_draw(self) -> None:
        with pytest.raises(ValueError, match="no value in any of agreement"):
            session_figures.draw_sessions(session_table()[["subject", "session", "deviation"]])


class TestSlices:
    def place(self, points: list[tuple[int, int, int]]) -> pd.DataFrame:
        i, j, k = np.array(points).T
        return pd.DataFrame(
            {
                "subject": "subj01",
                "nifti_i": i,
                "nifti_j": j,
                "nifti_k": k,
                "ncsnr": 0.5,
                "noise_ceiling": 43.0,
            }
        )

    def brain(self) -> Anatomy:
        return anatomy(np.ones(GRIDS[1], dtype=np.float32))

    def coloured(self, figure: Figure) -> np.ndarray:
        """Return where the drawn image is neither grey nor white, rows and columns."""
        image = np.asarray(figure.axes[0].images[0].get_array())[:, :, :3]
        return np.argwhere(np.ptp(image.astype(float), axis=2) > 12)

    def test_show_the_fullest_slice_of_each_hemisphere_and_plane(self, drawn: list[Figure]) -> None:
        points = [(3, 4, 2), (3, 5, 2), (3, 4, 6), (9, 4, 2)]
        slices.draw_slices("V1", self.place(points), {"subj01": self.brain()})
        # The grid has 13 voxels along i: 3 lies left of the middle, 9 right.
        labels = [text for text in texts(drawn[0]) if "=" in text]
        assert labels == ["i = 3", "i = 9", "j = 4", "k = 2"]
        assert len(self.coloured(drawn[0])) == 3 + 1 + 3 + 3

    def test_left_and_right_are_those_of_the_affine(self, drawn: list[Figure]) -> None:
        flipped = self.brain().space.affine.copy()
        flipped[0] *= -1
        for brain in (
            self.brain(),
            anatomy(self.brain().volume, space=VolumeSpace(GRIDS[1], flipped)),
        ):
            slices.draw_slices("V1", self.place([(3, 4, 2)]), {"subj01": brain})
        ends = list("PASI")
        usual, other = ([word for word in texts(one) if word in "LRPASI"] for one in drawn)
        assert usual == [*ends, *ends, *"LRSI", *"LRAP"]
        assert other == [*ends, *ends, *"RLSI", *"RLAP"]
        assert [text for text in texts(drawn[0]) if " " in text][:2] == ["i = 3", "no voxels"]
        assert [text for text in texts(drawn[1]) if " " in text][:2] == ["no voxels", "i = 3"]

    def test_axial_slice_has_i_to_the_right_and_j_upwards(self, drawn: list[Figure]) -> None:
        places = []
        for point in [(3, 4, 2), (5, 4, 2), (3, 7, 2)]:
            slices.draw_slices("V1", self.place([point]), {"subj01": self.brain()})
            found = self.coloured(drawn[-1])
            places.append(found[found[:, 1].argmax()])
        first, to_the_right, above = places
        assert (to_the_right - first).tolist() == [0, 2]
        assert (above - first).tolist() == [-3, 0]

    def test_a_mask_outside_the_brain_lies_on_white(self, drawn: list[Figure]) -> None:
        volume = np.full(GRIDS[1], np.nan, dtype=np.float32)
        volume[:5, :5, :5] = 1
        volume[8, 10, 12] = 1
        slices.draw_slices("V1", self.place([(9, 8, 6)]), {"subj01": anatomy(volume)})
        image = np.asarray(drawn[0].axes[0].images[0].get_array())[:, :, :3]
        row, column = self.coloured(drawn[0])[0]
        around = image[row - 1 : row + 2, column - 1 : column + 2].reshape(9, 3)
        assert (np.delete(around, 4, axis=0) == 255).all()

    def test_a_t1_has_its_white_matter_white(self, drawn: list[Figure]) -> None:
        volume = np.zeros(GRIDS[1], dtype=np.float32)
        volume[2] = np.linspace(0, 1000, volume[2].size).reshape(volume[2].shape)
        brains = {"subj01": anatomy(volume, kind="T1")}
        slices.draw_slices("V1", self.place([(0, 0, 2)]), brains)
        image = np.asarray(drawn[0].axes[0].images[0].get_array()).astype(int)
        i_to_the_right = image[-5 - 11 : -5, -5 - 13 : -5, 0][::-1]
        assert (np.diff(i_to_the_right.ravel()[1:]) >= 0).all()
        assert i_to_the_right[-1, -1] > 230
        assert i_to_the_right[0, 1] < 40

    def test_refuse_a_volume_on_another_grid(self) -> None:
        brains = {"subj01": anatomy(np.ones((9, 5, 13), dtype=np.float32))}
        with pytest.raises(InputFileError, match=r"V1 in subj01.*below \(13, 5, 9\), found up to"):
            slices.draw_slices("V1", self.place([(3, 7, 2)]), brains)

    def test_split_half_reliability_has_the_same_places(self, drawn: list[Figure]) -> None:
        points = [(3, 4, 2), (3, 5, 2), (3, 4, 6)]
        voxels = self.place(points).assign(split_half_correlation=[0.1, 0.6, np.nan])
        slices.draw_split_half(voxels, {"subj01": self.brain()})
        slices.draw_slices("V1", voxels, {"subj01": self.brain()})
        np.testing.assert_array_equal(self.coloured(drawn[0]), self.coloured(drawn[1]))
        image = np.asarray(drawn[0].axes[0].images[0].get_array())[:, :, :3]
        shown = {tuple(colour) for colour in image[tuple(self.coloured(drawn[0]).T)].tolist()}
        expected = [*voxel_colours()([0.1 / 0.6, 1.0])[:, :3], to_rgb(MISSING_COLOUR)]
        assert shown == {tuple(np.round(255 * np.array(colour)).tolist()) for colour in expected}

    def test_voxels_without_an_ncsnr_have_a_colour_of_their_own(self, drawn: list[Figure]) -> None:
        voxels = self.place([(3, 4, 2)]).assign(ncsnr=np.nan, noise_ceiling=0.0)
        slices.draw_slices("V1", voxels, {"subj01": self.brain()})
        image = np.asarray(drawn[0].axes[0].images[0].get_array())[:, :, :3]
        colours = image[tuple(self.coloured(drawn[0]).T)]
        expected = np.round(255 * np.array(to_rgb(MISSING_COLOUR)))
        np.testing.assert_array_equal(colours, [expected] * 3)
        (legend,) = drawn[0].legends
        assert [text.get_text() for text in legend.get_texts()] == ["without an ncsnr"]

    def test_without_such_voxels_there_is_no_legend_of_them(self, drawn: list[Figure]) -> None:
        slices.draw_slices("V1", self.place([(3, 4, 2)]), {"subj01": self.brain()})
        assert not drawn[0].legends
        bars = [axes for axes in drawn[0].axes if axes.get_ylabel()]
        assert all(axes.spines["outline"].get_linewidth() > 0 for axes in bars)


def test_repetitions_are_bars_of_the_counts(drawn: list[Figure]) -> None:
    voxel_figures.draw_repetitions(COUNTS)
    bars = drawn[0].axes[0].patches
    widths = np.array([bar.get_width() for bar in bars]).reshape(4, 2).T
    assert widths.tolist() == COUNTS.to_numpy().tolist()
    assert texts(drawn[0]) == ["20", "12", "5", "2", "1"]


def drawings(simulation: Simulation, geometry: Geometry) -> list[ReportFigure]:
    """Draw one figure of each kind."""
    brains = {name: anatomy(volume) for name, volume in simulation.backgrounds.items()}
    generator = np.random.default_rng(2)
    thumbnails = {
        int(nsd_id): generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for nsd_id in cluster_figures.images_of_clusters(geometry)
    }
    region = geometry.all_voxels[0]
    return [
        figures.draw_mean_rdms(geometry),
        figures.draw_between_regions(geometry),
        figures.draw_between_subjects(geometry),
        cluster_figures.draw_clusters(region, geometry.nsd_ids, LIMITS, thumbnails),
        cluster_figures.draw_subject_rdms(geometry, LIMITS),
        session_figures.draw_sessions(session_table()),
        slices.draw_slices("V1", simulation.tables["V1"], brains),
        voxel_figures.draw_noise_ceilings(simulation.voxels),
        voxel_figures.draw_repetitions(COUNTS),
    ]


@pytest.fixture(scope="module")
def pictures(simulation: Simulation, geometry: Geometry) -> list[ReportFigure]:
    return drawings(simulation, geometry)


@pytest.fixture(scope="module")
def pdf(pictures: list[ReportFigure]) -> bytes:
    return booklet(pictures)


@pytest.mark.slow
def test_the_same_data_give_the_same_bytes(
    simulation: Simulation, geometry: Geometry, pictures: list[ReportFigure], pdf: bytes
) -> None:
    again = drawings(simulation, geometry)
    assert again == pictures
    assert booklet(again) == pdf


def test_a_colour_bar_has_the_colours_of_its_scale() -> None:
    # A PNG of 256 colours stands for a figure of some thousand.
    with style.one_style():
        figure = style.new_figure(6, 4)
        axis = figure.subplots()
        matrix = axis.imshow(np.random.default_rng(0).normal(size=(60, 60)), cmap="Blues")
        figure.colorbar(matrix)
        axis.set_ylabel("with text, whose edges are grey")
        png = style.picture(figure, "name", "Title", "A caption.").png
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    exact = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    found = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert np.abs(found - exact).max() < 8  # of 255: less than an eye can tell


def test_pictures_are_no_wider_than_a_page(pictures: list[ReportFigure]) -> None:
    for picture in pictures:
        image = Image.open(io.BytesIO(picture.png))
        assert image.width <= 200 * 7.5
        assert picture.width <= image.width  # shown with all its pixels or more
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_booklet_has_a_page_for_each_figure(pictures: list[ReportFigure], pdf: bytes) -> None:
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", pdf)) == len(pictures) - 3
    assert pdf.count(b"/FontFile2") < len(pictures)


def test_cells_lie_where_the_matrix_is_drawn(pictures: list[ReportFigure]) -> None:
    for picture in pictures:
        pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).astype(int)
        height, width = pixels.shape[:2]
        for matrix in picture.cells:
            n_rows, n_columns = matrix.values.shape
            assert (n_rows, n_columns) == (len(matrix.rows), len(matrix.columns))
            middle = 0.5 if len(matrix.values) > 10 else 0.1  # beside the number in a cell
            rows = height * (matrix.top + matrix.height * (np.arange(n_rows) + middle) / n_rows)
            columns = width * (
                matrix.left + matrix.width * (np.arange(n_columns) + middle) / n_columns
            )
            known = np.isfinite(matrix.values)
            places = np.argwhere(known)
            values = matrix.values[known]
            brightness = np.array(
                [pixels[int(rows[row]), int(columns[column])].sum() for row, column in places]
            )
            # Brightness rises or falls with the value in each colour map; figures of 256 colours
            # may exchange neighbours.
            ranks = pd.DataFrame({"value": values, "brightness": brightness}).rank()
            assert abs(np.corrcoef(ranks.T)[0, 1]) > (0.95 if len(values) > 10 else 0.8)
    assert sum(len(picture.cells) for picture in pictures) == 2 + 3 + 1 + 2


def test_settings_of_the_user_neither_change_nor_matter(geometry: Geometry) -> None:
    usual = figures.draw_between_regions(geometry)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert figures.draw_between_regions(geometry) == usual
        assert dict(matplotlib.rcParams) == before


_DIGEST = """
import hashlib
import test_figures as tests
simulation = tests.simulate()
pictures = tests.drawings(simulation, tests.analyse(simulation.assemblies()))
digest = hashlib.sha256(tests.booklet(pictures))
for picture in pictures:
    digest.update(picture.png)
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_a_matplotlibrc_of_the_user_changes_no_byte(tmp_path: Path) -> None:
    settings = tmp_path / "matplotlibrc"
    settings.write_text(
        "font.size: 23\nfont.family: serif\naxes.facecolor: eeffee\nlines.linewidth: 9\n"
        "image.cmap: hot\nimage.interpolation: bilinear\nimage.origin: lower\n"
        "axes.grid: True\nsavefig.dpi: 37\nfigure.dpi: 41\npdf.fonttype: 3\n"
        "pdf.compression: 0\npatch.linewidth: 5\nboxplot.notch: True\naxes.spines.top: False\n"
        "figure.autolayout: True\nsavefig.transparent: True\ntext.hinting: none\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env=os.environ | variables,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for variables in ({}, {"MATPLOTLIBRC": str(settings)})
    ]
    assert len(found[0]) == 65
    assert found[0] == found[1]
