"""The figure of sessions by subjects."""

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from nsd_prep.checks.session_statistics import SATURATED_SUSPICIOUS, SHARE_CONSTANT_SUSPICIOUS
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.style import (
    PAGE_WIDTH,
    Panel,
    new_figure,
    one_style,
    outline,
    picture,
)


class _Measure(NamedTuple):
    """A column of the table of sessions, and how it is drawn."""

    column: str
    title: str
    colours: str
    #: What one unit of the column is multiplied by where it is shown.
    scale: float
    #: Between which the colours run, in units of the column: the same in every report.
    limits: tuple[float, float]


_MEASURES: Final = (
    _Measure("agreement", "agreement with other sessions (1: as predicted)", "viridis", 1, (0, 1)),
    _Measure(
        "share_without_data",
        "{sites} without data (%)",
        "magma_r",
        100,
        (0, SHARE_CONSTANT_SUSPICIOUS),
    ),
    _Measure("deviation", "median SD of the betas (% signal change)", "viridis", 1, (0, 4)),
    _Measure("saturated", "saturated values (%)", "magma_r", 100, (0, SATURATED_SUSPICIOUS)),
)


def draw_sessions(table: pd.DataFrame, noun: Noun = VOXEL) -> ReportFigure:
    """Draw what is known of each session, sessions from left to right and a row for each subject.

    Parameters
    ----------
    table : DataFrame
        A row for each session read: subject (1-based, or ``subj01``), session (1-based), and any
        of agreement (1 is what the ncsnr predicts, 0 chance), share_without_data (0 to 1),
        deviation (percent signal change) and saturated (share of values, 0 to 1); NaN where it
        is not known.
    noun : Noun
        What voxels are called.

    Returns
    -------
    ReportFigure
        A panel for each column that is there and known for a session at least.

    Raises
    ------
    ValueError
        No column has a value: there is nothing to draw.
    """
    measures = [
        measure._replace(title=measure.title.format(sites=noun.plural))
        for measure in _MEASURES
        if measure.column in table and table[measure.column].notna().any()
    ]
    if not measures:
        known = ", ".join(measure.column for measure in _MEASURES)
        raise ValueError(
            f"The table of sessions has no value in any of {known}: expected one of these columns "
            f"with a number, found columns {', '.join(map(str, table.columns))}."
        )
    subjects = list(dict.fromkeys(table["subject"]))
    names = [_name(subject) for subject in subjects]
    last = int(table["session"].max())
    columns = [f"session {number}" for number in range(1, last + 1)]
    n_columns = min(len(measures), 2)
    n_rows = -(-len(measures) // n_columns)
    height = max(0.13 * len(subjects), 0.3) + 0.62
    with one_style():
        figure = new_figure(PAGE_WIDTH * n_columns / 2, height * n_rows)
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
        panels = []
        for axis, measure in zip(axes.flat, measures, strict=False):
            values = session_matrix(table, measure.column, subjects, last) * measure.scale
            _draw_measure(axis, values, measure)
            if len(names) > 2:
                axis.set_yticks(range(len(names)), [name.removeprefix("subj0") for name in names])
                axis.set_ylabel("subject")
            else:  # too low for the label
                axis.set_yticks(range(len(names)), names)
            panels.append(Panel(axis, names, columns, values))
        for axis in axes[-1]:
            axis.set_xlabel("session")
        for axis in axes.flat[len(measures) :]:
            axis.set_axis_off()
        return picture(
            figure,
            "sessions",
            "Sessions",
            "Each scan session that was read; white where a subject has none, or none with an "
            f"image used here. Colours are the same in every report: those of {noun.plural} "
            "without data and of saturated values end where a session becomes suspicious "
            f"({SHARE_CONSTANT_SUSPICIOUS:.0%} and {SATURATED_SUSPICIOUS:.0%}). Hover over a cell "
            "to see its value.",
            panels,
        )


def summarise_sessions(parts: pd.DataFrame, agreement: pd.DataFrame | None = None) -> pd.DataFrame:
    """Gather what `draw_sessions` draws from the records of sessions and their agreement.

    Parameters
    ----------
    parts : DataFrame
        A row for each subject, session and region: subject (``subj01``), session (1-based),
        voxels, constant_voxels, saturated (share of values) and deviation (SD over trials, percent
        signal change).
    agreement : DataFrame, optional
        subject (``subj01``), session and agreement.

    Returns
    -------
    DataFrame
        A row for each subject and session: agreement (NaN where it is not given),
        share_without_data, deviation and saturated, means over regions weighted by their voxels.
    """
    weighted = parts[["subject", "session", "voxels", "constant_voxels"]].assign(
        saturated=parts["saturated"] * parts["voxels"],
        deviation=parts["deviation"] * parts["voxels"],
    )
    sums = weighted.groupby(["subject", "session"], sort=False).sum()
    table = pd.DataFrame(
        {
            "share_without_data": sums["constant_voxels"] / sums["voxels"],
            "deviation": sums["deviation"] / sums["voxels"],
            "saturated": sums["saturated"] / sums["voxels"],
        }
    ).reset_index()
    if agreement is None:
        return table.assign(agreement=np.nan)
    keys = ["subject", "session"]
    agreement = agreement[[*keys, "agreement"]]
    return table.merge(agreement, how="left", on=keys, validate="one_to_one")


def session_matrix(
    table: pd.DataFrame, column: str, subjects: list[int] | list[str], last: int
) -> NDArray[np.float64]:
    """Arrange a column of the table of sessions.

    Parameters
    ----------
    table : DataFrame
        As `draw_sessions` takes it.
    column : str
        Which.
    subjects : list
        The rows.
    last : int
        Number of the last session (1-based).

    Returns
    -------
    ndarray of float64, shape (n_subjects, last)
        NaN where there is no such session.
    """
    wide = table.pivot(index="subject", columns="session", values=column)
    wide = wide.reindex(index=subjects, columns=range(1, last + 1))
    return wide.to_numpy(dtype=np.float64)


def _draw_measure(axis: Axes, values: NDArray[np.float64], measure: _Measure) -> None:
    low, high = (limit * measure.scale for limit in measure.limits)
    colours = Normalize(low, high)
    is_below, is_above = float(np.nanmin(values)) < low, float(np.nanmax(values)) > high
    axis.imshow(values, norm=colours, cmap=measure.colours, aspect="auto", interpolation="nearest")
    axis.set_xticks(
        [column for column in range(values.shape[1]) if (column + 1) % 5 == 0 or not column]
    )
    axis.set_xticklabels([f"{int(column) + 1}" for column in axis.get_xticks()])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(measure.title, fontsize=7)
    bar = axis.figure.colorbar(
        ScalarMappable(colours, measure.colours),
        ax=axis,
        pad=0.02,
        extend=("neither", "max", "min", "both")[2 * is_below + is_above],
    )
    outline(bar)


def _name(subject: int | str) -> str:
    return subject if isinstance(subject, str) else f"subj{subject:02d}"
