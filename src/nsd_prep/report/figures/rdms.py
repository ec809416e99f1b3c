"""Figures of representational geometry."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nsd_prep.analysis.geometry import (
    Geometry,
    RegionGeometry,
    between_regions,
    between_subjects,
    cluster_order,
    mean_over_pairs,
)
from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.style import (
    INK,
    PAGE_WIDTH,
    Panel,
    correlation_colours,
    is_dark,
    new_figure,
    one_style,
    outline,
    picture,
)

#: Percentiles of the distances, pooled over regions, between which colours run.
COLOUR_PERCENTILES: Final = (2, 98)
_REGIONS_IN_A_ROW: Final = 4


class Distance(NamedTuple):
    """How distances between images were computed, in the words of a figure.

    Attributes
    ----------
    name : str
        Of the figure's files.
    title : str
        A few words.
    label : str
        Of the colour bar.
    explanation : str
        A sentence for the caption; "" where the label says all.
    """

    name: str
    title: str
    label: str
    explanation: str = ""


CORRELATION: Final = Distance(
    "mean-rdms",
    "Representational dissimilarity",
    "dissimilarity, 1 \N{MINUS SIGN} Pearson r",
)


def crossnobis_distance(noun: Noun) -> Distance:
    """Return how cross-validated distances were computed; `noun` is what voxels are called."""
    return Distance(
        "crossnobis-rdms",
        "Cross-validated distances",
        f"crossnobis distance a {noun.singular}",
        " Distances are inner products of two images' differences in one repetition and in "
        f"another, each {noun.singular} divided by its noise variance: 0 on average where two "
        "images evoke the same.",
    )


def mean_of_subjects(regions: Sequence[RegionGeometry]) -> str:
    """Return what mean RDMs are, as a caption begins: of one subject there is no mean."""
    if any(len(region.subjects) > 1 for region in regions):
        return "Mean over subjects of the representational dissimilarity matrices"
    return "The subject's representational dissimilarity matrices"


def colour_limits(geometry: Geometry) -> tuple[float, float]:
    """Return the distances between which the colours of all mean RDMs run.

    The 2nd and 98th percentile of their upper triangles, pooled over regions.
    """
    pooled = np.concatenate([region.mean_rdm for region in geometry.all_voxels])
    pooled = pooled[np.isfinite(pooled)]
    if len(pooled) == 0:
        return 0.0, 1.0
    low, high = np.percentile(pooled, COLOUR_PERCENTILES)
    return float(low), float(high)


def draw_mean_rdms(geometry: Geometry, distance: Distance = CORRELATION) -> ReportFigure:
    """Draw the mean RDM of each region, in the original and in the clustered order.

    One row for each order, one column for each region, one colour bar for all.
    """
    n_images = len(geometry.nsd_ids)
    regions = geometry.all_voxels
    n_columns = min(len(regions), _REGIONS_IN_A_ROW)
    n_blocks = -(-len(regions) // n_columns)
    side = min((PAGE_WIDTH - 0.9) / n_columns, 2.4)
    colours = Normalize(*colour_limits(geometry))
    with one_style():
        figure = new_figure(side * n_columns + 0.9, (2 * side + 0.1) * n_blocks)
        axes = figure.subplots(2 * n_blocks, n_columns, squeeze=False)
        for index, region in enumerate(regions):
            row, column = 2 * (index // n_columns), index % n_columns
            matrix = from_upper_triangle(region.mean_rdm)
            order = cluster_order(region.mean_rdm)
            for axis, values in (
                (axes[row, column], matrix),
                (axes[row + 1, column], matrix[np.ix_(order, order)]),
            ):
                axis.imshow(values, norm=colours, cmap="viridis")
                axis.set_xticks([])
                axis.set_yticks([])
                axis.spines[:].set_visible(False)
            axes[row, column].set_title(region.region)
            if column == 0:
                axes[row, 0].set_ylabel(f"{n_images} images by nsd_id")
                axes[row + 1, 0].set_ylabel(f"{n_images} images by cluster")
        for axis in (
            axes.reshape(n_blocks, 2, n_columns)
            .transpose(0, 2, 1)
            .reshape(-1, 2)[len(regions) :]
            .ravel()
        ):
            axis.set_axis_off()
        bar = figure.colorbar(
            ScalarMappable(colours, "viridis"),
            ax=axes,
            extend="both",
            fraction=0.03,
            aspect=40,
            pad=0.015,
        )
        bar.set_label(distance.label)
        outline(bar)
        return picture(
            figure,
            distance.name,
            distance.title,
            f"{mean_of_subjects(regions)} of {n_images} images, in the order of their ids (above) "
            "and in the order of each region's own hierarchical clustering with average linkage "
            "(below). Colours run from the "
            f"{COLOUR_PERCENTILES[0]}nd to the {COLOUR_PERCENTILES[1]}th percentile of all "
            f"regions' distances together ({colours.vmin:.3f} to {colours.vmax:.3f}), so that one "
            "colour means one distance in every panel; the ends of the bar hold what lies beyond."
            + distance.explanation,
        )


def draw_between_regions(geometry: Geometry, noun: Noun = VOXEL) -> ReportFigure:
    """Draw how far the mean RDMs of two regions or more correlate.

    One panel with all voxels, one with the reliable ones; `noun` is what voxels are called.
    """
    names = [region.region for region in geometry.all_voxels]
    several = any(len(region.subjects) > 1 for region in geometry.all_voxels)
    matrices = {
        f"all {noun.plural}": between_regions(geometry.all_voxels),
        f"noise ceiling > {RELIABLE_NOISE_CEILING:g}%": between_regions(geometry.reliable_voxels),
    }
    colours = _correlation_limits(list(matrices.values()))
    side = min(0.5 * len(names) + 0.5, 2.8)
    with one_style():
        figure = new_figure(2 * side + 0.9, side + 0.3)
        axes = figure.subplots(1, 2)
        panels = []
        for axis, (title, matrix) in zip(axes, matrices.items(), strict=True):
            lower = np.tril(np.ones_like(matrix, dtype=np.bool_), k=-1)
            shown = np.where(lower, matrix, np.nan)
            draw_numbers(axis, shown, lower, colours)
            panels.append(Panel(axis, names, names, shown))
            axis.set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 0)
            axis.set_yticks(range(len(names)), names)
            axis.set_xlim(-0.5, len(names) - 1.5)
            axis.set_ylim(len(names) - 0.5, 0.5)
            axis.set_title(title)
        _add_correlation_bar(figure, axes, colours)
        return picture(
            figure,
            "between-regions",
            "Agreement between regions",
            f"Pearson r between the {'mean ' * several}RDMs of two regions, over all pairs of "
            f"images: with all {noun.plural}, and with those whose noise ceiling lies above "
            f"{RELIABLE_NOISE_CEILING:g}%.",
            panels,
        )


def draw_between_subjects(geometry: Geometry, noun: Noun = VOXEL) -> ReportFigure:
    """Draw how far the RDMs of two subjects or more correlate in each region.

    A panel for each region: all voxels below the diagonal, reliable ones above; `noun` is what
    voxels are called.
    """
    matrices = [
        (region.region, region.subjects, between_subjects(region), between_subjects(reliable))
        for region, reliable in zip(geometry.all_voxels, geometry.reliable_voxels, strict=True)
    ]
    colours = _correlation_limits([matrix for _, _, *both in matrices for matrix in both])
    n_columns = min(len(matrices), 2)
    n_rows = -(-len(matrices) // n_columns)
    largest = max(len(subjects) for _, subjects, _, _ in matrices)
    side = min(max(0.34 * largest + 0.45, 1.7), (PAGE_WIDTH - 0.8) / 2)
    with one_style():
        figure = new_figure(side * n_columns + 0.8, (side + 0.3) * n_rows)
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
        panels = []
        for axis, (region, subjects, everything, reliable) in zip(
            axes.flat, matrices, strict=False
        ):
            is_pair = ~np.eye(len(subjects), dtype=np.bool_)
            shown = np.where(np.tril(is_pair), everything, reliable)
            shown[~is_pair] = np.nan
            draw_numbers(axis, shown, is_pair, colours)
            panels.append(Panel(axis, subjects, subjects, shown))
            numbers = [str(int(subject.removeprefix("subj"))) for subject in subjects]
            axis.set_xticks(range(len(numbers)), numbers)
            axis.set_yticks(range(len(numbers)), numbers)
            axis.set_ylabel("subject")
            axis.set_title(
                f"{region},  mean ◣ {_number(mean_over_pairs(everything))}  "
                f"◥ {_number(mean_over_pairs(reliable))}"
            )
        for axis in axes.flat[len(matrices) :]:
            axis.set_axis_off()
        _add_correlation_bar(figure, axes, colours)
        return picture(
            figure,
            "between-subjects",
            "Agreement between subjects",
            "Pearson r between the RDMs of two subjects, over all pairs of images. Below the "
            f"diagonal (◣) all {noun.plural}, above it (◥) only those whose noise ceiling lies "
            f"above {RELIABLE_NOISE_CEILING:g}%; the titles give the means over pairs of subjects. "
            f"Grey: too few {noun.plural}.",
            panels,
        )


def _correlation_limits(matrices: list[NDArray[np.float64]]) -> Normalize:
    """Let colours run from 0, or the lowest correlation of a pair, to the highest."""
    pairs = np.concatenate([matrix[np.triu_indices(len(matrix), k=1)] for matrix in matrices])
    pairs = pairs[np.isfinite(pairs)]
    if len(pairs) == 0:
        return Normalize(0, 1)
    return Normalize(min(0.0, float(pairs.min())), max(0.1, float(pairs.max())))


def draw_numbers(
    axis: Axes, matrix: NDArray[np.float64], shown: NDArray[np.bool_], colours: Normalize
) -> None:
    """Draw the shown cells of a matrix with their numbers, grey where there is none."""
    colour_map: Colormap = correlation_colours()
    cells = colour_map(colours(matrix))
    cells[~np.isfinite(matrix)] = (0.9, 0.91, 0.92, 1)
    cells[~shown] = (1, 1, 1, 0)
    axis.imshow(cells, interpolation="nearest")
    size = 7 if len(matrix) <= 8 else 5
    for row, column in np.argwhere(shown):
        axis.text(
            column,
            row,
            _number(float(matrix[row, column])),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if is_dark(tuple(cells[row, column])) else INK,
            in_layout=False,  # it lies within its cell; the layout is quicker without
        )
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _number(value: float) -> str:
    """Write a correlation with two digits and without the 0 before the point."""
    if not np.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}")


def _add_correlation_bar(figure: Figure, axes: NDArray[np.object_], colours: Normalize) -> None:
    bar = figure.colorbar(
        ScalarMappable(colours, correlation_colours()),
        ax=axes,
        fraction=0.04,
        aspect=25,
        shrink=0.7,
        pad=0.02,
    )
    bar.set_label("Pearson r")
    outline(bar)
