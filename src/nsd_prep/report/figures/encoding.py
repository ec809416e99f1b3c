"""The figure of the encoding baseline, in the style of all figures."""

from typing import Final

import pandas as pd
from matplotlib.figure import Figure

from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.style import (
    PAGE_WIDTH,
    QUIET_INK,
    new_figure,
    one_style,
    picture,
    region_colours,
)

#: Inches for a box, so that four digits fit below it.
_BOX_WIDTH: Final = 0.32


def draw_encoding(scores: pd.DataFrame, noun: Noun = VOXEL) -> ReportFigure:
    """Draw, for each region, how the reliable voxels' fraction of the noise ceiling is distributed.

    The scores are those of `nsd_prep.analysis.encoding.score_encoding`. A box for each subject,
    quartiles, whiskers from the 5th to the 95th percentile; the number of voxels, which the
    noun names, below it.
    """
    with one_style():
        return picture(
            encoding_figure(scores, noun),
            "encoding",
            "Encoding baseline",
            "Fraction of the noise ceiling that a ridge regression reaches, over the "
            f"{noun.plural} whose noise ceiling lies above {RELIABLE_NOISE_CEILING:g}%: median, "
            "quartiles, and whiskers from the 5th to the 95th percentile, for each subject. The "
            "line at 1 is a perfect model.",
        )


def encoding_figure(scores: pd.DataFrame, noun: Noun = VOXEL) -> Figure:
    """Return the figure before it is rendered, drawn in the style that is set."""
    reliable = scores[scores["noise_ceiling"] > RELIABLE_NOISE_CEILING]
    regions = scores["region"].unique().tolist()
    subjects = scores["subject"].unique().tolist()
    width = _BOX_WIDTH * max(len(subjects), 4)
    n_columns = max(1, min(len(regions), int((PAGE_WIDTH - 0.9) / width)))
    n_rows = -(-len(regions) // n_columns)
    figure = new_figure(min(width * n_columns + 0.9, PAGE_WIDTH), 2.0 * n_rows + 0.3)
    panels = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    for spare in panels.flat[len(regions) :]:
        spare.set_axis_off()
    colours = region_colours(regions)
    for panel, region in zip(panels.flat, regions, strict=False):
        inside = reliable[reliable["region"] == region]
        values = [
            inside.loc[inside["subject"] == subject, "fraction_of_ceiling"].to_numpy()
            for subject in subjects
        ]
        colour = colours[region]
        panel.boxplot(
            values,
            whis=(5, 95),
            showfliers=False,
            widths=0.6,
            boxprops={"color": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            medianprops={"color": colour, "linewidth": 1.5},
        )
        panel.axhline(1, color=QUIET_INK, linewidth=0.6, zorder=0)
        panel.axhline(0, color=QUIET_INK, linewidth=0.3, zorder=0)
        labels = [
            f"{int(subject.removeprefix('subj'))}\n{len(drawn)}"
            for subject, drawn in zip(subjects, values, strict=True)
        ]
        panel.set_xticks(range(1, len(subjects) + 1), labels)
        panel.set_title(region)
    figure.supylabel("r |r| / noise ceiling", fontsize=7)
    figure.supxlabel(f"subject, and its number of reliable {noun.plural}", fontsize=7)
    return figure
