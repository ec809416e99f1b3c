"""Figures of voxels on slices of the brain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.style import (
    MISSING_COLOUR,
    PAGE_WIDTH,
    QUIET_INK,
    new_figure,
    one_style,
    outline,
    picture,
    voxel_colours,
)

_AXES: Final = "ijk"
_GAP: Final = 10
#: Inches.
_LEGEND_HEIGHT: Final = 0.25
#: More would show voxels no better: one has two to three pixels.
_DOTS_PER_INCH: Final = 150


#: Grey of an ncsnr of 0, and by how much the 99th percentile is darker.
_PALEST, _DEPTH = 0.93, 0.5


class _Quantity(NamedTuple):
    """What the colours of voxels show: a column of their table, and where the colours end."""

    column: str
    label: str
    highest: float
    explained: str
    missing: str


_NOISE_CEILING: Final = _Quantity(
    "noise_ceiling",
    "noise ceiling (%)",
    80.0,
    "noise ceiling, green where there is no ncsnr",
    "without an ncsnr",
)
_SPLIT_HALF: Final = _Quantity(
    "split_half_correlation",
    "r between repetitions",
    0.6,
    "the correlation over images between two repetitions, the mean of all pairs of them; green "
    "where a voxel does not vary",
    "does not vary",
)


class _View(NamedTuple):
    """A column of the figure: NIfTI axes that stand still, run to the right, and upwards."""

    title: str
    fixed: int
    right: int
    up: int
    hemisphere: Literal["", "left", "right"]


_VIEWS: Final = (
    _View("sagittal, left", 0, 1, 2, "left"),
    _View("sagittal, right", 0, 1, 2, "right"),
    _View("coronal", 1, 0, 2, ""),
    _View("axial", 2, 0, 1, ""),
)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A volume that a subject's voxels are drawn on.

    Attributes
    ----------
    volume : ndarray of float, shape (Z, Y, X)
        In the order of the betas' files, NIfTI's axes reversed; NaN outside the brain.
    space : VolumeSpace
        Where its voxels lie.
    kind : {"ncsnr", "T1"}
        What the volume is. T1 is drawn with white matter white, ncsnr with high values dark.
    """

    volume: NDArray[np.floating]
    space: VolumeSpace
    kind: Literal["ncsnr", "T1"] = "ncsnr"

    def ends(self) -> list[tuple[str, str]]:
        """Return for each NIfTI axis the letters of its lower and upper end, such as L and R."""
        opposite = {"L": "R", "R": "L", "P": "A", "A": "P", "I": "S", "S": "I"}
        codes: tuple[str, ...] = nib.aff2axcodes(self.space.affine)  # type: ignore[no-untyped-call]
        return [(opposite[code], code) for code in codes]

    def is_left(self, voxels: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which voxels of a table lie left of the middle, bool (n_voxels,)."""
        return self.space.millimetres(self.space.sites(voxels))[:, 0] < 0

    @cached_property
    def box(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First NIfTI indices of the brain, and the first ones beyond it, two times int64 (3,)."""
        finite = np.isfinite(self.volume.transpose())
        low, high = np.array(finite.shape, dtype=np.int64), np.zeros(3, dtype=np.int64)
        for axis in range(3):
            inside = np.flatnonzero(finite.any(axis=tuple({0, 1, 2} - {axis})))
            if len(inside):
                low[axis], high[axis] = inside[0], inside[-1] + 1
        return low, high

    @cached_property
    def brightest(self) -> float:
        """What is drawn lightest (T1) or darkest (ncsnr): the 99th percentile in the brain."""
        finite = self.volume[np.isfinite(self.volume)]
        return float(np.percentile(finite, 99)) or 1.0 if len(finite) else 1.0


class _Slice(NamedTuple):
    """A slice: its index, its pixels (height, width, 3), and where they lie in the figure."""

    place: int
    image: NDArray[np.uint8]
    left: int = 0
    top: int = 0


def draw_slices(
    region: str, voxels: pd.DataFrame, anatomies: Mapping[str, Anatomy]
) -> ReportFigure:
    """Draw a region's voxels in the brain of each subject, coloured by noise ceiling.

    Parameters
    ----------
    region : str
        Its name.
    voxels : DataFrame
        The region's rows of the voxel table: subject, nifti_i, nifti_j, nifti_k (0-based), ncsnr
        and noise_ceiling (percent).
    anatomies : mapping of str to Anatomy
        For each subject (``subj01``); one without is left out.

    Returns
    -------
    ReportFigure
        A row for each subject; in each column the slice that holds most of its voxels.

    Raises
    ------
    InputFileError
        A voxel lies outside the grid of its subject's volume.
    """
    # Without an ncsnr the table has a noise ceiling of 0.
    known = voxels["noise_ceiling"].where(voxels["ncsnr"].notna())
    voxels = voxels.assign(noise_ceiling=known)
    name, title = f"voxels-{region.lower()}", f"Voxels of {region}"
    return _draw(name, title, region, voxels, anatomies, _NOISE_CEILING)


def draw_split_half(voxels: pd.DataFrame, anatomies: Mapping[str, Anatomy]) -> ReportFigure:
    """Draw the voxels of all regions, coloured by split-half reliability.

    Parameters
    ----------
    voxels : DataFrame
        As `draw_slices` takes it, with split_half_correlation: mean Pearson r over images between
        two repetitions (NaN where a voxel does not vary).
    anatomies : mapping of str to Anatomy
        As there.

    Returns
    -------
    ReportFigure
        As there.

    Raises
    ------
    InputFileError
        As there.
    """
    title = "Split-half reliability"
    return _draw("split-half", title, "all regions", voxels, anatomies, _SPLIT_HALF)


def _draw(
    name: str,
    title: str,
    region: str,
    voxels: pd.DataFrame,
    anatomies: Mapping[str, Anatomy],
    quantity: _Quantity,
) -> ReportFigure:
    subjects = [name for name in voxels["subject"].unique() if name in anatomies]
    rows = []
    for subject in subjects:
        own = voxels[voxels["subject"] == subject]
        _check_grid(region, subject, own, anatomies[subject])
        rows.append([_slice(own, anatomies[subject], view, quantity) for view in _VIEWS])
    mosaic, placed = _mosaic(rows)
    height, width = mosaic.shape[:2]
    inches = PAGE_WIDTH - 0.9
    colours = Normalize(0, quantity.highest)
    with one_style():
        tall = inches * height / width
        below = _LEGEND_HEIGHT if voxels[quantity.column].isna().any() else 0.05
        whole = tall + below + 0.25
        figure = new_figure(PAGE_WIDTH, whole)
        figure.set_layout_engine("none")
        frame = (0.3 / PAGE_WIDTH, below / whole, inches / PAGE_WIDTH, tall / whole)
        axes = figure.add_axes(frame)
        axes.imshow(mosaic, interpolation="none")  # each voxel as it is, also in a PDF
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        middles = [placement.left + placement.image.shape[1] / 2 for placement in placed[0]]
        axes.set_xticks(middles, [view.title for view in _VIEWS], fontweight="bold", fontsize=7.5)
        middles = [row[0].top + row[0].image.shape[0] / 2 for row in placed]
        axes.set_yticks(middles, subjects, rotation=90, va="center", fontweight="bold")
        for subject, row in zip(subjects, placed, strict=True):
            _label(axes, row, anatomies[subject])
        kinds = {anatomies[subject].kind for subject in subjects}
        high = min(0.9, 3.5 / whole)
        share = 0.65 if "ncsnr" in kinds else 1.0  # what is left is the scale of the grey
        left, wide = 1 - 0.52 / PAGE_WIDTH, 0.1 / PAGE_WIDTH
        bar = figure.colorbar(
            ScalarMappable(colours, voxel_colours()),
            cax=figure.add_axes((left, 0.5 + high / 2 - share * high, wide, share * high)),
            extend="max",
        )
        bar.set_label(quantity.label)
        outline(bar)
        if "ncsnr" in kinds:
            greys = LinearSegmentedColormap.from_list(
                "ncsnr", [f"{_PALEST}", f"{_PALEST - _DEPTH}"]
            )
            bar = figure.colorbar(
                ScalarMappable(Normalize(0, 1), greys),
                cax=figure.add_axes((left, 0.5 - high / 2, wide, 0.2 * high)),
                extend="max",
            )
            bar.set_label("ncsnr / 99th percentile")
            outline(bar)
        if below == _LEGEND_HEIGHT:
            figure.legend([Patch(color=MISSING_COLOUR)], [quantity.missing], loc="lower center")
        return picture(
            figure,
            name,
            title,
            _caption(region, quantity.explained, kinds),
            pixels_alone=True,
            dots_per_inch=_DOTS_PER_INCH,
        )


def _check_grid(region: str, subject: str, voxels: pd.DataFrame, anatomy: Anatomy) -> None:
    furthest = voxels[["nifti_i", "nifti_j", "nifti_k"]].to_numpy().max(axis=0)
    grid = anatomy.volume.shape[::-1]
    if (furthest >= grid).any():
        raise InputFileError(
            f"A voxel of {region} in {subject} lies outside the {anatomy.kind} volume that it is "
            f"drawn on: expected NIfTI indices below {grid}, found up to "
            f"{tuple(furthest.tolist())}; give a volume on the grid of the betas."
        )


def _caption(region: str, coloured_by: str, kinds: set[Literal["ncsnr", "T1"]]) -> str:
    backgrounds = {
        "T1": "the T1-weighted anatomy",
        "ncsnr": "the subject's ncsnr, darker where it is higher (1: its 99th percentile); what is "
        "white has no data",
    }
    return (
        f"The voxels of {region} in each subject, on the sagittal slice of each hemisphere, the "
        "coronal and the axial slice that hold most of them (NIfTI indices, 0-based), coloured by "
        f"{coloured_by}. L and R are the subject's left and right, P and A "
        "back and front, I and S down and up, according to the affine. In grey "
        f"{' or '.join(backgrounds[kind] for kind in sorted(kinds))}."
    )


def _label(axes: Axes, row: Sequence[_Slice], anatomy: Anatomy) -> None:
    """Write the letters of the ends of both axes, and the index of the slice."""
    ends = anatomy.ends()
    for placement, view in zip(row, _VIEWS, strict=True):
        height, width = placement.image.shape[:2]
        middle, centre = placement.top + height / 2, placement.left + width / 2
        (low, high), (bottom, top) = ends[view.right], ends[view.up]
        text = f"{_AXES[view.fixed]} = {placement.place}" if placement.place >= 0 else "no voxels"
        for x, y, word, across, along in (
            (placement.left - 2, middle, low, "right", "center"),
            (placement.left + width + 1, middle, high, "left", "center"),
            (centre, placement.top - 1, top, "center", "bottom"),
            (centre, placement.top + height, bottom, "center", "top"),
            (placement.left + width, placement.top + height, text, "right", "top"),
        ):
            axes.text(
                x, y, word, ha=across, va=along, fontsize=5.5, color=QUIET_INK, in_layout=False
            )


def _slice(voxels: pd.DataFrame, anatomy: Anatomy, view: _View, quantity: _Quantity) -> _Slice:
    """Return the slice that holds most of the voxels, -1 as its index where there are none."""
    indices = voxels[["nifti_i", "nifti_j", "nifti_k"]].to_numpy(dtype=np.int64)
    brain = anatomy.volume.transpose()  # NIfTI (X, Y, Z)
    low, high = anatomy.box
    low, high = np.minimum(low, indices.min(axis=0)), np.maximum(high, indices.max(axis=0) + 1)
    values = voxels[quantity.column].to_numpy()
    colours = voxel_colours()(values / quantity.highest)[:, :3]
    colours[np.isnan(values)] = to_rgb(MISSING_COLOUR)
    if view.hemisphere:
        chosen = anatomy.is_left(voxels) == (view.hemisphere == "left")
        indices, colours = indices[chosen], colours[chosen]
    shape = (int(high[view.up] - low[view.up]), int(high[view.right] - low[view.right]))
    if len(indices) == 0:
        return _Slice(-1, np.full((*shape, 3), 255, dtype=np.uint8))
    index = int(np.bincount(indices[:, view.fixed]).argmax())
    plane = brain.transpose(view.fixed, view.up, view.right)[index]
    plane = plane[low[view.up] : high[view.up], low[view.right] : high[view.right]]
    image = np.repeat(_grey(plane, anatomy)[:, :, np.newaxis], 3, axis=2)
    shown = indices[:, view.fixed] == index
    at = (indices[shown, view.up] - low[view.up], indices[shown, view.right] - low[view.right])
    image[at] = colours[shown]
    # Indices count upwards, pixels downwards.
    return _Slice(index, np.round(255 * image[::-1]).astype(np.uint8))


def _grey(plane: NDArray[np.floating], anatomy: Anatomy) -> NDArray[np.float64]:
    share = np.clip(plane / anatomy.brightest, 0, 1)
    grey = _PALEST - _DEPTH * share if anatomy.kind == "ncsnr" else 0.1 + 0.85 * share
    return np.where(np.isfinite(grey), grey, 1.0)


def _mosaic(rows: Sequence[Sequence[_Slice]]) -> tuple[NDArray[np.uint8], list[list[_Slice]]]:
    """Put pictures beside and below each other, each in the middle of a white cell.

    One image for all is drawn many times faster than one axes a slice, and a voxel has the same
    size everywhere.
    """
    widths = [
        max(placement.image.shape[1] for placement in column) + _GAP
        for column in zip(*rows, strict=True)
    ]
    heights = [max(placement.image.shape[0] for placement in row) + _GAP for row in rows]
    lefts, tops = np.cumsum([0, *widths]), np.cumsum([0, *heights])
    # With an opacity, which matplotlib would add at a cost.
    mosaic = np.full((int(tops[-1]), int(lefts[-1]), 4), 255, dtype=np.uint8)
    placed = []
    for row, top, height in zip(rows, tops, heights, strict=False):
        line = []
        for placement, left, width in zip(row, lefts, widths, strict=False):
            n_rows, n_columns = placement.image.shape[:2]
            y, x = int(top) + (height - n_rows) // 2, int(left) + (width - n_columns) // 2
            mosaic[y : y + n_rows, x : x + n_columns, :3] = placement.image
            line.append(placement._replace(left=x, top=y))
        placed.append(line)
    return mosaic, placed
