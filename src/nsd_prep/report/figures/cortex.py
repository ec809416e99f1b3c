"""Figures of values on the inflated cortex of fsaverage."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from nsd_prep.dataset.cortex import Cortex, CortexMesh, FsaverageIndex
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.style import (
    PAGE_WIDTH,
    new_figure,
    one_style,
    outline,
    picture,
    voxel_colours,
)

_VIEWS: Final = ("lateral", "medial", "ventral")
_SIDES: Final = ("left", "right")
_DOTS_PER_INCH: Final = 150
#: Views have wide margins.
_ZOOM: Final = 1.45
#: A colour that no map here holds.
_OUTLINE: Final = "black"
#: Cosine of the angle to the viewer from which on a vertex is seen well.
_FACING: Final = 0.3
_NAME_SIZE: Final = 6.5
#: Between the middles of two names, in points: across and down.
_ROOM: Final = (25, 8)
_HALO: Final = (Stroke(linewidth=1.5, foreground="white"), Normal())


class Quantity(NamedTuple):
    """What colours show: a column of the table of sites, and where the colours end."""

    name: str
    column: str
    title: str
    label: str
    highest: float
    explained: str


NOISE_CEILING: Final = Quantity(
    "cortex-noise-ceiling",
    "noise_ceiling",
    "Noise ceilings on the cortex",
    "noise ceiling (%)",
    80.0,
    "The noise ceiling",
)
SPLIT_HALF: Final = Quantity(
    "cortex-split-half",
    "split_half_correlation",
    "Correlation between repetitions on the cortex",
    "r between repetitions",
    0.6,
    "The correlation over images between two repetitions, the mean of all pairs of them,",
)


def draw_cortex(sites: pd.DataFrame, cortex: Cortex, quantity: Quantity) -> ReportFigure:
    """Draw a quantity of the sites of all regions on the cortex, with the regions outlined.

    Parameters
    ----------
    sites : DataFrame
        A row for each site of each region: subject (``subj01``), region, the columns of the
        subject's space, ncsnr, noise_ceiling (percent), and those of the quantity.
    cortex : Cortex
        Where they are drawn; subjects without an index are left out.
    quantity : Quantity
        What is drawn.

    Returns
    -------
    ReportFigure
        Both hemispheres from three sides; at each vertex the mean over the subjects that have a
        value there.
    """
    sites = sites[sites["subject"].isin(list(cortex.indices))]
    values = _mean_over_subjects(sites, cortex, quantity)
    outlines = {
        str(region): _is_in_region(rows, cortex)
        for region, rows in sites.groupby("region", sort=False)
    }
    with one_style():
        figure = new_figure(PAGE_WIDTH, 3.6)
        figure.set_layout_engine("none")
        meshes = cortex.meshes or _fsaverage5()
        for row, (side, mesh) in enumerate(zip(_SIDES, meshes, strict=True)):
            inside = {region: vertices[row] for region, vertices in outlines.items()}
            for column, view in enumerate(_VIEWS):
                frame = (0.29 * column, 0.02 + 0.48 * (1 - row), 0.29, 0.48)
                axes = figure.add_axes(frame, projection="3d")
                _draw_view(axes, mesh, values[row], inside, side, view, quantity)
                figure.text(
                    0.29 * column + 0.145,
                    0.985 - 0.48 * row,
                    f"{side}, {view}",
                    ha="center",
                    va="top",
                    fontsize=7.5,
                    fontweight="bold",
                )
        bar = figure.colorbar(
            ScalarMappable(Normalize(0, quantity.highest), voxel_colours()),
            cax=figure.add_axes((0.9, 0.25, 0.014, 0.5)),
            extend="max",
        )
        bar.set_label(quantity.label)
        outline(bar)
        return picture(
            figure,
            quantity.name,
            quantity.title,
            _caption(quantity, list(outlines), sites["subject"].nunique()),
            pixels_alone=True,
            dots_per_inch=_DOTS_PER_INCH,
        )


def _draw_view(
    axes: Any,
    mesh: CortexMesh,
    values: NDArray[np.float32],
    inside: Mapping[str, NDArray[np.bool_]],
    side: str,
    view: str,
    quantity: Quantity,
) -> None:
    """Draw the values of a hemisphere's vertices, and the outlines of regions, from one side."""
    from nilearn.plotting import plot_surf, plot_surf_contours

    n_vertices = len(mesh.coordinates)
    surface = [mesh.coordinates, mesh.faces]
    plot_surf(
        surface,
        values[:n_vertices],
        bg_map=mesh.sulcal_depth,
        hemi=side,
        view=view,
        engine="matplotlib",
        cmap=voxel_colours(),
        vmin=0,
        vmax=quantity.highest,
        colorbar=False,
        axes=axes,
        figure=axes.figure,
    )
    for vertices in inside.values():
        labels = vertices[:n_vertices].astype(np.int64)
        if labels.any() and not labels.all():
            plot_surf_contours(
                surface,
                labels,
                axes=axes,
                figure=axes.figure,
                levels=[1],
                colors=[_OUTLINE],
            )
    axes.set_box_aspect(None, zoom=_ZOOM)
    _name_regions(axes, mesh, {name: inside[name][:n_vertices] for name in inside})


def _name_regions(axes: Any, mesh: CortexMesh, inside: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write the names of the regions of which a third is seen, one below the other where close."""
    from mpl_toolkits.mplot3d.proj3d import proj_transform

    facing = _normals(mesh) @ _towards_viewer(axes)
    axes.apply_aspect()
    to_points = axes.transData + axes.figure.dpi_scale_trans.inverted()
    written: list[NDArray[np.float64]] = []
    for region, vertices in inside.items():
        seen = vertices & (facing > _FACING)
        if np.count_nonzero(seen) <= vertices.sum() / 3:
            continue
        x, y, _ = proj_transform(*mesh.coordinates[seen].mean(axis=0), axes.get_proj())
        place = 72 * to_points.transform((x, y))
        while any((np.abs(place - other) < _ROOM).all() for other in written):
            place = place - (0, 2)
        written.append(place)
        x, y = to_points.inverted().transform(place / 72)
        text = axes.text2D(x, y, region, transform=axes.transData, fontsize=_NAME_SIZE)
        text.set(ha="center", va="center", path_effects=_HALO)


def _towards_viewer(axes: Any) -> NDArray[np.float64]:
    """Return the direction from the middle of axes to who looks at them, float64 (3,)."""
    elevation, azimuth = np.deg2rad([axes.elev, axes.azim])
    return np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )


def _normals(mesh: CortexMesh) -> NDArray[np.float64]:
    """Return which way the surface faces at each vertex, unit vectors (n_vertices, 3)."""
    first, second, third = (mesh.coordinates[mesh.faces[:, corner]] for corner in range(3))
    of_faces = np.cross(second - first, third - first)
    normals = np.zeros((len(mesh.coordinates), 3))
    for corner in range(3):
        np.add.at(normals, mesh.faces[:, corner], of_faces)
    outwards = mesh.coordinates - mesh.coordinates.mean(axis=0)
    normals *= np.sign(np.sum(normals * outwards))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1)


def _caption(quantity: Quantity, regions: Sequence[str], n_subjects: int) -> str:
    over_subjects = (
        f"; the mean over the subjects, of {n_subjects}, that have a value at a vertex"
        if n_subjects > 1
        else ""
    )
    return (
        f"{quantity.explained} on the inflated cortex of fsaverage, from the lateral, the medial "
        f"and the ventral side of each hemisphere{over_subjects}. Outlined and named "
        f"where they are seen: {', '.join(regions)}. "
        "Light gyri and dark sulci have no value."
    )


def _fsaverage5() -> tuple[CortexMesh, CortexMesh]:
    """Return the mesh that nilearn ships; nothing is fetched."""
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    surface = load_fsaverage("fsaverage5")["inflated"].parts
    depth = load_fsaverage_data("fsaverage5", data_type="sulcal").data.parts
    left, right = (
        CortexMesh(surface[side].coordinates, surface[side].faces, depth[side]) for side in _SIDES
    )
    return left, right


def _mean_over_subjects(
    sites: pd.DataFrame, cortex: Cortex, quantity: Quantity
) -> NDArray[np.float32]:
    """Return the mean at each vertex of both hemispheres, (2, n_vertices)."""
    known = sites[quantity.column].where(sites["ncsnr"].notna())
    total: Any = 0.0
    count: Any = 0
    for subject, rows in sites.groupby("subject", sort=False):
        values = _on_fsaverage(known[rows.index].to_numpy(), rows, cortex.indices[str(subject)])
        total = total + np.nan_to_num(values)
        count = count + np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float32] = (total / count).reshape(2, -1)
    return mean


def _is_in_region(rows: pd.DataFrame, cortex: Cortex) -> NDArray[np.bool_]:
    """Tell at which vertices of both hemispheres a subject has a region, (2, n_vertices)."""
    inside = [
        np.isfinite(_on_fsaverage(np.ones(len(own)), own, cortex.indices[str(subject)]))
        for subject, own in rows.groupby("subject", sort=False)
    ]
    return np.any(inside, axis=0).reshape(2, -1)


def _on_fsaverage(
    values: NDArray[np.floating], rows: pd.DataFrame, index: FsaverageIndex
) -> NDArray[np.float32]:
    return index.values(values, index.space.sites(rows))
