"""Figures of voxels and trials: noise ceilings, places in the brain, repetitions."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from numpy.typing import NDArray

from nsd_prep.analysis.picture import Picture
from nsd_prep.analysis.style import (
    INK,
    MISSING_COLOUR,
    PAGE_WIDTH,
    QUIET_INK,
    REPETITION_COLOURS,
    is_dark,
    new_figure,
    noise_ceiling_colours,
    one_style,
    picture,
    region_colour,
)
from nsd_prep.analysis.tables import ALL_SUBJECTS, BIN_EDGES, noise_ceiling_histogram
from nsd_prep.published import RELIABLE_NOISE_CEILING

#: Slices: name, NIfTI axis that stands still, axis to the right, axis upwards.
_VIEWS: Final = (("sagittal", "i", "j", "k"), ("coronal", "j", "i", "k"), ("axial", "k", "i", "j"))
_AXES: Final = "ijk"
#: Percent; voxels above have the colour of the end of the bar.
_HIGHEST_COLOUR: Final = 80.0


def draw_noise_ceilings(voxels: pd.DataFrame) -> Picture:
    """Draw how the noise ceilings are distributed in each region and subject.

    Parameters
    ----------
    voxels : DataFrame
        A row for each neuroid, as `nsd_prep.assembly.voxel_table` gives it.

    Returns
    -------
    Picture
        A panel for each region: a histogram, turned and mirrored, for each subject and for all.
    """
    histogram = noise_ceiling_histogram(voxels)
    regions = list(dict.fromkeys(voxels["region"]))
    n_columns = min(len(regions), 2)
    n_rows = -(-len(regions) // n_columns)
    with one_style():
        figure = new_figure(PAGE_WIDTH * n_columns / 2 + 0.2 * (2 - n_columns), 1.9 * n_rows)
        axes = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
        for place, region in enumerate(regions):
            of_region = voxels[voxels["region"] == region]
            axis = axes.flat[place]
            shapes = histogram[histogram["region"] == region]
            _draw_distributions(axis, of_region, shapes, region_colour(place))
            share = (of_region["noise_ceiling"] > RELIABLE_NOISE_CEILING).mean()
            axis.set_title(f"{region}  ({share:.0%} of {len(of_region):,} voxels reliable)")
            if place % n_columns == 0:
                axis.set_ylabel("noise ceiling (%)")
            if place + n_columns >= len(regions):
                axis.set_xlabel("subject")
        for axis in axes.flat[len(regions) :]:
            axis.set_axis_off()
        return picture(
            figure,
            "noise-ceilings",
            "Noise ceilings",
            "Distribution of the voxels' noise ceilings for each subject and for all subjects "
            f"together, in bins of {BIN_EDGES[1] - BIN_EDGES[0]:g} %, each as wide as its fullest "
            "bin; bars and numbers are medians. The dashed line is the threshold above which a "
            f"voxel counts as reliable ({RELIABLE_NOISE_CEILING:g} %).",
        )


def _draw_distributions(
    axis: Axes, of_region: pd.DataFrame, shapes: pd.DataFrame, colour: str
) -> None:
    axis.axhline(RELIABLE_NOISE_CEILING, color=QUIET_INK, linewidth=0.7, linestyle=(0, (4, 3)))
    groups = {**dict(iter(of_region.groupby("subject", sort=False))), ALL_SUBJECTS: of_region}
    for place, (subject, of) in enumerate(groups.items()):
        counts = shapes.loc[shapes["subject"] == subject, "voxels"].to_numpy()
        half = np.append(counts, counts[-1]) / max(counts.max(), 1) * 0.42
        axis.fill_betweenx(
            BIN_EDGES,
            place - half,
            place + half,
            step="post",
            color=QUIET_INK if subject == ALL_SUBJECTS else colour,
            alpha=0.75,
            linewidth=0,
        )
        median = float(of["noise_ceiling"].median())
        axis.plot([place - 0.28, place + 0.28], [median, median], color=INK, linewidth=1.2)
        axis.text(place, 101, f"{median:.1f}", ha="center", va="bottom", fontsize=6)
    axis.set_xticks(range(len(groups)), [_short(subject) for subject in groups])
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.set_ylim(0, 108)
    axis.set_yticks(range(0, 101, 20))
    axis.tick_params(axis="x", length=0)


def _short(subject: str) -> str:
    return subject if subject == ALL_SUBJECTS else str(int(subject.removeprefix("subj")))


def draw_slices(
    region: str, voxels: pd.DataFrame, backgrounds: Mapping[str, NDArray[np.floating]]
) -> Picture:
    """Draw a region's voxels in the brain of each subject, coloured by noise ceiling.

    Parameters
    ----------
    region : str
        Its name.
    voxels : DataFrame
        The region's rows of the voxel table.
    backgrounds : mapping of str to ndarray of float, shape (Z, Y, X)
        For each subject (``subj01``) a volume to draw in grey, NaN outside the brain: the ncsnr.
        Subjects without one get their voxels alone.

    Returns
    -------
    Picture
        A column for each subject; in each plane the slice that holds most of its voxels.
    """
    subjects = list(dict.fromkeys(voxels["subject"]))
    columns = [
        _subject_slices(voxels[voxels["subject"] == subject], backgrounds.get(subject))
        for subject in subjects
    ]
    mosaic, middles, bottoms = _mosaic([images for _, images in columns])
    height, width = mosaic.shape[:2]
    side = min((PAGE_WIDTH - 1.0) / len(subjects), 1.6) * len(subjects)
    colours = Normalize(0, _HIGHEST_COLOUR)
    with one_style():
        figure = new_figure(side + 1.0, side * height / width + 0.3)
        axes = figure.subplots()
        axes.imshow(mosaic, interpolation="nearest")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.set_xticks(middles, subjects, fontweight="bold", fontsize=7.5)
        axes.set_yticks(
            (np.array([0, *bottoms[:-1]]) + np.array(bottoms)) / 2,
            [view for view, *_ in _VIEWS],
            rotation=90,
            va="center",
        )
        for middle, (places, _) in zip(middles, columns, strict=True):
            for bottom, place, (_, fixed, *_) in zip(bottoms, places, _VIEWS, strict=True):
                axes.text(
                    middle,
                    bottom,
                    f"{fixed} = {place}",
                    color=QUIET_INK,
                    fontsize=5.5,
                    ha="center",
                    va="top",
                    in_layout=False,
                )
        bar = figure.colorbar(
            ScalarMappable(colours, noise_ceiling_colours()),
            ax=axes,
            extend="max",
            fraction=0.03,
            aspect=30,
            shrink=0.8,
            pad=0.015,
        )
        bar.set_label("noise ceiling (%)")
        bar.outline.set_linewidth(0)
        return picture(
            figure,
            f"voxels-{region.lower()}",
            f"Voxels of {region}",
            f"The voxels of {region} in each subject, on the sagittal, coronal and axial slice "
            "that holds most of them (NIfTI indices, 0-based; i and j run to the right, k and j "
            "upwards), coloured by noise ceiling, green without an ncsnr. In grey the subject's "
            "ncsnr, darker where it is higher; what is white has no data.",
        )


def _subject_slices(
    voxels: pd.DataFrame, background: NDArray[np.floating] | None
) -> tuple[list[int], list[NDArray[np.float64]]]:
    """Return, for each view, the index of the slice and its picture (height, width, 3)."""
    place = voxels[["nifti_i", "nifti_j", "nifti_k"]].to_numpy()
    ncsnr = voxels["ncsnr"].to_numpy(dtype=np.float64)
    ceiling = voxels["noise_ceiling"].to_numpy(dtype=np.float64)
    colours = noise_ceiling_colours()(ceiling / _HIGHEST_COLOUR)[:, :3]
    colours[~np.isfinite(ncsnr)] = to_rgb(MISSING_COLOUR)
    if background is None:
        brain = np.full(place.max(axis=0) + 1, np.nan)
    else:
        brain = background.transpose().astype(np.float64)  # NIfTI (X, Y, Z)
    inside = np.argwhere(np.isfinite(brain))
    everything = np.concatenate([place, inside])
    low, high = everything.min(axis=0), everything.max(axis=0) + 1
    brightest = np.nanpercentile(brain, 99) if len(inside) else 1.0
    places, images = [], []
    for _, *names in _VIEWS:
        fixed, right, up = (_AXES.index(name) for name in names)
        at = int(np.bincount(place[:, fixed]).argmax())
        plane = brain.transpose(fixed, up, right)[at, low[up] : high[up], low[right] : high[right]]
        grey = 0.93 - 0.5 * np.clip(plane / brightest, 0, 1)
        image = np.repeat(np.where(np.isfinite(grey), grey, 1.0)[:, :, np.newaxis], 3, axis=2)
        of_slice = place[:, fixed] == at
        image[place[of_slice, up] - low[up], place[of_slice, right] - low[right]] = colours[
            of_slice
        ]
        places.append(at)
        images.append(image)
    return places, images


def _mosaic(
    columns: list[list[NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], list[float], list[float]]:
    """Put pictures beside and below each other, each in the middle of a white cell.

    One image for all is drawn many times faster than one axes a slice, and a voxel has the same
    size everywhere.

    Returns
    -------
    ndarray, list of float, list of float
        The mosaic (height, width, 3), its first row above; the middle of each column; the lower
        end of each row's pictures.
    """
    gap = 12
    width = max(image.shape[1] for column in columns for image in column) + gap
    heights = [max(image.shape[0] for image in row) + gap for row in zip(*columns, strict=True)]
    mosaic = np.ones((sum(heights), width * len(columns), 3))
    bottoms = np.cumsum(heights)
    for number, column in enumerate(columns):
        for image, bottom, height in zip(column, bottoms, heights, strict=True):
            top = bottom - height + (height - gap - image.shape[0]) // 2
            left = number * width + (width - image.shape[1]) // 2
            # Pictures count upwards, the mosaic downwards.
            mosaic[top : top + image.shape[0], left : left + image.shape[1]] = image[::-1]
    middles = [(number + 0.5) * width for number in range(len(columns))]
    return mosaic, middles, [float(bottom - gap + 1) for bottom in bottoms]


def draw_repetitions(counts: pd.DataFrame) -> Picture:
    """Draw how many shared images each subject saw three times, twice, once and never.

    Parameters
    ----------
    counts : DataFrame of int, shape (n_subjects, 4)
        As `nsd_prep.trials.repetition_counts` gives it.

    Returns
    -------
    Picture
        A bar for each subject.
    """
    words = {3: "three times", 2: "twice", 1: "once", 0: "never"}
    total = int(counts.iloc[0].sum())
    with one_style():
        figure = new_figure(0.75 * PAGE_WIDTH, 0.24 * len(counts) + 0.8)
        axis = figure.subplots()
        start = np.zeros(len(counts))
        for times, colour in zip(words, REPETITION_COLOURS, strict=True):
            number = counts[times].to_numpy(dtype=np.float64)
            axis.barh(range(len(counts)), number, left=start, color=colour, label=words[times])
            for bar, (left, length) in enumerate(zip(start, number, strict=True)):
                if length >= 0.035 * total:
                    dark = is_dark((*to_rgb(colour), 1))
                    axis.text(
                        left + length / 2,
                        bar,
                        f"{length:.0f}",
                        ha="center",
                        va="center",
                        fontsize=6.5,
                        color="white" if dark else INK,
                    )
            start += number
        axis.set_yticks(range(len(counts)), [str(subject) for subject in counts.index])
        axis.invert_yaxis()
        axis.set_ylabel("subject")
        axis.set_xlabel("shared images")
        axis.set_xlim(0, total)
        axis.tick_params(axis="y", length=0)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return picture(
            figure,
            "repetitions",
            "Repetitions",
            f"How often each subject saw the {total:,} shared images in the sessions of this "
            "dataset. An image is used where every chosen subject saw it three times.",
        )
