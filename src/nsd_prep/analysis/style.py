"""The one style of all figures, and figures as bytes."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from nsd_prep.analysis.picture import Picture

#: Width of a page of text in inches: two columns of most journals (183 mm).
PAGE_WIDTH: Final = 7.2
DOTS_PER_INCH: Final = 200
#: At which the smallest text of a figure can be read on a screen.
SCREEN_PIXELS_PER_INCH: Final = 115

INK: Final = "#1c2126"
QUIET_INK: Final = "#6b747d"
#: Colours that stay apart for colour-blind readers (Okabe and Ito 2008), for regions in turn.
REGION_COLOURS: Final = ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
#: Three, two, one and no repetitions.
REPETITION_COLOURS: Final = ("#0b4f7d", "#4b93c3", "#a9cfe6", "#e3e7ea")
#: Voxels that have no ncsnr: a colour that no map here holds.
MISSING_COLOUR: Final = "#00c853"

_SETTINGS: Final[Mapping[Any, Any]] = MappingProxyType(
    {
        "font.family": "DejaVu Sans",
        "font.size": 7,
        "axes.titlesize": 8,
        "axes.titleweight": "bold",
        "axes.labelsize": 7,
        "axes.linewidth": 0.6,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "legend.fontsize": 6.5,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "pdf.fonttype": 42,  # text that stays text
        "image.interpolation": "auto",
    }
)


@contextmanager
def one_style() -> Iterator[None]:
    """Draw in the style of all figures within the block, whatever the user's settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    Figure
        Drawn without a screen, apart from matplotlib's list of open figures.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Render a figure; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
        As `new_figure` gives it, drawn within `one_style`.
    name, title, caption : str
        As in `Picture`.

    Returns
    -------
    Picture
        PNG and PDF, without a date.
    """
    with one_style():
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        figure.set_layout_engine("none")  # everything has its place by now
        pdf = io.BytesIO()
        nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
        figure.savefig(pdf, format="pdf", dpi=DOTS_PER_INCH, metadata=nothing)
    width = round(figure.get_figwidth() * SCREEN_PIXELS_PER_INCH)
    return Picture(name, title, caption, width, png.getvalue(), pdf.getvalue())


def region_colour(position: int) -> str:
    """Return the colour of the region at a position (0-based) in the run."""
    return REGION_COLOURS[position % len(REGION_COLOURS)]


def correlation_colours() -> Colormap:
    """Return a map from white to dark blue, for correlations from 0 up."""
    stops = ["#ffffff", "#d3e5f2", "#7fb3d8", "#2f79b5", "#0b3c68"]
    return LinearSegmentedColormap.from_list("correlation", stops)


def noise_ceiling_colours() -> Colormap:
    """Return a map from violet over red to yellow, which no grey of a brain can be mistaken for."""
    stops = ["#5b1a8c", "#b5246b", "#ee5b2f", "#fba51c", "#fdf04d"]
    return LinearSegmentedColormap.from_list("noise ceiling", stops)


def is_dark(colour: tuple[float, float, float, float]) -> bool:
    """Return whether white text is the more legible on a colour (red, green, blue, opacity)."""
    red, green, blue = colour[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
