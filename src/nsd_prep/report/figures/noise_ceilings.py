"""Figures of noise ceilings and of repetitions."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from nsd_prep.analysis.tables import ALL_SUBJECTS, BIN_EDGES, noise_ceiling_histogram
from nsd_prep.core.counts import TIMES
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.style import (
    INK,
    PAGE_WIDTH,
    QUIET_INK,
    REPETITION_COLOURS,
    is_dark,
    new_figure,
    one_style,
    picture,
    region_colours,
)


def draw_noise_ceilings(voxels: pd.DataFrame, noun: Noun = VOXEL) -> ReportFigure:
    """Draw how the noise ceilings are distributed in each region and subject.

    Parameters
    ----------
    voxels : DataFrame
        A row for each neuroid, as `nsd_prep.assemblies.assembly.voxel_table` gives it.
    noun : Noun
        What voxels are called.

    Returns
    -------
    ReportFigure
        A panel for each region: a histogram, turned and mirrored, for each subject and for all.
    """
    histogram = noise_ceiling_histogram(voxels)
    regions = voxels["region"].unique().tolist()
    several = voxels["subject"].nunique() > 1
    together = " for each subject and for all subjects together" if several else ""
    n_columns = min(len(regions), 2)
    n_rows = -(-len(regions) // n_columns)
    with one_style():
        figure = new_figure(PAGE_WIDTH * n_columns / 2 + 0.2 * (2 - n_columns), 1.9 * n_rows)
        axes = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
        colours = region_colours(regions)
        for column, region in enumerate(regions):
            chosen = voxels[voxels["region"] == region]
            axis = axes.flat[column]
            shapes = histogram[histogram["region"] == region]
            _draw_distributions(axis, chosen, shapes, colours[region])
            share = (chosen["noise_ceiling"] > RELIABLE_NOISE_CEILING).mean()
            axis.set_title(f"{region}  ({share:.0%} of {len(chosen):,} {noun.plural} reliable)")
            if column % n_columns == 0:
                axis.set_ylabel("noise ceiling (%)")
            if column + n_columns >= len(regions):
                axis.set_xlabel("subject")
        for axis in axes.flat[len(regions) :]:
            axis.set_axis_off()
        return picture(
            figure,
            "noise-ceilings",
            "Noise ceilings",
            f"Distribution of the {noun.plural}' noise ceilings{together}, in bins of "
            f"{BIN_EDGES[1] - BIN_EDGES[0]:g}%, each histogram scaled to its fullest bin; "
            "bars and numbers are medians. The dashed line is the threshold above which a "
            f"{noun.singular} counts as reliable ({RELIABLE_NOISE_CEILING:g}%).",
        )


def _draw_distributions(
    axis: Axes, chosen: pd.DataFrame, shapes: pd.DataFrame, colour: str
) -> None:
    axis.axhline(RELIABLE_NOISE_CEILING, color=QUIET_INK, linewidth=0.7, linestyle=(0, (4, 3)))
    groups = dict(iter(chosen.groupby("subject", sort=False)))
    if len(groups) > 1:
        groups[ALL_SUBJECTS] = chosen
    for position, (subject, group) in enumerate(groups.items()):
        counts = shapes.loc[shapes["subject"] == subject, "voxels"].to_numpy()
        half = np.append(counts, counts[-1]) / max(counts.max(), 1) * 0.42
        axis.fill_betweenx(
            BIN_EDGES,
            position - half,
            position + half,
            step="post",
            color=QUIET_INK if subject == ALL_SUBJECTS else colour,
            alpha=0.75,
            linewidth=0,
        )
        median = float(group["noise_ceiling"].median())
        axis.plot([position - 0.28, position + 0.28], [median, median], color=INK, linewidth=1.2)
        axis.text(position, 101, f"{median:.1f}", ha="center", va="bottom", fontsize=6)
    axis.set_xticks(range(len(groups)), [_short(subject) for subject in groups])
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.set_ylim(0, 108)
    axis.set_yticks(range(0, 101, 20))
    axis.tick_params(axis="x", length=0)


def _short(subject: str) -> str:
    return subject if subject == ALL_SUBJECTS else str(int(subject.removeprefix("subj")))


def draw_repetitions(counts: pd.DataFrame) -> ReportFigure:
    """Draw how many shared images each subject saw three times, twice, once and never.

    Parameters
    ----------
    counts : DataFrame of int, shape (n_subjects, 4)
        As `nsd_prep.dataset.trials.repetition_counts` gives it.

    Returns
    -------
    ReportFigure
        A bar for each subject.
    """
    total = int(counts.iloc[0].sum())
    with one_style():
        figure = new_figure(0.75 * PAGE_WIDTH, 0.24 * len(counts) + 0.8)
        axis = figure.subplots()
        start = np.zeros(len(counts))
        for times, colour in zip(TIMES, REPETITION_COLOURS, strict=True):
            number = counts[times].to_numpy(dtype=np.float64)
            axis.barh(range(len(counts)), number, left=start, color=colour, label=TIMES[times])
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
