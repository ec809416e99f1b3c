"""Figures and tables of a subject's single trials, for the report."""

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from nsd_prep.checks.decision import signal_share
from nsd_prep.checks.presentations import rows_of_presentations
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.splits import SPLITS, TEST, TRAIN
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.style import (
    INK,
    PAGE_WIDTH,
    QUIET_INK,
    REGION_COLOURS,
    REPETITION_COLOURS,
    count_colours,
    new_figure,
    one_style,
    outline,
    picture,
)

_PRESENTATIONS: Final = ("first", "second", "third")


def trial_count_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Count the trials of each session.

    Parameters
    ----------
    trials : DataFrame
        Rows of `nsd_prep.dataset.trials.trial_table`.

    Returns
    -------
    DataFrame of int64
        Index session (1-based). Columns: trials, images, first, second, third (presentations),
        shared (trials of shared images), and SPLIT_train and SPLIT_test for each split there is.
    """
    by_session = trials.groupby("session")
    columns = {"trials": by_session.size(), "images": by_session["nsd_id"].nunique()}
    session = trials["session"]
    for repetition, name in enumerate(_PRESENTATIONS):
        columns[name] = (trials["repetition"] == repetition).groupby(session).sum()
    columns["shared"] = trials["is_shared"].groupby(session).sum()
    for split in (name for name in SPLITS if name in trials):
        for part in (TRAIN, TEST):
            columns[f"{split}_{part}"] = (trials[split] == part).groupby(session).sum()
    return pd.DataFrame(columns).astype(np.int64)


def draw_trials_by_session(trials: pd.DataFrame, subject: int) -> ReportFigure:
    """Draw how many trials of each session show an image for the first, second and third time.

    Parameters
    ----------
    trials : DataFrame
        Rows of `nsd_prep.dataset.trials.trial_table`.
    subject : int
        1-based, for the name and the caption.

    Returns
    -------
    ReportFigure
        A bar for each session, and a point for its trials of shared images.
    """
    counts = trial_count_table(trials)
    with one_style():
        figure = new_figure(PAGE_WIDTH, 2.0)
        axis = figure.subplots()
        bottom = np.zeros(len(counts))
        for name, colour in zip(_PRESENTATIONS, REPETITION_COLOURS, strict=False):
            height = counts[name].to_numpy(dtype=np.float64)
            axis.bar(counts.index, height, bottom=bottom, color=colour, label=name, width=0.85)
            bottom += height
        axis.plot(
            counts.index,
            counts["shared"],
            "o",
            color=REGION_COLOURS[3],
            markersize=3,
            label="of shared images",
        )
        axis.set_xlim(counts.index[0] - 0.6, counts.index[-1] + 0.6)
        axis.set_xlabel("session")
        axis.set_ylabel("trials")
        axis.tick_params(axis="x", length=0)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return picture(
            figure,
            f"trials-by-session-subj{subject:02d}",
            f"Trials by session, subject {subject}",
            "How many trials of each session show an image for the first, second and third time, "
            "and how many show a shared image. Later sessions hold more repetitions; a session "
            "whose bar is lower than the others is incomplete.",
        )


def draw_reliability(
    correlation: NDArray[np.float64],
    ncsnr: NDArray[np.floating],
    subject: int,
    noun: Noun = VOXEL,
) -> ReportFigure:
    """Draw the voxels' split-half reliability against the ncsnr that NSD distributes.

    Parameters
    ----------
    correlation : ndarray of float64, shape (n_voxels,)
        As in `nsd_prep.checks.presentations.PresentationPairs`.
    ncsnr : ndarray of float, shape (n_voxels,)
        Of the same voxels.
    subject : int
        1-based, for the name and the caption.
    noun : Noun
        What voxels are called.

    Returns
    -------
    ReportFigure
        The density of voxels, and the line that the ncsnr predicts.
    """
    known = np.isfinite(correlation) & np.isfinite(ncsnr)
    with one_style():
        figure = new_figure(0.5 * PAGE_WIDTH, 2.6)
        axis = figure.subplots()
        if known.any():
            density = axis.hexbin(
                ncsnr[known],
                correlation[known],
                gridsize=45,
                mincnt=1,
                norm=LogNorm(),
                cmap=count_colours(),
                linewidths=0.1,
            )
            bar = figure.colorbar(density, ax=axis, aspect=30, pad=0.02)
            bar.set_label(noun.plural)
            outline(bar)
            _label_log_bar(bar)
        line = np.linspace(0, max(1.0, float(np.nanmax(ncsnr, initial=0.0))), 200)
        axis.plot(line, signal_share(line), color=INK, linewidth=0.9, label="prediction")
        axis.axhline(0, color=QUIET_INK, linewidth=0.5, linestyle=(0, (4, 3)))
        axis.set_xlabel("ncsnr")
        axis.set_ylabel("correlation of two presentations")
        axis.legend(loc="upper left")
        return picture(
            figure,
            f"trial-reliability-subj{subject:02d}",
            f"Reliability of single trials, subject {subject}",
            "Correlation over images between the first and the second presentation, for each "
            f"{noun.singular}, against the ncsnr that NSD distributes; the line is s²/(1 + s²), "
            f"what an ncsnr of s predicts. {np.count_nonzero(known):,} of {len(correlation):,} "
            f"{noun.plural} have both. {noun.plural.capitalize()} that lie near 0 whatever their "
            "ncsnr mean that rows and images do not belong together.",
        )


def _label_log_bar(bar: Colorbar) -> None:
    """Label 1, 2, 5, 10 and so on: of a short range powers of ten would be one or two."""
    bar.locator = LogLocator(10, subs=(1, 2, 5))
    bar.formatter = FuncFormatter(lambda value, _: f"{value:,.0f}")
    bar.minorlocator = NullLocator()
    bar.update_ticks()


def draw_one_voxel(
    responses: NDArray[np.float32],
    trials: pd.DataFrame,
    title: str,
    subject: int,
    units: str,
    noun: Noun = VOXEL,
) -> ReportFigure:
    """Draw the responses of one voxel: trial by trial, and first against second presentation.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_trials,)
        Of one voxel.
    trials : DataFrame
        Their table, as `nsd_prep.dataset.trials.trial_table` gives it.
    title : str
        Which voxel it is, such as ``"voxel (i, j, k) = (20, 31, 40), ncsnr 1.2"``.
    subject : int
        1-based, for the name and the caption.
    units : str
        Of the responses.
    noun : Noun
        What voxels are called.

    Returns
    -------
    ReportFigure
        Two panels.
    """
    session = trials["session"].to_numpy()
    first, second = rows_of_presentations(trials, 2).T
    with one_style():
        figure = new_figure(PAGE_WIDTH, 2.1)
        left, right = figure.subplots(1, 2, width_ratios=[2.6, 1])
        _draw_course(left, responses, session)
        left.set_title(title)
        right.plot(
            responses[first],
            responses[second],
            ".",
            color=REGION_COLOURS[0],
            markersize=_dot(len(first)),
            alpha=0.6,
            markeredgewidth=0,
            rasterized=True,
        )
        if len(first) > 2 and responses[first].std() > 0 and responses[second].std() > 0:
            correlation = np.corrcoef(responses[first], responses[second])[0, 1]
            right.set_title(f"r = {correlation:.2f}")
        right.set_aspect("equal", adjustable="datalim")
        right.set_xlabel("first presentation")
        right.set_ylabel("second presentation")
        return picture(
            figure,
            f"one-voxel-subj{subject:02d}",
            f"One {noun.singular}'s responses, subject {subject}",
            f"Left: every trial's response ({units}) in the order of the sessions, with the mean "
            "of each session and the range of its middle half. Right: responses to the first and "
            "to the second presentation of the same image.",
        )


def _dot(n_dots: int) -> float:
    """Return the size at which dots are seen, be they hundreds or ten thousands."""
    return float(np.clip(60 / np.sqrt(max(n_dots, 1)), 1.2, 3.5))


def _draw_course(axis: Axes, responses: NDArray[np.float32], session: NDArray[np.int64]) -> None:
    axis.plot(
        np.arange(len(responses)),
        responses,
        ".",
        color=REPETITION_COLOURS[1],
        markersize=_dot(len(responses)),
        markeredgewidth=0,
        rasterized=True,
    )
    for number in np.unique(session):
        rows = np.flatnonzero(session == number)
        low, high = np.percentile(responses[rows], [25, 75])
        ends = [rows[0], rows[-1] + 1]
        axis.fill_between(
            ends, low, high, color=REGION_COLOURS[0], alpha=0.35, linewidth=0, zorder=3
        )
        mean = float(responses[rows].mean())
        axis.plot(ends, [mean, mean], color=INK, linewidth=1, zorder=4)
    starts = np.flatnonzero(np.diff(session, prepend=session[0] - 1))
    shown = starts[:: max(1, len(starts) // 10)]
    axis.set_xticks(shown, [str(number) for number in session[shown]])
    axis.set_xlim(0, len(responses))
    axis.set_xlabel("session")
    axis.set_ylabel("response")
