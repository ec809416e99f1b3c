"""A figure as it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Cells:
    """A matrix within a figure, whose values the page shows under the pointer.

    Attributes
    ----------
    left, top, width, height : float
        Where the matrix lies, as shares of the figure's width and height, from its upper left.
    rows, columns : sequence of str
        Names of the rows from above and of the columns from the left.
    values : ndarray of float, shape (n_rows, n_columns)
        NaN where a cell is empty.
    """

    left: float
    top: float
    width: float
    height: float
    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[np.floating]


@dataclass(frozen=True)
class ReportFigure:
    """A figure as it is written.

    Attributes
    ----------
    name : str
        Of its files, without ending: lower case, words joined by dashes.
    title : str
        A few words.
    caption : str
        What it shows, in whole sentences.
    width : int
        Natural width on a screen in CSS pixels.
    png : bytes
        For the page.
    figure : Figure or None
        Laid out, for `nsd_prep.report.figures.style.booklet`; None where it is made of pixels
        alone.
    cells : tuple of Cells
        Matrices whose values the page shows.
    """

    name: str
    title: str
    caption: str
    width: int
    png: bytes
    figure: Figure | None = field(default=None, compare=False, repr=False)
    cells: tuple[Cells, ...] = field(default=(), compare=False, repr=False)
