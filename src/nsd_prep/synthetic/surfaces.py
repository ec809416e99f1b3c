"""The surfaces of a synthetic dataset: fsaverage, each subject's own, and the ways between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.synthetic.anatomy import (
    NO_PATCH,
    OVERLAP_SHARE,
    PATCH_CODES,
    PATCHES,
    Cortex,
    CorticalSites,
)
from nsd_prep.synthetic.plan import SurfacePlan
from nsd_prep.synthetic.streams import Purpose, random_stream

Directions = NDArray[np.float64]
"""(n_vertices, 3), unit length: vertices on the sphere on which surfaces are registered, along
(right, anterior, superior) from the hemisphere's centre."""

_MEDIAL_WALL: Final = 0.85  # cosine to the medial direction, beyond which there is no cortex
_RADII: Final = (33.0, 82.0, 55.0)  # of an inflated hemisphere, mm
_LARGE_SURFACE: Final = 225_000  # vertices, at which NSD's surfaces have one a square millimetre
_JITTER: Final = 0.4  # voxels


@dataclass(frozen=True)
class Fsaverage:
    """The template surface, both hemispheres, left first.

    Attributes
    ----------
    directions : tuple of two Directions
    faces : tuple of two arrays of int32, (n_faces, 3)
        0-based, counterclockwise from outside.
    sites : CorticalSites
        The left hemisphere's vertices, then the right's.
    """

    directions: tuple[Directions, Directions]
    faces: tuple[NDArray[np.int32], NDArray[np.int32]]
    sites: CorticalSites

    @property
    def n_vertices(self) -> int:
        """Vertices of one hemisphere."""
        return len(self.directions[0])

    def side(self, values: NDArray[np.generic], side: int) -> NDArray[np.generic]:
        """Give the values of one hemisphere's vertices."""
        return values[side * self.n_vertices :][: self.n_vertices]

    def inflated(self, side: int) -> NDArray[np.float64]:
        """Give where the vertices of an inflated hemisphere lie, mm: (n_vertices, 3)."""
        return self.directions[side] * _RADII


@dataclass(frozen=True)
class NativeHemisphere:
    """One hemisphere of a subject's own surface.

    Attributes
    ----------
    directions : Directions
    white_to_fsaverage : (n_fsaverage,) array of int64
        The vertex of this surface, 0-based, that is nearest to each of fsaverage's.
    fsaverage_to_white : (n_vertices,) array of int64
        The vertex of fsaverage, 0-based, that is nearest to each of this surface's.
    voxel : (n_vertices, 3) array of float64
        Where each vertex lies in the volume: NIfTI indices (i, j, k); NaN on the medial wall.
    patch, overlap : (n_vertices,) arrays
        As those of `CorticalSites`.
    tuned_patch : (n_vertices,) array of int64
        Whose tuning a vertex has: its patch, or that of a vertex of fsaverage that is taken from
        it; `NO_PATCH` where neither has one.
    """

    directions: Directions
    white_to_fsaverage: NDArray[np.int64]
    fsaverage_to_white: NDArray[np.int64]
    voxel: NDArray[np.float64]
    patch: NDArray[np.int64]
    overlap: NDArray[np.bool_]
    tuned_patch: NDArray[np.int64]


def make_fsaverage(plan: SurfacePlan, seed: int) -> Fsaverage:
    """Make the template surface and grow the patches on it."""
    directions, faces = _icosphere(plan.fsaverage)
    # A rotation of its own for each hemisphere: a vertex of one lies elsewhere in the other.
    sides = (directions, directions @ _rotation(random_stream(seed, Purpose.SURFACES)).T)
    patch, overlap = zip(
        *(_grown_patches(side, plan, code) for code, side in enumerate(sides)), strict=True
    )
    return Fsaverage(
        sides,
        (faces, faces),
        cortical_sites(sides, patch, overlap, seed),
    )


def cortical_sites(
    directions: Sequence[Directions],
    patch: Sequence[NDArray[np.int64]],
    overlap: Sequence[NDArray[np.bool_]],
    seed: int,
) -> CorticalSites:
    """Put both hemispheres' vertices into one row of sites, left first."""
    return CorticalSites(
        position=np.vstack(directions) * 100,
        right=np.repeat([False, True], [len(side) for side in directions]),
        depth=np.concatenate([sulcal_depth(side, seed) for side in directions]),
        patch=np.concatenate(patch),
        overlap=np.concatenate(overlap),
    )


def sulcal_depth(directions: Directions, seed: int) -> NDArray[np.float64]:
    """Give a depth of folds, at unit variance, at places of the registered sphere."""
    generator = random_stream(seed, Purpose.SURFACES, 1)
    waves = generator.normal(0, 1, (8, 3))
    waves *= generator.uniform(8, 16, (8, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    phases = generator.uniform(0, 2 * np.pi, 8)
    depth: NDArray[np.float64] = np.sin(directions @ waves.T + phases).sum(axis=1) / 2
    return depth


def make_native(
    plan: SurfacePlan, fsaverage: Fsaverage, cortex: Cortex, subject: int, side: int, seed: int
) -> NativeHemisphere:
    """Make a hemisphere (0: left) of a subject's own surface (1-based)."""
    from scipy.spatial import KDTree

    generator = random_stream(seed, Purpose.SURFACES, subject, side)
    directions = _native_directions(plan.native[subject][side], generator)
    own = fsaverage.directions[side]
    to_fsaverage = KDTree(directions).query(own)[1].astype(np.int64)
    to_white = KDTree(own).query(directions)[1].astype(np.int64)
    template_patch = np.asarray(fsaverage.side(fsaverage.sites.patch, side), np.int64)
    patch = template_patch[to_white]
    tuned = patch.copy()
    labelled = np.flatnonzero(template_patch != NO_PATCH)
    unlabelled = labelled[patch[to_fsaverage[labelled]] == NO_PATCH]
    tuned[to_fsaverage[unlabelled]] = template_patch[unlabelled]
    return NativeHemisphere(
        directions,
        to_fsaverage,
        to_white,
        _positions_in_volume(directions, tuned, cortex, side, generator),
        patch,
        np.asarray(fsaverage.side(fsaverage.sites.overlap, side), bool)[to_white],
        tuned,
    )


def _icosphere(n_vertices: int) -> tuple[Directions, NDArray[np.int32]]:
    """Divide an icosahedron; vertices in FreeSurfer's order: those of a coarser one come first."""
    golden = (1 + 5**0.5) / 2
    corners = [
        np.roll((0, first, second * golden), turn)
        for turn in range(3)
        for first in (-1, 1)
        for second in (-1, 1)
    ]
    vertices = np.array(corners) / np.linalg.norm(corners[0])
    distance = np.linalg.norm(vertices[:, None] - vertices, axis=2)
    near = (distance > 0) & (distance < 1.2)  # the edge is 1.05, the next distance 1.7
    faces = np.array(
        [
            (a, b, c)
            for a in range(12)
            for b in range(a + 1, 12)
            for c in range(b + 1, 12)
            if near[a, b] and near[b, c] and near[a, c]
        ]
    )
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    while len(vertices) < n_vertices:
        edges = np.stack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]], axis=1)
        pairs, which = np.unique(np.sort(edges.reshape(-1, 2), axis=1), axis=0, return_inverse=True)
        middles = vertices[pairs].sum(axis=1)
        ab, bc, ca = (which.reshape(-1, 3) + len(vertices)).T
        vertices = np.vstack([vertices, middles / np.linalg.norm(middles, axis=1, keepdims=True)])
        a, b, c = faces.T
        parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = np.stack([np.stack(part, axis=1) for part in parts], axis=1).reshape(-1, 3)
    return vertices, faces.astype(np.int32)


def _rotation(generator: np.random.Generator) -> NDArray[np.float64]:
    rotation, _ = np.linalg.qr(generator.normal(0, 1, (3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


def _medial(side: int) -> int:
    """Give the sign of the medial direction along the axis to the right."""
    return -1 if side else 1


def _grown_patches(
    directions: Directions, plan: SurfacePlan, side: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Grow the patches of a hemisphere, each with exactly the plan's vertices."""
    patch = np.full(len(directions), NO_PATCH)
    v4 = plan.vertices["V4"][side]
    n_overlap = min(max(2, round(OVERLAP_SHARE * v4)), v4)
    for code, wanted in enumerate(_patch_sizes(plan, side, n_overlap)):
        free = np.flatnonzero(patch == NO_PATCH)
        distance = ((directions[free] - _seed(code, side)) ** 2).sum(axis=1)
        patch[free[np.argsort(distance, kind="stable")[:wanted]]] = code
    overlap = np.zeros(len(directions), dtype=bool)
    inside = np.flatnonzero(patch == PATCH_CODES["hV4"])
    distance = ((directions[inside] - _seed(PATCH_CODES["ventral"], side)) ** 2).sum(axis=1)
    overlap[inside[np.argsort(distance, kind="stable")[:n_overlap]]] = True
    return patch, overlap


def _seed(code: int, side: int) -> NDArray[np.float64]:
    towards = np.array(PATCHES[code].towards) * [_medial(side), 1, 1]
    return np.asarray(towards / np.linalg.norm(towards))


def _patch_sizes(plan: SurfacePlan, side: int, n_overlap: int) -> list[int]:
    """Share the vertices of regions out to a hemisphere's patches."""
    sizes = []
    for code, patch in enumerate(PATCHES):
        if patch.region == "frontal":
            sizes.append(2)
            continue
        total = plan.vertices[patch.region][side]
        if patch.region == "IT":
            total -= n_overlap
        elif patch.region != "other":
            before = [other.region for other in PATCHES[:code]].count(patch.region)
            parts = [other.region for other in PATCHES].count(patch.region)
            total = total * (before + 1) // parts - total * before // parts
        sizes.append(total)
    return sizes


def _native_directions(n_vertices: int, generator: np.random.Generator) -> Directions:
    """Spread vertices over the sphere, in an order by slices of the head as FreeSurfer's is."""
    step = np.arange(n_vertices)
    height = 1 - (2 * step + 1) / n_vertices
    angle = step * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - height**2)
    directions = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])
    directions = directions @ _rotation(generator).T
    directions += generator.normal(0, 0.3 / np.sqrt(n_vertices), directions.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    x, y, z = (directions * _RADII * np.sqrt(n_vertices / _LARGE_SURFACE)).T
    order: Directions = directions[np.lexsort((x, np.round(z), np.round(y)))]
    return order


def _positions_in_volume(
    directions: Directions,
    patch: NDArray[np.int64],
    cortex: Cortex,
    side: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Lay vertices into voxels of their own patch: (n_vertices, 3) NIfTI indices, 0-based.

    NaN on the medial wall.
    """
    from scipy.spatial import KDTree

    voxels = np.flatnonzero(cortex.right == bool(side))
    position = cortex.position[voxels]
    low, high = position.min(axis=0), position.max(axis=0)
    towards = (position - (low + high) / 2) / (high - low)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    located = np.empty((len(directions), 3))
    for code in np.unique(patch):
        vertices = np.flatnonzero(patch == code)
        inside = np.flatnonzero(cortex.patch[voxels] == code)
        if len(inside) == 0:
            inside = np.arange(len(voxels))
        points, targets = directions[vertices], towards[inside]
        if code != NO_PATCH:  # a patch covers its voxels, whatever the size of both
            points, targets = _standardised(points), _standardised(targets)
        located[vertices] = position[inside[KDTree(targets).query(points)[1]]]
    located += generator.uniform(-_JITTER, _JITTER, located.shape)
    located[(directions[:, 0] * _medial(side) > _MEDIAL_WALL) & (patch == NO_PATCH)] = np.nan
    return located


def _standardised(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = points - points.mean(axis=0)
    return np.asarray(centred / (np.sqrt((centred**2).sum(axis=1).mean()) or 1))
