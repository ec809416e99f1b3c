"""A subject's brain: a folded cortical shell in an ellipsoid, and patches that grow on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.errors import ParameterError
from nsd_prep.synthetic.plan import SubjectPlan
from nsd_prep.synthetic.streams import Purpose, random_stream

# Real cortex is thinner, but its folds fill a band of this depth.
_THICKNESS = 0.12  # of the grid's shortest side, at least as many voxels as follow
_LEAST_THICKNESS = 2.2
_FOLD_DEPTH = 0.05  # of the radius
# A patch is longer along x, so that its voxels lie in runs of the file as long as those of real
# regions: what reading them from a server costs depends on it.
_WEIGHTS_OF_AXES = (0.15, 1.0, 1.0)
OVERLAP_SHARE: Final = 0.06  # of hV4's voxels, at least 4


class _Patch(NamedTuple):
    """A patch of cortex in each hemisphere.

    `towards` is the direction of its seed from the hemisphere's centre, along (medial, anterior,
    superior); `region` is the entry of the plan that says how many voxels it has.
    """

    name: str
    region: str
    towards: tuple[float, float, float]


# The order is that of growth: a later patch takes what earlier ones left.
PATCHES: Final = (
    _Patch("V1v", "V1", (0.5, -1.0, -0.15)),
    _Patch("V1d", "V1", (0.5, -1.0, 0.2)),
    _Patch("V2v", "V2", (0.4, -0.9, -0.45)),
    _Patch("V2d", "V2", (0.4, -0.9, 0.5)),
    _Patch("V3v", "V3", (0.1, -0.85, -0.7)),
    _Patch("V3d", "V3", (0.1, -0.85, 0.7)),
    _Patch("hV4", "V4", (-0.4, -0.75, -0.75)),
    _Patch("ventral", "IT", (0.0, -0.3, -1.0)),
    _Patch("midlateral", "other", (-1.0, -0.8, 0.0)),
    _Patch("lateral", "other", (-1.0, -0.2, 0.0)),
    _Patch("midparietal", "other", (-0.2, -0.6, 0.9)),
    _Patch("parietal", "other", (-0.2, -0.2, 1.0)),
    _Patch("frontal", "frontal", (-0.2, 0.7, 0.7)),
)
PATCH_CODES: Final[Mapping[str, int]] = {patch.name: code for code, patch in enumerate(PATCHES)}
NO_PATCH: Final = -1


@dataclass(frozen=True)
class CorticalSites:
    """Sites of the cortex, voxels or vertices, and the patches that hold them.

    Attributes
    ----------
    position : (n_sites, 3) array of float64
        Along (right, anterior, superior): of voxels their NIfTI indices (i, j, k).
    right : (n_sites,) array of bool
        Right hemisphere.
    depth : (n_sites,) array of float64
        Depth below the outer surface.
    patch : (n_sites,) array of int64
        Index into `PATCHES`, or `NO_PATCH`.
    overlap : (n_sites,) array of bool
        Sites of hV4 that belong to the ventral stream as well.
    """

    position: NDArray[np.float64]
    right: NDArray[np.bool_]
    depth: NDArray[np.float64]
    patch: NDArray[np.int64]
    overlap: NDArray[np.bool_]

    def in_patches(self, *names: str) -> NDArray[np.bool_]:
        """Tell which sites lie in one of the named patches: (n_sites,) bool."""
        return np.isin(self.patch, [PATCH_CODES[name] for name in names])

    @property
    def ventral(self) -> NDArray[np.bool_]:
        """Tell which sites are the ventral stream (IT), the overlap included."""
        return self.in_patches("ventral") | self.overlap


@dataclass(frozen=True)
class Cortex(CorticalSites):
    """The cortical voxels of a subject, in C order of the reversed volume (Z, Y, X).

    Attributes
    ----------
    grid : tuple of int
        NIfTI dimensions (X, Y, Z).
    brain : (Z, Y, X) array of bool
        The brain mask.
    voxel_index : (n_cortex,) array of int64
        0-based flat indices into the reversed volume, ascending.
    """

    grid: tuple[int, int, int]
    brain: NDArray[np.bool_]
    voxel_index: NDArray[np.int64]


def make_cortex(plan: SubjectPlan, subject: int, seed: int) -> Cortex:
    """Grow a subject's (1-based) cortex and its patches.

    ParameterError where the grid has too little cortex for the voxels asked for.
    """
    generator = random_stream(seed, Purpose.ANATOMY, subject)
    depths, brain, seeds = _shape_of_brain(plan.grid, generator)
    thickness = max(_LEAST_THICKNESS, _THICKNESS * min(plan.grid))
    on_cortex = (depths >= 0) & (depths < thickness)
    # The hemispheres do not touch; where rounding lets them, the voxel is left's.
    on_cortex[1] &= ~on_cortex[0]
    brain |= on_cortex.any(axis=0)
    voxel_index = np.flatnonzero(on_cortex.any(axis=0))
    right = on_cortex[1].ravel()[voxel_index]
    k, j, i = np.unravel_index(voxel_index, plan.grid[::-1])
    position = np.column_stack([i, j, k]).astype(np.float64)
    depth = np.where(right, depths[1].ravel()[voxel_index], depths[0].ravel()[voxel_index])

    overlap_count = min(max(4, round(OVERLAP_SHARE * plan.voxels["V4"])), plan.voxels["V4"])
    counts = _patch_counts(plan.voxels, overlap_count, generator)
    patch = np.full(len(voxel_index), NO_PATCH)
    overlap = np.zeros(len(voxel_index), dtype=bool)
    halves = (overlap_count // 2, overlap_count - overlap_count // 2)
    for side in (0, 1):
        for code, wanted in enumerate(counts[:, side]):
            free = np.flatnonzero((patch == NO_PATCH) & (right == bool(side)))
            if len(free) < wanted:
                raise ParameterError(
                    f"the grid {plan.grid} of subject {subject} has too little cortex for "
                    f"{int(counts.sum())} labelled voxels; give it a larger grid or fewer voxels"
                )
            patch[nearest(position, free, seeds[side, code], int(wanted))] = code
        v4 = np.flatnonzero((patch == PATCH_CODES["hV4"]) & (right == bool(side)))
        towards = seeds[side, PATCH_CODES["ventral"]]
        overlap[nearest(position, v4, towards, halves[side])] = True
    return Cortex(position, right, depth, patch, overlap, plan.grid, brain, voxel_index)


def nearest(
    position: NDArray[np.float64],
    candidates: NDArray[np.int64],
    seed_point: NDArray[np.float64],
    count: int,
) -> NDArray[np.int64]:
    """Give the `count` candidates (indices into `position`) nearest to a point, less so along x."""
    distance = (position[candidates] - seed_point) ** 2 @ np.array(_WEIGHTS_OF_AXES)
    return candidates[np.argsort(distance, kind="stable")[:count]]


def partition(position: NDArray[np.float64], parts: int) -> NDArray[np.int64]:
    """Split points (n, 3) into compact parts, none of them empty: part of each, 0-based, (n,).

    It is that of the nearest of some points far from each other, numbered from back to front;
    there are fewer parts where there are fewer points.
    """
    if len(position) == 0:
        return np.zeros(0, dtype=np.int64)
    chosen = [int(np.argmin(position[:, 1]))]
    distance = ((position - position[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(parts, len(position)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, ((position - position[chosen[-1]]) ** 2).sum(axis=1))
    centres = position[chosen][np.argsort(position[chosen, 1], kind="stable")]
    parts_of = ((position[:, np.newaxis] - centres) ** 2).sum(axis=2).argmin(axis=1)
    return np.asarray(parts_of, dtype=np.int64)


def _shape_of_brain(
    grid: tuple[int, int, int], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Make the depth below each hemisphere's surface, the brain mask and the patches' seeds.

    (2, Z, Y, X) float64 in voxels; (Z, Y, X) bool; (2, n_patches, 3) float64, NIfTI voxel indices.
    """
    size = np.array(grid, dtype=np.float64)
    # Off the grid's middle, as real brains are: a volume that is turned is then seen.
    centre = (size - 1) / 2 + generator.choice([-1, 1], 3) * generator.uniform(0.35, 0.65, 3)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in grid[::-1]), indexing="ij")
    xyz = np.stack([x, y, z])
    brain = (((xyz - centre[:, None, None, None]) / (0.49 * size)[:, None, None, None]) ** 2).sum(
        axis=0
    ) < 1
    depths = np.empty((2, *grid[::-1]))
    seeds = np.empty((2, len(PATCHES), 3))
    for side, sign in ((0, -1.0), (1, 1.0)):
        middle = centre + np.array([sign * 0.24 * size[0], 0.0, 0.0])
        radii = size * np.array([0.215, 0.455, 0.435]) * generator.uniform(0.97, 1.03, 3)
        scaled = (xyz - middle[:, None, None, None]) / radii[:, None, None, None]
        radius = np.sqrt((scaled**2).sum(axis=0)) + 1e-9
        waves = generator.normal(0, 1, (6, 3))
        waves *= generator.uniform(5, 11, (6, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
        phases = generator.uniform(0, 2 * np.pi, 6)
        fold = sum(
            np.sin(np.tensordot(wave, scaled, axes=1) / radius + phase)
            for wave, phase in zip(waves, phases, strict=True)
        )
        surface = 1 + _FOLD_DEPTH * fold / np.sqrt(3)
        distance = np.sqrt(((xyz - middle[:, None, None, None]) ** 2).sum(axis=0))
        depths[side] = (surface - radius) * distance / radius
        # A voxel across the midline is no cortex of this hemisphere.
        depths[side][sign * (x - centre[0]) < 0.25] = -1
        for code, patch in enumerate(PATCHES):
            towards = np.array(patch.towards) * [-sign, 1, 1]
            seeds[side, code] = middle + radii * towards / np.linalg.norm(towards)
    return depths, brain, seeds


def _patch_counts(
    voxels: Mapping[str, int], overlap: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Share the regions' voxels out to patches and hemispheres: (n_patches, 2) int64."""
    counts = np.zeros((len(PATCHES), 2), dtype=np.int64)
    for region in dict.fromkeys(patch.region for patch in PATCHES):
        codes = [code for code, patch in enumerate(PATCHES) if patch.region == region]
        if region == "frontal":
            total = 4
        elif region == "IT":
            total = voxels["IT"] - overlap
        elif region == "other":
            total = voxels["other"] * len(codes)
        else:
            total = voxels[region]
        shares = np.cumsum(generator.uniform(0.9, 1.1, 2 * len(codes)))
        if region == "other":  # the plan gives the voxels of each of these patches
            shares = np.arange(1.0, 2 * len(codes) + 1)
        ends = np.round(total * shares / shares[-1]).astype(np.int64)
        counts[codes] = np.diff(ends, prepend=0).reshape(-1, 2)
    return counts
