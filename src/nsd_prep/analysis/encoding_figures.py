"""The figure of the encoding baseline."""

import pandas as pd

from nsd_prep.analysis.picture import Picture
from nsd_prep.analysis.style import (
    INK,
    PAGE_WIDTH,
    QUIET_INK,
    new_figure,
    one_style,
    picture,
    region_colour,
)
from nsd_prep.published import RELIABLE_NOISE_CEILING


def draw_encoding(scores: pd.DataFrame) -> Picture:
    """Draw, for each region, how the reliable voxels' fraction of the noise ceiling is distributed.

    Parameters
    ----------
    scores : DataFrame
        As `nsd_prep.brainscore.encoding.score_encoding` gives them: region, subject (``subj01``),
        noise_ceiling (percent), fraction_of_ceiling.

    Returns
    -------
    Picture
        A box for each subject, quartiles, whiskers from the 5th to the 95th percentile.
    """
    reliable = scores[scores["noise_ceiling"] > RELIABLE_NOISE_CEILING]
    regions = scores["region"].unique().tolist()
    subjects = scores["subject"].unique().tolist()
    n_columns = min(len(regions), 4)
    n_rows = -(-len(regions) // n_columns)
    with one_style():
        width = min(PAGE_WIDTH, 0.8 + n_columns * max(0.9, 0.28 * len(subjects)))
        figure = new_figure(width, 2.4 * n_rows + 0.3)
        axes = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
        for place, (axis, region) in enumerate(zip(axes.flat, regions, strict=False)):
            chosen = reliable[reliable["region"] == region]
            values = [
                chosen.loc[chosen["subject"] == subject, "fraction_of_ceiling"].to_numpy()
                for subject in subjects
            ]
            axis.axhline(1, color=QUIET_INK, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
            axis.axhline(0, color=QUIET_INK, linewidth=0.4, zorder=0)
            thin = {"color": INK, "linewidth": 0.6}
            axis.boxplot(
                values,
                whis=(5, 95),
                showfliers=False,
                widths=0.6,
                patch_artist=True,
                boxprops={"facecolor": region_colour(place), "alpha": 0.75, "linewidth": 0},
                medianprops={"color": INK, "linewidth": 1.2},
                whiskerprops=thin,
                capprops=thin,
            )
            labels = [
                f"{subject.removeprefix('subj').lstrip('0')}\n{len(of_subject)}"
                for subject, of_subject in zip(subjects, values, strict=True)
            ]
            size = 6.5 if len(subjects) <= 4 else 4.5
            axis.set_xticks(range(1, len(subjects) + 1), labels, fontsize=size)
            axis.tick_params(axis="x", length=0)
            axis.set_title(region)
        for axis in axes.flat[len(regions) :]:
            axis.set_axis_off()
        for row in axes:
            row[0].set_ylabel("explained variance\n(fraction of noise ceiling)")
        figure.supxlabel("subject, and its number of reliable voxels", fontsize=7)
        return picture(
            figure,
            "encoding",
            "Encoding baseline",
            "Fraction of the noise ceiling that a ridge regression reaches in the voxels whose "
            f"noise ceiling lies above {RELIABLE_NOISE_CEILING:g} %: median, quartiles, whiskers "
            "from the 5th to the 95th percentile. The dashed line at 1 is a perfect model.",
        )
