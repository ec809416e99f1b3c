"""Figures: what they draw, in which colours, and that the same data give the same bytes."""

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from simulated_assemblies import GRIDS, Simulation, simulate

from nsd_prep.analysis import figures, voxel_figures
from nsd_prep.analysis.geometry import Geometry, analyse, cluster_order
from nsd_prep.analysis.picture import Picture
from nsd_prep.analysis.rdm import from_upper_triangle

COUNTS = pd.DataFrame(
    {3: [20, 12], 2: [0, 5], 1: [0, 2], 0: [0, 1]}, index=pd.Index([1, 5], name="subject")
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

    def keep(figure: Figure, name: str, title: str, caption: str) -> Picture:
        seen.append(figure)
        return Picture(name, title, caption, 0, b"", b"")

    for module in (figures, voxel_figures):
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
        for of, original, clustered in zip(geometry.all_voxels, shown[:3], shown[3:], strict=True):
            matrix = from_upper_triangle(of.mean_rdm)
            order = cluster_order(of.mean_rdm)
            np.testing.assert_array_equal(original, matrix)
            np.testing.assert_array_equal(clustered, matrix[order][:, order])

    def test_share_one_scale_of_colours_with_the_bar(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        figures.draw_mean_rdms(geometry)
        pooled = np.concatenate([of.mean_rdm for of in geometry.all_voxels])
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
        assert len([of for of in panels if np.asarray(of.images[0].get_array()).shape == (30, 30)])
        visible = [axes for axes in drawn[0].axes[:-1] if axes.axison]
        assert len(visible) == 2 * n_regions


class TestAgreement:
    def test_between_subjects_shows_all_voxels_below_and_reliable_ones_above(
        self, geometry: Geometry, drawn: list[Figure]
    ) -> None:
        figures.draw_between_subjects(geometry)
        for axes, of, reliable in zip(
            drawn[0].axes, geometry.all_voxels, geometry.reliable_voxels, strict=False
        ):
            below, above = np.corrcoef(of.rdms), np.corrcoef(reliable.rdms)
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
            expected = np.corrcoef([of.mean_rdm for of in regions])
            shown = {text.get_position(): float(text.get_text()) for text in axes.texts}
            assert sorted(shown) == [(0, 1), (0, 2), (1, 2)]
            for (column, row), number in shown.items():
                assert number == pytest.approx(expected[row, column], abs=0.00501)

    def test_a_missing_rdm_is_a_dash(self, geometry: Geometry, drawn: list[Figure]) -> None:
        of = geometry.all_voxels[0]
        rdms = of.rdms.copy()
        rdms[1] = np.nan
        broken = type(of)(of.region, of.subjects, np.array([9, 1, 9]), of.n_without_variance, rdms)
        figures.draw_between_subjects(Geometry(geometry.nsd_ids, (of,), (broken,)))
        assert texts(drawn[0]).count("\N{EN DASH}") == 2


class TestNoiseCeilings:
    def test_show_medians_of_subjects_and_of_all(
        self, simulation: Simulation, drawn: list[Figure]
    ) -> None:
        voxel_figures.draw_noise_ceilings(simulation.voxels)
        for axes, table in zip(drawn[0].axes, simulation.tables.values(), strict=False):
            ceilings = table["noise_ceiling"].to_numpy()
            of_subjects = [ceilings[table["subject"] == name] for name in pd.unique(table.subject)]
            expected = [f"{np.median(of):.1f}" for of in (*of_subjects, ceilings)]
            assert [text.get_text() for text in axes.texts] == expected
            assert axes.lines[0].get_ydata()[0] == 30

    def test_shapes_hold_every_voxel(self, simulation: Simulation) -> None:
        histogram = voxel_figures.noise_ceiling_histogram(simulation.voxels)
        for (region, subject), of in histogram.groupby(["region", "subject"]):
            table = simulation.tables[region]
            ceilings = table["noise_ceiling"].to_numpy()
            if subject != "all":
                ceilings = ceilings[table["subject"] == subject]
            for low, high, voxels in zip(of["from"], of["to"], of["voxels"], strict=True):
                below = ceilings <= high if high == 100 else ceilings < high
                assert voxels == ((ceilings >= low) & below).sum()


class TestSlices:
    def place(self, grid: tuple[int, ...], points: list[tuple[int, int, int]]) -> pd.DataFrame:
        i, j, k = np.array(points).T
        assert (i < grid[2]).all()
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

    def coloured(self, figure: Figure) -> np.ndarray:
        """Return where the drawn image is neither grey nor white, rows and columns."""
        image = np.asarray(figure.axes[0].images[0].get_array())
        return np.argwhere(np.ptp(image, axis=2) > 0.05)

    def test_show_the_voxels_of_the_fullest_slice_of_each_plane(self, drawn: list[Figure]) -> None:
        points = [(3, 4, 2), (3, 5, 2), (3, 4, 6), (9, 4, 2)]
        voxels = self.place(GRIDS[1], points)
        voxel_figures.draw_slices("V1", voxels, {"subj01": np.ones(GRIDS[1], dtype=np.float32)})
        assert texts(drawn[0]) == ["i = 3", "j = 4", "k = 2"]
        assert len(self.coloured(drawn[0])) == 3 + 3 + 3

    def test_axial_slice_has_i_to_the_right_and_j_upwards(self, drawn: list[Figure]) -> None:
        background = {"subj01": np.ones(GRIDS[1], dtype=np.float32)}
        places = []
        for point in [(3, 4, 2), (5, 4, 2), (3, 7, 2)]:
            voxel_figures.draw_slices("V1", self.place(GRIDS[1], [point]), background)
            places.append(self.coloured(drawn[-1])[-1])
        first, to_the_right, above = places
        assert (to_the_right - first).tolist() == [0, 2]
        assert (above - first).tolist() == [-3, 0]

    def test_a_mask_outside_the_brain_lies_on_white(self, drawn: list[Figure]) -> None:
        brain = np.full(GRIDS[1], np.nan, dtype=np.float32)
        brain[:5, :5, :5] = 1
        brain[8, 10, 12] = 1
        voxels = self.place(GRIDS[1], [(9, 8, 6)])
        voxel_figures.draw_slices("V1", voxels, {"subj01": brain})
        image = np.asarray(drawn[0].axes[0].images[0].get_array())
        row, column = self.coloured(drawn[0])[0]
        around = image[row - 1 : row + 2, column - 1 : column + 2].reshape(9, 3)
        assert (np.delete(around, 4, axis=0) == 1).all()

    def test_voxels_without_an_ncsnr_have_a_colour_of_their_own(self, drawn: list[Figure]) -> None:
        voxels = self.place(GRIDS[1], [(3, 4, 2)]).assign(ncsnr=np.nan, noise_ceiling=0.0)
        voxel_figures.draw_slices("V1", voxels, {})
        image = np.asarray(drawn[0].axes[0].images[0].get_array())
        colours = image[tuple(self.coloured(drawn[0]).T)]
        expected = matplotlib.colors.to_rgb(voxel_figures.MISSING_COLOUR)
        np.testing.assert_allclose(colours, [expected] * 3)


def test_repetitions_are_bars_of_the_counts(drawn: list[Figure]) -> None:
    voxel_figures.draw_repetitions(COUNTS)
    bars = drawn[0].axes[0].patches
    widths = np.array([bar.get_width() for bar in bars]).reshape(4, 2).T
    assert widths.tolist() == COUNTS.to_numpy().tolist()
    assert texts(drawn[0]) == ["20", "12", "5", "2", "1"]


def test_the_same_data_give_the_same_bytes(simulation: Simulation, geometry: Geometry) -> None:
    for draw in (
        lambda: figures.draw_mean_rdms(geometry),
        lambda: voxel_figures.draw_slices("V1", simulation.tables["V1"], simulation.backgrounds),
    ):
        assert draw() == draw()


def test_pictures_are_png_and_pdf_no_wider_than_a_page(
    simulation: Simulation, geometry: Geometry
) -> None:
    for picture in (
        figures.draw_between_subjects(geometry),
        voxel_figures.draw_noise_ceilings(simulation.voxels),
        voxel_figures.draw_repetitions(COUNTS),
    ):
        width, _ = Image.open(io.BytesIO(picture.png)).size
        assert width <= 200 * 7.5
        assert picture.width <= width  # shown with all its pixels or more
        assert picture.pdf.startswith(b"%PDF")


def test_settings_of_the_user_neither_change_nor_matter(geometry: Geometry) -> None:
    usual = figures.draw_between_regions(geometry)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert figures.draw_between_regions(geometry) == usual
        assert dict(matplotlib.rcParams) == before
