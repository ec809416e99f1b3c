"""Where responses lie: a space has sites, and only the space knows where a site is."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from nsd_prep.core.errors import ParameterError

Sites = NDArray[np.int64]
#: NSD's name of the space of the betas that are read.
FUNC1PT8MM: Final = "func1pt8mm"
#: Millimetres by which affines of the same space may differ, as they were rounded.
AFFINE_TOLERANCE: Final = 1e-3


class Space(Protocol):
    """The sites at which a subject has responses; a site is an index into them (int64, 0-based).

    Attributes
    ----------
    columns : tuple of str
        Columns of a table that say where a site is.
    coordinates : tuple of str
        Those among them that are coordinates of an assembly.
    """

    columns: ClassVar[tuple[str, ...]]
    coordinates: ClassVar[tuple[str, ...]]

    @property
    def name(self) -> str:
        """NSD's name of the space, such as ``"func1pt8mm"``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The axes of all sites in the betas' HDF5, whose C order is that of the sites."""

    @property
    def n_sites(self) -> int:
        """The number of sites."""
        return prod(self.shape)

    def table(self, sites: Sites) -> dict[str, NDArray[Any]]:
        """Return the values of `columns` for some sites, each (n_sites,)."""

    def neighbours(self, sites: Sites, steps: int) -> Sites:
        """Return the sites within some steps from neighbour to neighbour of others, ascending.

        Those that are given are left out.
        """

    def difference(self, other: Self) -> str:
        """Return what this space has in place of another's, or "" where they are the same."""

    def attributes(self) -> dict[str, Any]:
        """Return what a file records of the space, so that maps can be made from it alone."""


@dataclass(frozen=True, eq=False)
class VolumeSpace(Space):
    """The voxels of a volume.

    Attributes
    ----------
    grid : tuple of int
        (Z, Y, X), the axes of the betas' HDF5: those of NSD's NIfTI files reversed.
    affine : ndarray of float64, shape (4, 4)
        From NIfTI indices (i, j, k) to millimetres to the right, to the front and upwards, as the
        NIfTI files have it.
    name : str
        NSD's name of the space.
    columns : tuple of str
        voxel_x, voxel_y, voxel_z: indices along (Z, Y, X), so voxel_x is NIfTI k; nifti_i, nifti_j,
        nifti_k: the NIfTI's own indices; all int64, 0-based.
    coordinates : tuple of str
        voxel_x, voxel_y, voxel_z.
    """

    columns: ClassVar = ("voxel_x", "voxel_y", "voxel_z", "nifti_i", "nifti_j", "nifti_k")
    coordinates: ClassVar = ("voxel_x", "voxel_y", "voxel_z")

    grid: tuple[int, int, int]
    affine: NDArray[np.float64]
    name: str = FUNC1PT8MM

    def __post_init__(self) -> None:
        z, y, x = (int(length) for length in self.grid)
        affine = np.array(self.affine, dtype=np.float64).reshape(4, 4)
        affine.flags.writeable = False
        object.__setattr__(self, "grid", (z, y, x))
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        """Return whether another object is the same space, to the last bit of its affine."""
        return isinstance(other, VolumeSpace) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        return self.name, self.grid, *self.affine.ravel().tolist()

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return self.grid

    @override
    def table(self, sites: Sites) -> dict[str, NDArray[Any]]:
        x, y, z = (axis.astype(np.int64) for axis in np.unravel_index(sites, self.grid))
        return dict(zip(self.columns, (x, y, z, z, y, x), strict=True))

    def sites(self, table: Mapping[Any, ArrayLike]) -> Sites:
        """Return the sites of a table's rows, from its columns nifti_i, nifti_j and nifti_k.

        Raises
        ------
        ParameterError
            A voxel lies outside of the grid.
        """
        place = np.stack([np.asarray(table[f"nifti_{axis}"], np.int64) for axis in "ijk"], axis=1)
        shape = self.grid[::-1]
        if len(place) and (place.min() < 0 or (place.max(axis=0) >= shape).any()):
            raise ParameterError(
                f"A voxel lies at (i, j, k) = {tuple(place.max(axis=0).tolist())} or beyond: "
                f"expected all within (X, Y, Z) = {shape}; give the grid of the same subject."
            )
        return np.ravel_multi_index(tuple(place.T[::-1]), self.grid).astype(np.int64)

    @override
    def neighbours(self, sites: Sites, steps: int) -> Sites:
        # Not by scipy.ndimage: importing it would delay every worker and every error message.
        inside = reached = self.mask(sites)
        for _ in range(steps):
            before, reached = reached, reached.copy()
            for axis in range(3):
                source, target = (np.moveaxis(mask, axis, 0) for mask in (before, reached))
                target[1:] |= source[:-1]
                target[:-1] |= source[1:]
        return np.flatnonzero(reached & ~inside)

    def mask(self, sites: Sites) -> NDArray[np.bool_]:
        """Return a volume, bool (Z, Y, X), that is true at some sites."""
        mask = np.zeros(self.grid, dtype=np.bool_)
        mask.ravel()[sites] = True
        return mask

    def volume(self, values: ArrayLike, sites: Sites, outside: float) -> NDArray[np.float32]:
        """Return a volume, float32 (Z, Y, X), that has given values at some sites."""
        volume = np.full(self.grid, outside, dtype=np.float32)
        volume.ravel()[sites] = values
        return volume

    def millimetres(self, sites: Sites) -> NDArray[np.float64]:
        """Return where sites lie, float64 (n_sites, 3): to the right, to the front, upwards."""
        ijk = np.stack(np.unravel_index(sites, self.grid)[::-1], axis=1)
        return np.stack([ijk @ row[:3] + row[3] for row in self.affine[:3]], axis=1)

    @override
    def difference(self, other: Self) -> str:
        if self.grid != other.grid:
            return f"the grid (Z, Y, X) = {self.grid} in place of {other.grid}"
        difference = np.abs(self.affine - other.affine).max()
        if difference <= AFFINE_TOLERANCE:
            return ""
        return f"an affine that differs by up to {difference:.4g} mm"

    @override
    def attributes(self) -> dict[str, Any]:
        """Return ``grid``, three numbers, and ``affine``, 16 numbers, row by row."""
        return {"grid": list(self.grid), "affine": self.affine.ravel().tolist()}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return the space of which a file has the `attributes`."""
        return cls(attributes["grid"], attributes["affine"])
