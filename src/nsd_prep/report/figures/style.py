"""The one style of all figures, and figures as bytes."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from colorsys import hsv_to_rgb
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from types import MappingProxyType
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from nsd_prep.report.figures.figure import Cells, ReportFigure

#: Width of a page of text in inches: two columns of most journals (183 mm).
PAGE_WIDTH: Final = 7.2
DOTS_PER_INCH: Final = 200
#: At which the smallest text of a figure can be read on a screen.
SCREEN_PIXELS_PER_INCH: Final = 115
#: Of zlib: from here on a figure loses 2 % of its bytes for twice the time.
_PNG_LEVEL: Final = 4

INK: Final = "#1c2126"
QUIET_INK: Final = "#6b747d"
#: Colours that stay apart for colour-blind readers (Okabe and Ito 2008).
REGION_COLOURS: Final = ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
#: Those of regions beyond the first six (Paul Tol's muted scheme).
_FURTHER_COLOURS: Final = ("#882255", "#999933", "#332288", "#44AA99", "#DDCC77", "#AA4499")
#: Those that a run makes unless told otherwise.
_USUAL_REGIONS: Final = ("V1", "V2", "V4", "IT")
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
        "image.interpolation_stage": "data",  # where cells are averaged, their values are
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
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout=layout)


@dataclass(frozen=True, eq=False)
class Panel:
    """A matrix as it was drawn with ``imshow``.

    Attributes
    ----------
    axes : Axes
        That show the matrix and nothing beyond it.
    rows, columns : sequence of str
        Names of its rows and columns.
    values : ndarray of float, shape (n_rows, n_columns)
        What the page shows under the pointer.
    """

    axes: Axes
    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[np.floating]

    def cells(self) -> Cells:
        """Return where the matrix lies in the drawn figure, with its values."""
        frame = self.axes.get_position()
        across, down = sorted(self.axes.get_xlim()), sorted(self.axes.get_ylim())
        # Axes may be cut off where the matrix has nothing to show; -0.5 is its first cell's edge.
        n_rows, n_columns = self.values.shape
        horizontal = frame.width / (across[1] - across[0])
        vertical = frame.height / (down[1] - down[0])
        return Cells(
            left=frame.x0 - (across[0] + 0.5) * horizontal,
            top=1 - frame.y1 - (down[0] + 0.5) * vertical,
            width=n_columns * horizontal,
            height=n_rows * vertical,
            rows=self.rows,
            columns=self.columns,
            values=self.values,
        )


def picture(
    figure: Figure,
    name: str,
    title: str,
    caption: str,
    panels: Sequence[Panel] = (),
    *,
    photographs: bool = False,
    pixels_alone: bool = False,
    dots_per_inch: int = DOTS_PER_INCH,
) -> ReportFigure:
    """Render a figure; the same figure gives the same bytes.

    The figure is laid out and drawn once; ``savefig`` draws it twice.

    Parameters
    ----------
    figure : Figure
        As `new_figure` gives it, drawn within `one_style`.
    name, title, caption : str
        As in `ReportFigure`.
    panels : sequence of Panel
        Matrices whose values the page shows.
    photographs : bool
        Whether it needs more colours than 256, which take three times the bytes.
    pixels_alone : bool
        Whether it is made of pixels, so that a PDF would show nothing that the PNG does not.
    dots_per_inch : int
        Of the PNG.

    Returns
    -------
    ReportFigure
        As PNG, without a date.
    """
    with one_style():
        figure.set_dpi(dots_per_inch)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
        if not photographs:
            pixels = _in_few_colours(pixels)
        png = io.BytesIO()
        pixels.save(
            png,
            format="png",
            dpi=(dots_per_inch, dots_per_inch),
            compress_level=_PNG_LEVEL,
        )
        cells = tuple(panel.cells() for panel in panels)
        figure.set_layout_engine("none")  # everything is in its place by now
        FigureCanvasBase(figure)  # in place of the one that holds the pixels
    if pixels_alone:
        figure.clear()  # what it holds refers to itself, and would stay until it is collected
    width = round(figure.get_figwidth() * SCREEN_PIXELS_PER_INCH)
    kept = None if pixels_alone else figure
    return ReportFigure(name, title, caption, width, png.getvalue(), kept, cells)


def booklet(pictures: Sequence[ReportFigure]) -> bytes:
    """Render figures as one PDF, a page each in the figure's own size.

    Fonts are embedded once in a file, and embedding them takes as long as drawing a figure.

    Parameters
    ----------
    pictures : sequence of ReportFigure
        Those without a figure have no page.

    Returns
    -------
    bytes
        PDF with fonts that can be edited (type 42), without a date; the same figures give the
        same bytes.
    """
    # It takes as long to import as all else that draws, and not every process writes PDF.
    from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages

    nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    written = io.BytesIO()
    with one_style(), PdfPages(written, metadata=nothing) as pages:
        for picture in pictures:
            if picture.figure is not None:
                canvas: Any = FigureCanvasPdf(picture.figure)
                canvas.print_pdf(pages)
                picture.figure.set_dpi(DOTS_PER_INCH)  # changed by the canvas
    return written.getvalue()


def _in_few_colours(pixels: Image.Image) -> Image.Image:
    """Return an image of 256 colours, of which none of its own is far; its background exactly.

    An octree is faster, and gives a colour bar steps of unequal height.
    """
    few = pixels.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette = few.getpalette() or []
    corner = 3 * int(np.asarray(few)[0, 0])
    palette[corner : corner + 3] = np.asarray(pixels)[0, 0].tolist()
    few.putpalette(palette)
    return few


def region_colours(regions: Iterable[str]) -> dict[str, str]:
    """Return a colour for each region of a run, all different.

    NSD's usual ones have the same colour in every report; the others are taken in order.
    """
    usual = dict(zip(_USUAL_REGIONS, REGION_COLOURS, strict=False))
    others = chain(REGION_COLOURS[len(usual) :], _FURTHER_COLOURS, _endless_colours())
    return {
        region: usual[region] if region in usual else next(others)
        for region in dict.fromkeys(regions)
    }


def _endless_colours() -> Iterator[str]:
    """Yield colours whose hues are far from each other's, as steps of the golden ratio are."""
    for number in count():
        lightness = (0.75, 0.5)[number % 2]
        yield to_hex(hsv_to_rgb((0.1 + number * 0.618034) % 1, 0.7, lightness))


def outline(bar: Colorbar) -> None:
    """Draw a line around a colour bar, since its pale end is the paper's colour."""
    bar.outline.set_linewidth(_SETTINGS["axes.linewidth"])
    bar.outline.set_edgecolor(INK)


def correlation_colours() -> Colormap:
    """Return a map from white to dark blue, for correlations from 0 up."""
    stops = ["#ffffff", "#d3e5f2", "#7fb3d8", "#2f79b5", "#0b3c68"]
    return LinearSegmentedColormap.from_list("correlation", stops)


def count_colours() -> Colormap:
    """Return a map of blues for counts from 1 up, of which the least can be told from white."""
    return ListedColormap(correlation_colours()(np.linspace(0.4, 1, 256)), "counts")


def voxel_colours() -> Colormap:
    """Return a map from violet over red to yellow, which no grey of a brain can be mistaken for."""
    stops = ["#5b1a8c", "#b5246b", "#ee5b2f", "#fba51c", "#fdf04d"]
    return LinearSegmentedColormap.from_list("voxels", stops)


def is_dark(colour: tuple[float, float, float, float]) -> bool:
    """Return whether white text is the more legible on a colour (red, green, blue, opacity)."""
    red, green, blue = colour[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
