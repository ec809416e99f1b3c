"""A subject's responses in a region, as one of two assemblies has them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import places_of
from nsd_prep.dataset.space import HEMISPHERES

#: How the two sides are called.
SIDES: Final = ("the first", "the second")


@dataclass(frozen=True)
class Side:
    """What one of two assemblies holds of a subject and region.

    Attributes
    ----------
    values : ndarray of float32 or float64, shape (n_images, n_voxels)
        Where images stand in several rows, their mean.
    rows_of_image : int
        Rows that an image has at most.
    nsd_id : ndarray of int64, shape (n_images,)
        0-based, ascending.
    coordinates : ndarray of int64, shape (n_voxels, 3) or (n_vertices, 2)
        voxel_x, voxel_y, voxel_z; on surfaces the hemisphere, 0 left and 1 right, and
        vertex_index.
    noise_ceiling : ndarray of float64, shape (n_voxels,)
        Percent.
    """

    values: NDArray[np.floating]
    rows_of_image: int
    nsd_id: NDArray[np.int64]
    coordinates: NDArray[np.int64]
    noise_ceiling: NDArray[np.float64]


def side_of(assembly: xr.DataArray, of_group: NDArray[np.bool_]) -> Side:
    """Take some neuroids, bool (n_neuroids,), out of an assembly; rows of an image are averaged."""
    values = assembly.to_numpy().reshape(assembly.shape[:2])[:, of_group]
    nsd_id, row, count = np.unique(
        assembly["nsd_id"].to_numpy(), return_inverse=True, return_counts=True
    )
    if count.max(initial=1) == 1:
        averaged = values[np.argsort(row, kind="stable")]
    else:
        averaged = np.zeros((len(nsd_id), values.shape[1]))
        np.add.at(averaged, row, values)
        averaged /= count[:, np.newaxis]
    columns = {name: assembly[name].to_numpy()[of_group] for name in places_of(assembly)}
    if "hemisphere" in columns:
        columns["hemisphere"] = columns["hemisphere"] != HEMISPHERES[0]
    coordinates = np.stack(list(columns.values()), axis=1)
    return Side(
        averaged,
        int(count.max(initial=1)),
        nsd_id.astype(np.int64),
        coordinates.astype(np.int64),
        assembly["nc_testset"].to_numpy()[of_group].astype(np.float64),
    )


def rows_of_voxels(
    first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where two lists of coordinates, int64 (n_voxels, n_axes), have their common voxels.

    Positions in each, int64 (n_common,), 0-based, in the same order.
    """
    both = np.concatenate([first, second])
    _, number = np.unique(both, axis=0, return_inverse=True)
    number = number.ravel()
    _, of_first, of_second = np.intersect1d(
        number[: len(first)], number[len(first) :], return_indices=True
    )
    return of_first, of_second


def in_common(first: Side, second: Side) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of the images and voxels that both sides have, in the same order.

    Both are float64 (n_common_images, n_common_voxels).
    """
    _, rows, rows_of_second = np.intersect1d(first.nsd_id, second.nsd_id, return_indices=True)
    columns, columns_of_second = rows_of_voxels(first.coordinates, second.coordinates)
    return (
        first.values[np.ix_(rows, columns)].astype(np.float64),
        second.values[np.ix_(rows_of_second, columns_of_second)].astype(np.float64),
    )
