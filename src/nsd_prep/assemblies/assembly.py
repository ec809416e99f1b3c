"""The assembly of a region, in the form that Brain-Score reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.core.coordinates import description_of
from nsd_prep.dataset.space import Space, SurfaceSpace, VolumeSpace

#: Name of the one variable in a file.
VARIABLE: Final = "data"
PRESENTATION_COORDINATES: Final = ("stimulus_id", "nsd_id")
#: What the values are, in the manner of the CF conventions.
DESCRIPTION: Final[Mapping[str, str]] = MappingProxyType(
    {
        "long_name": "response: z-score over the trials of a session, mean of 3 trials",
        "units": "1",
    }
)


def neuroid_coordinates(places: Sequence[str]) -> tuple[str, ...]:
    """Return the coordinates of neuroids, in the consumer's order.

    Parameters
    ----------
    places : sequence of str
        Which of them say where a neuroid lies: `nsd_prep.dataset.space.Space.coordinates`.
    """
    if tuple(places) == SurfaceSpace.coordinates:
        return ("neuroid_id", "subject", *places, "region", "nc_testset")
    return ("neuroid_id", "subject", "region", "nc_testset", *places)


def places_of(assembly: xr.DataArray) -> tuple[str, ...]:
    """Return which coordinates of an assembly say where a neuroid lies."""
    on_surface = any(name in assembly.coords for name in SurfaceSpace.coordinates)
    return SurfaceSpace.coordinates if on_surface else VolumeSpace.coordinates


def without_gaps(assembly: xr.DataArray) -> xr.DataArray:
    """Return an assembly with 0 where a vertex has no data; the same one where all have.

    In a volume, responses without data are 0; on surfaces they are NaN in a region's assembly, as
    published, and 0 in what is packaged. Coordinates are those of the assembly given, not copies.
    """
    gaps = np.isnan(assembly.to_numpy())
    if not gaps.any():
        return assembly
    return assembly.copy(deep=False, data=np.where(gaps, np.float32(0), assembly))


def without_values(assembly: xr.DataArray) -> xr.DataArray:
    """Return an assembly whose coordinates are in memory, and whose values are 0 that take none."""
    values = np.broadcast_to(assembly.dtype.type(0), assembly.shape)
    return xr.DataArray(
        values, dims=assembly.dims, name=assembly.name, attrs=assembly.attrs
    ).assign_coords(assembly.coords.to_dataset().load().coords)


@dataclass(frozen=True)
class SubjectVoxels:
    """Voxels of a region in a subject, and what is known of each.

    Attributes
    ----------
    subject : int
        1-based.
    space : Space
        Where they lie.
    voxels : ndarray of int64, shape (n_voxels,)
        Sites of the space, ascending.
    ncsnr : ndarray of float32, shape (n_voxels,)
        NaN where a voxel has no data in any session.
    noise_ceiling : ndarray of float64, shape (n_voxels,)
        Percent, 0 where ncsnr is NaN.
    sessions_without_data : ndarray of int64, shape (n_voxels,)
        In how many of the sessions read a voxel is constant.
    kept : ndarray of bool, shape (n_voxels,), optional
        Voxels that become neuroids; all where nothing is given.
    """

    subject: int
    space: Space
    voxels: NDArray[np.int64]
    ncsnr: NDArray[np.float32]
    noise_ceiling: NDArray[np.float64]
    sessions_without_data: NDArray[np.int64]
    kept: NDArray[np.bool_] | None = None


def stimulus_ids(nsd_ids: NDArray[np.int64]) -> list[str]:
    """Return ``nsd_`` and the 0-based id in five digits, for each image (n_images,)."""
    return [f"nsd_{nsd_id:05d}" for nsd_id in nsd_ids.tolist()]


def voxel_table(region: str, subjects: Sequence[SubjectVoxels]) -> pd.DataFrame:
    """Return a row for each voxel of a region.

    Parameters
    ----------
    region : str
        Its name.
    subjects : sequence of SubjectVoxels
        In the order of the neuroids.

    Returns
    -------
    DataFrame
        The columns of ``voxels.csv``: neuroid_id, subject, region, the columns of the space
        (`nsd_prep.dataset.space.Space`), ncsnr, noise_ceiling (percent) and
        sessions_without_data; and ``kept``: whether the voxel becomes a neuroid; one that does not
        has no neuroid_id. On surfaces ids name the hemisphere, and count on over both.
    """
    tables = []
    for voxels in subjects:
        name = f"subj{voxels.subject:02d}"
        n_voxels = len(voxels.voxels)
        kept = np.ones(n_voxels, dtype=np.bool_) if voxels.kept is None else voxels.kept
        number = np.cumsum(kept) - 1
        coordinates_of_sites = voxels.space.table(voxels.voxels)
        if isinstance(voxels.space, SurfaceSpace):
            sides = coordinates_of_sites["hemisphere"].tolist()
            named = [
                f"{name}_{side}_{region}_v{n:05d}"
                for side, n in zip(sides, number.tolist(), strict=True)
            ]
        else:
            named = [f"{name}_{region}_v{n:04d}" for n in number.tolist()]
        columns = {
            "neuroid_id": np.where(kept, named, "").tolist(),
            "subject": name,
            "region": region,
            **coordinates_of_sites,
            "ncsnr": voxels.ncsnr,
            "noise_ceiling": voxels.noise_ceiling,
            "sessions_without_data": voxels.sessions_without_data,
            "kept": kept,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def build_assembly(
    responses: NDArray[np.float32],
    nsd_ids: NDArray[np.int64],
    voxels: pd.DataFrame,
    attributes: Mapping[str, str | int | float],
    coordinates: Sequence[str] = VolumeSpace.coordinates,
) -> xr.DataArray:
    """Give a region's averaged responses their coordinates.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, n_neuroids)
        Averaged z-scores; on surfaces NaN where a vertex has no data.
    nsd_ids : ndarray of int64, shape (n_images,)
        0-based, ascending.
    voxels : DataFrame, n_neuroids rows
        As `voxel_table` gives it; kept ones alone.
    attributes : mapping of str to str or number
        What determines the data. `DESCRIPTION` is added, and can be overridden.
    coordinates : sequence of str
        Which columns say where a neuroid lies: `nsd_prep.dataset.space.Space.coordinates`.

    Returns
    -------
    DataArray, dims (presentation, neuroid)
        Without index variables; coordinates in the consumer's order.
    """
    ceiling = voxels["noise_ceiling"].to_numpy(dtype=np.float64, copy=True)
    if tuple(coordinates) == SurfaceSpace.coordinates:
        ceiling = np.where(voxels["ncsnr"].isna(), np.nan, ceiling)
    names = ("neuroid_id", "subject", "region")
    columns = {
        **{name: voxels[name].to_numpy(dtype=str, copy=True) for name in names},
        "nc_testset": ceiling,
    }
    for name in coordinates:
        kind = str if name == "hemisphere" else np.int64
        columns[name] = voxels[name].to_numpy(dtype=kind, copy=True)
    values = {
        "stimulus_id": ("presentation", np.array(stimulus_ids(nsd_ids))),
        "nsd_id": ("presentation", nsd_ids.copy()),
        **{name: ("neuroid", columns[name]) for name in neuroid_coordinates(coordinates)},
    }
    return with_coordinates(
        xr.DataArray(
            responses,
            dims=("presentation", "neuroid"),
            name=VARIABLE,
            attrs={**DESCRIPTION, **attributes},
        ),
        values,
    )


def with_coordinates(
    values: xr.DataArray, coordinates: Mapping[str, tuple[str, NDArray[Any]]]
) -> xr.DataArray:
    """Give values their coordinates, each a dimension and its values, and say what each is.

    They are not copied: `xr.DataArray` would copy its ``coords``, 50 MB of 260,000 neuroids.
    """
    described = {
        name: xr.Variable(dimension, given, description_of(name))
        for name, (dimension, given) in coordinates.items()
    }
    return values.assign_coords(xr.Coordinates(described, indexes={}))
