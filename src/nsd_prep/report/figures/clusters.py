"""Figures of one RDM at a time: clusters with their images, and the RDM of each subject."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import dendrogram, fcluster

from nsd_prep.analysis.geometry import Geometry, RegionGeometry, average_linkage, cluster_order
from nsd_prep.analysis.rdm import from_upper_triangle
from nsd_prep.assemblies.assembly import stimulus_ids
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.rdms import mean_of_subjects
from nsd_prep.report.figures.style import (
    INK,
    PAGE_WIDTH,
    QUIET_INK,
    Panel,
    new_figure,
    one_style,
    outline,
    picture,
)

#: Clusters that thumbnails are shown for, at most, and thumbnails of each.
CLUSTERS_SHOWN: Final = 12
THUMBNAILS_SHOWN: Final = 3
#: Pixels of a thumbnail's longer side.
THUMBNAIL_SIDE: Final = 72
#: A dendrogram of fewer images shows nothing.
FEWEST_IMAGES_CLUSTERED: Final = 4
#: Cells of a subject's RDM that are drawn as their mean: a panel has fewer pixels than images.
_PIXELS_OF_PANEL: Final = 180


def draw_clusters(
    region: RegionGeometry,
    nsd_ids: NDArray[np.int64],
    limits: tuple[float, float],
    thumbnails: Mapping[int, NDArray[np.uint8]] | None = None,
) -> ReportFigure:
    """Draw a region's mean RDM in the order of its clusters, beside their dendrogram.

    Parameters
    ----------
    region : RegionGeometry
        Its mean RDM is known.
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based.
    limits : tuple of float
        Distances between which colours run.
    thumbnails : mapping of int to ndarray of uint8, shape (height, width, 3), optional
        Images by nsd_id, those of `images_of_clusters` at least; `thumbnail` makes them small.
        Without them the clusters are not illustrated.

    Returns
    -------
    ReportFigure
        Dendrogram, matrix, and for each of the largest clusters the images nearest to its centre.
    """
    tree = average_linkage(region.mean_rdm)
    order = cluster_order(region.mean_rdm)
    matrix = from_upper_triangle(region.mean_rdm)
    names = stimulus_ids(nsd_ids[order])
    clustered = matrix[np.ix_(order, order)]
    colours = Normalize(*limits)
    with one_style():
        figure = new_figure(PAGE_WIDTH, 4.9)
        figure.set_layout_engine("none")
        branches = figure.add_axes((0.03, 0.06, 0.12, 0.86))
        axes = figure.add_axes((0.155, 0.06, 0.86 * 4.9 / PAGE_WIDTH, 0.86))
        _draw_tree(branches, tree)
        axes.imshow(clustered, norm=colours, cmap="viridis", aspect="auto", interpolation="none")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_title(f"{region.region}: {len(order)} images by cluster")
        bar_axes = figure.add_axes((0.03, 0.045, 0.115, 0.012))
        bar = figure.colorbar(
            ScalarMappable(colours, "viridis"), cax=bar_axes, orientation="horizontal"
        )
        bar.set_ticks(list(limits), labels=[f"{limit:.2f}" for limit in limits])
        bar.set_label("1 \N{MINUS SIGN} r", labelpad=-5)
        outline(bar)
        if thumbnails:
            beside = figure.add_axes((0.80, 0.06, 0.19, 0.86))
            pictures = [thumbnails.get(int(nsd_id)) for nsd_id in nsd_ids]
            _draw_thumbnails(axes, beside, _illustrated(region, tree, order), order, pictures)
        shown = (
            f"To the right, for each of up to {CLUSTERS_SHOWN} clusters, the "
            f"{THUMBNAILS_SHOWN} images with the smallest mean distance to its others. "
            if thumbnails
            else ""
        )
        return picture(
            figure,
            f"clusters-{region.region.lower()}",
            f"Clusters of images in {region.region}",
            f"{mean_of_subjects([region])}, images in the order of hierarchical clustering with "
            "average linkage, and the dendrogram; the height of a branch is the mean distance "
            "between the two clusters that it joins. "
            f"{shown}Hover over a cell to see its images and distance.",
            [Panel(axes, names, names, clustered)],
            photographs=bool(thumbnails),
            pixels_alone=True,
        )


def _draw_tree(axes: Axes, tree: NDArray[np.float64]) -> None:
    """Draw the dendrogram with its leaves to the right, each at the middle of its row."""
    drawn = dendrogram(tree, no_plot=True)
    # SciPy places leaf n at 10 n + 5; rows of the matrix are one apart.
    rows = np.array(drawn["icoord"]) / 10 - 0.5
    heights = np.array(drawn["dcoord"])
    axes.add_collection(
        LineCollection(list(np.stack([heights, rows], axis=-1)), colors=QUIET_INK, linewidths=0.35)
    )
    top, lowest = float(heights.max()), float(tree[:, 2].min())
    # Below the lowest join there is nothing but straight lines.
    axes.set_xlim(top, max(0.0, lowest - 0.05 * (top - lowest)))
    axes.set_ylim(len(tree) + 0.5, -0.5)
    axes.set_axis_off()


def clusters_in_order(
    tree: NDArray[np.float64], order: NDArray[np.int64], n_clusters: int
) -> list[NDArray[np.int64]]:
    """Return the largest clusters of a tree in the order of its leaves.

    The tree is cut where its branches are, in number, at least `n_clusters` that hold three
    images or more; average linkage first splits off single images, which are no clusters.

    Parameters
    ----------
    tree : ndarray of float64, shape (n_images - 1, 4)
        As SciPy gives it.
    order : ndarray of int64, shape (n_images,)
        Its leaves.
    n_clusters : int
        At most so many are returned, the largest.

    Returns
    -------
    list of ndarray of int64
        Images (0-based rows of the RDM) of each cluster, in the order of the leaves.
    """
    best: list[NDArray[np.int64]] = []
    for n_branches in range(2, len(order) + 1):
        labels = fcluster(tree, n_branches, criterion="maxclust")[order]
        edges = np.flatnonzero(np.diff(labels)) + 1
        large = [part for part in np.split(order, edges) if len(part) >= THUMBNAILS_SHOWN]
        if len(large) > len(best):
            best = large
        if len(best) >= n_clusters:
            break
    largest = sorted(range(len(best)), key=lambda cluster: -len(best[cluster]))[:n_clusters]
    return [best[cluster] for cluster in sorted(largest)]


class _Cluster(NamedTuple):
    """A cluster's images, and those that stand for it (0-based rows of the RDM)."""

    images: NDArray[np.int64]
    central: NDArray[np.int64]


def _illustrated(
    region: RegionGeometry, tree: NDArray[np.float64], order: NDArray[np.int64]
) -> list[_Cluster]:
    """Return the clusters to be illustrated, with the images nearest to all others of each."""
    matrix = from_upper_triangle(region.mean_rdm)
    clusters = []
    for images in clusters_in_order(tree, order, CLUSTERS_SHOWN):
        distances = matrix[np.ix_(images, images)].mean(axis=1)
        nearest = np.argsort(distances, kind="stable")[:THUMBNAILS_SHOWN]
        clusters.append(_Cluster(images, images[nearest]))
    return clusters


def images_of_clusters(geometry: Geometry) -> NDArray[np.int64]:
    """Return which images `draw_clusters` shows for all regions, to be read.

    Returns
    -------
    ndarray of int64
        nsd_id (0-based), ascending, each once; at most 36 for each region.
    """
    shown = [np.zeros(0, dtype=np.int64)]
    for region in geometry.all_voxels:
        if len(geometry.nsd_ids) >= FEWEST_IMAGES_CLUSTERED and np.isfinite(region.mean_rdm).all():
            tree, order = average_linkage(region.mean_rdm), cluster_order(region.mean_rdm)
            clusters = _illustrated(region, tree, order)
            shown += [geometry.nsd_ids[cluster.central] for cluster in clusters]
    return np.unique(np.concatenate(shown))


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (height, width, 3) no larger than it is drawn in a figure."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _draw_thumbnails(
    matrix_axes: Axes,
    axes: Axes,
    clusters: Sequence[_Cluster],
    order: NDArray[np.int64],
    pictures: Sequence[NDArray[np.uint8] | None],
) -> None:
    """Draw the most central images of each cluster, joined to its rows by a line."""
    position = np.argsort(order)
    first = (CLUSTERS_SHOWN - len(clusters)) / 2
    edge, gap = len(order) - 0.5, 0.003 * len(order) - 0.5
    for number, cluster in enumerate(clusters):
        top = first + number
        for column, image in enumerate(cluster.central):
            pixels = pictures[image]
            if pixels is None:
                continue
            left = column + 0.6
            axes.imshow(
                pixels,
                extent=(left + 0.02, left + 0.98, top + 0.98, top + 0.02),
                aspect="auto",
                interpolation="antialiased",
            )
        low, high = int(position[cluster.images].min()), int(position[cluster.images].max())
        matrix_axes.plot(
            [edge, edge],
            [low + gap, high - gap],
            color=INK,
            linewidth=1.6,
            solid_capstyle="butt",
            clip_on=False,
        )
        axes.add_artist(
            ConnectionPatch(
                (edge, (low + high) / 2),
                (0.55, top + 0.5),
                matrix_axes.transData,
                axes.transData,
                color=QUIET_INK,
                linewidth=0.5,
            )
        )
    axes.set_axis_off()
    axes.set_xlim(0, THUMBNAILS_SHOWN + 0.6)
    axes.set_ylim(CLUSTERS_SHOWN, 0)


def draw_subject_rdms(
    geometry: Geometry, limits: tuple[float, float], noun: Noun = VOXEL
) -> ReportFigure:
    """Draw the RDM of each subject in each region, in the order of the region's clusters.

    A row for each region, a column for each subject. The limits are the distances between which
    colours run for the mean RDMs; subjects are spread wider. The noun is what voxels are called.
    """
    subjects = list(
        dict.fromkeys(name for region in geometry.all_voxels for name in region.subjects)
    )
    middle, half = sum(limits) / 2, (limits[1] - limits[0]) / 2
    widened = float(np.sqrt(len(subjects))) * half
    colours = Normalize(max(0.0, middle - widened), middle + widened)
    side = min((PAGE_WIDTH - 1.0) / len(subjects), 1.6)
    cell = _cell_of_mosaic(len(geometry.nsd_ids))
    height, width = cell * len(geometry.all_voxels), cell * len(subjects)
    with one_style():
        figure = new_figure(side * len(subjects) + 1.0, side * len(geometry.all_voxels) + 0.25)
        axes = figure.subplots()
        for row, region in enumerate(geometry.all_voxels):
            # An image a row: for one of all, matplotlib would take 300 MB with ten regions.
            extent = (-0.5, width - 0.5, (row + 1) * cell - 0.5, row * cell - 0.5)
            matrices = _matrices_of_subjects(region, subjects, cell)
            axes.imshow(matrices, norm=colours, cmap="viridis", extent=extent)
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for set_ticks, names in (
            (axes.set_xticks, subjects),
            (axes.set_yticks, [region.region for region in geometry.all_voxels]),
        ):
            middles = (np.arange(len(names)) + 0.5) * cell
            set_ticks(middles, names, fontweight="bold", fontsize=7.5)
        bar = figure.colorbar(
            ScalarMappable(colours, "viridis"),
            ax=axes,
            extend="both",
            fraction=0.03,
            aspect=40,
            pad=0.015,
        )
        bar.set_label("dissimilarity, 1 \N{MINUS SIGN} Pearson r")
        outline(bar)
        return picture(
            figure,
            "subject-rdms",
            "Representational dissimilarity in each subject",
            "The representational dissimilarity matrix of each subject in each region (all "
            f"{noun.plural}), images in the order of the clusters of the region's mean matrix, so "
            "that the same place is the same pair of images in a row; empty where a subject has "
            f"too few {noun.plural}. Colours run wider than those of "
            "the means, as single subjects are noisier; neighbouring cells are averaged to fit.",
            pixels_alone=True,
        )


def _cell_of_mosaic(n_images: int) -> int:
    """Return the side of a matrix in a mosaic of all, with its gap, in cells."""
    size = len(block_means(np.zeros((n_images, n_images), np.float32), _PIXELS_OF_PANEL))
    return size + max(1, size // 24)


def _matrices_of_subjects(
    region: RegionGeometry, subjects: Sequence[str], cell: int
) -> NDArray[np.float32]:
    """Return the matrices of a region beside each other, each with its gap to the right and below.

    NaN in the gaps. One image is drawn many times faster than one axes for each matrix.
    """
    row = np.full((cell, cell * len(subjects)), np.nan, dtype=np.float32)
    order = cluster_order(region.mean_rdm)
    for column, subject in enumerate(subjects):
        pairs = _pairs_of_subject(region, subject)
        if pairs is not None:
            matrix = from_upper_triangle(pairs)[np.ix_(order, order)]
            small = block_means(matrix, _PIXELS_OF_PANEL)
            left = column * cell
            row[: len(small), left : left + len(small)] = small
    return row


def _pairs_of_subject(region: RegionGeometry, subject: str) -> NDArray[np.float32] | None:
    if subject not in region.subjects:
        return None
    pairs: NDArray[np.float32] = region.rdms[region.subjects.index(subject)]
    return pairs if np.isfinite(pairs).all() else None


def block_means(matrix: NDArray[np.float32], largest: int) -> NDArray[np.float32]:
    """Average neighbouring rows and columns until a square matrix has few enough.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, n)
        Any values.
    largest : int
        Rows that are wanted, at most.

    Returns
    -------
    ndarray of float32, shape (m, m)
        m is at most `largest`; the blocks are of equal size but for the last.
    """
    size = -(-len(matrix) // largest)
    if size <= 1:
        return matrix
    starts: Sequence[int] = range(0, len(matrix), size)
    counts = np.diff([*starts, len(matrix)])
    sums = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
    return (sums / np.multiply.outer(counts, counts)).astype(np.float32)
