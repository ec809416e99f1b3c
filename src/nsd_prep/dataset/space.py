"""Where responses lie: a space has sites, and only the space knows where a site is."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, Literal, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from nsd_prep.core.errors import ParameterError
from nsd_prep.core.nouns import VERTEX, VOXEL, Noun
from nsd_prep.core.parameters import SpaceName

Sites = NDArray[np.int64]
Hemisphere = Literal["lh", "rh"]
FUNC1PT8MM: Final = "func1pt8mm"
FUNC1MM: Final = "func1mm"
FSAVERAGE: Final = "fsaverage"
NATIVESURFACE: Final = "nativesurface"
SURFACES: Final[tuple[SpaceName, ...]] = (FSAVERAGE, NATIVESURFACE)
#: The order of hemispheres everywhere.
HEMISPHERES: Final[tuple[Hemisphere, Hemisphere]] = ("lh", "rh")
#: Millimetres by which affines of the same space may differ, as they were rounded.
AFFINE_TOLERANCE: Final = 1e-3


def noun_of(space: str) -> Noun:
    """Return what the sites of a space, by its name, are called."""
    return VERTEX if space in SURFACES else VOXEL


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
        """The axes of values for all sites, whose C order is that of the sites."""

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

    def difference(self, other: "Space") -> str:
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
        ijk = np.stack([np.asarray(table[f"nifti_{axis}"], np.int64) for axis in "ijk"], axis=1)
        shape = self.grid[::-1]
        if len(ijk) and (ijk.min() < 0 or (ijk.max(axis=0) >= shape).any()):
            raise ParameterError(
                f"A voxel lies at (i, j, k) = {tuple(ijk.max(axis=0).tolist())} or beyond: "
                f"expected all within (X, Y, Z) = {shape}; give the grid of the same subject."
            )
        return np.ravel_multi_index(tuple(ijk.T[::-1]), self.grid).astype(np.int64)

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
    def difference(self, other: Space) -> str:
        if not isinstance(other, VolumeSpace):
            return f"{self.name} in place of {other.name}"
        if self.grid != other.grid:
            return f"the grid (Z, Y, X) = {self.grid} in place of {other.grid}"
        difference = np.abs(self.affine - other.affine).max()
        if difference <= AFFINE_TOLERANCE:
            return ""
        return f"an affine that differs by up to {difference:.4g} mm"

    @override
    def attributes(self) -> dict[str, Any]:
        """Return ``grid``, three numbers, and ``affine``, 16 numbers, row by row.

        Of another volume than func1pt8mm also ``space``, its name.
        """
        name = {} if self.name == FUNC1PT8MM else {"space": self.name}
        return {**name, "grid": list(self.grid), "affine": self.affine.ravel().tolist()}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return the space of which a file has the `attributes`."""
        name = str(attributes.get("space", FUNC1PT8MM))
        return cls(attributes["grid"], attributes["affine"], name)


@dataclass(frozen=True)
class SurfaceSpace(Space):
    """The vertices of a pair of surfaces: those of the left hemisphere, then those of the right.

    Attributes
    ----------
    vertices : tuple of int
        Vertices of the left and of the right hemisphere.
    name : str
        NSD's name of the space: fsaverage or nativesurface.
    columns, coordinates : tuple of str
        hemisphere ("lh" or "rh"), and vertex_index (int64): 0-based within its hemisphere.
    """

    columns: ClassVar = ("hemisphere", "vertex_index")
    coordinates: ClassVar = ("hemisphere", "vertex_index")

    vertices: tuple[int, int]
    name: str = FSAVERAGE

    def __post_init__(self) -> None:
        left, right = (int(number) for number in self.vertices)
        object.__setattr__(self, "vertices", (left, right))

    @property
    @override
    def shape(self) -> tuple[int]:
        return (sum(self.vertices),)

    def hemisphere_sites(self, hemisphere: Hemisphere) -> tuple[int, int]:
        """Return the first site of a hemisphere, and the one behind its last."""
        left = self.vertices[0]
        return (0, left) if hemisphere == "lh" else (left, self.n_sites)

    @override
    def table(self, sites: Sites) -> dict[str, NDArray[Any]]:
        is_right = np.asarray(sites) >= self.vertices[0]
        hemispheres = np.array(HEMISPHERES)[is_right.astype(np.int64)]
        vertices = np.asarray(sites, np.int64) - self.vertices[0] * is_right
        return dict(zip(self.columns, (hemispheres, vertices), strict=True))

    def sites(self, table: Mapping[Any, ArrayLike]) -> Sites:
        """Return the sites of a table's rows, from its columns hemisphere and vertex_index.

        Raises
        ------
        ParameterError
            A hemisphere has another name, or no such vertex.
        """
        hemispheres = np.asarray(table["hemisphere"]).astype(str)
        vertices = np.asarray(table["vertex_index"], np.int64)
        strange = sorted({*hemispheres.tolist()} - {*HEMISPHERES})
        if strange:
            raise ParameterError(f"The hemisphere {strange[0]!r} is unknown: expected lh or rh.")
        sites = vertices.copy()
        for hemisphere, n_vertices in zip(HEMISPHERES, self.vertices, strict=True):
            own = hemispheres == hemisphere
            outside = vertices[own & ((vertices < 0) | (vertices >= n_vertices))]
            if len(outside):
                raise ParameterError(
                    f"The vertex {outside[0]} of {hemisphere} lies outside of {self.name}: "
                    f"expected 0 to {n_vertices - 1}; give the vertices of the same subject and "
                    "space."
                )
            sites[own] += self.hemisphere_sites(hemisphere)[0]
        return sites

    @override
    def neighbours(self, sites: Sites, steps: int) -> Sites:
        """Return none: which vertices are neighbours only a mesh tells, and none is read."""
        return np.zeros(0, dtype=np.int64)

    @override
    def difference(self, other: Space) -> str:
        if not isinstance(other, SurfaceSpace):
            return f"{self.name} in place of {other.name}"
        if (self.name, self.vertices) == (other.name, other.vertices):
            return ""
        return (
            f"{self.vertices[0]} and {self.vertices[1]} vertices of {self.name} in place of "
            f"{other.vertices[0]} and {other.vertices[1]} of {other.name}"
        )

    @override
    def attributes(self) -> dict[str, Any]:
        """Return ``space``, its name, and ``vertices``, two numbers."""
        return {"space": self.name, "vertices": list(self.vertices)}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return the space of which a file has the `attributes`."""
        left, right = attributes["vertices"]
        return cls((int(left), int(right)), str(attributes["space"]))


def space_from_attributes(attributes: Mapping[str, Any]) -> VolumeSpace | SurfaceSpace:
    """Return the space of which a file has the attributes that `Space.attributes` gave."""
    if "vertices" in attributes:
        return SurfaceSpace.from_attributes(attributes)
    return VolumeSpace.from_attributes(attributes)
