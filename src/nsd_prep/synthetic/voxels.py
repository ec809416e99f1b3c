"""What is true of each voxel: tuning, signal strength, scale, sessions without data."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.synthetic.anatomy import PATCHES, Cortex
from nsd_prep.synthetic.labels import make_labels
from nsd_prep.synthetic.latents import tuning_of_voxels
from nsd_prep.synthetic.plan import REGIONS, REPETITIONS, SubjectPlan
from nsd_prep.synthetic.streams import Purpose, random_stream

#: Quantiles of the noise ceiling (percent) in each region, after the published medians and
#: shares of voxels above 30 %. Between them it is linear.
_CEILING_QUANTILES: Final = {
    "V1": ((0.0, 0.40, 0.50, 0.90, 1.0), (0.0, 30.0, 37.4, 62.0, 80.0)),
    "V2": ((0.0, 0.48, 0.50, 0.90, 1.0), (0.0, 30.0, 31.2, 58.0, 78.0)),
    "V3": ((0.0, 0.48, 0.50, 0.90, 1.0), (0.0, 30.0, 31.2, 58.0, 78.0)),
    "V4": ((0.0, 0.50, 0.58, 0.90, 1.0), (0.0, 25.3, 30.0, 50.0, 73.0)),
    "IT": ((0.0, 0.50, 0.81, 0.95, 1.0), (0.0, 7.8, 30.0, 48.0, 70.0)),
    "other": ((0.0, 0.50, 1.0), (0.0, 3.0, 20.0)),
}
_HIGHEST_CEILING: Final = 83.0
_NEVER_SHARE: Final = 0.004  # of a region's voxels without data in every session
_PARTLY_SHARE: Final = 0.008  # ... in some sessions
_SATURATED_SHARE: Final = 0.002  # ... so strong that int16 does not hold all of their betas


@dataclass(frozen=True)
class Tuned:
    """How sites, voxels or vertices, respond.

    Attributes
    ----------
    region : (n_sites,) array of int64
        Index into `nsd_prep.synthetic.plan.REGIONS`: whose tuning the site has. A site of hV4
        that is in the ventral stream too has V4's.
    tuning : (n_sites, n_features) array of float32
        Rows of unit length.
    signal_strength : (n_sites,) array of float32
        SD of the signal over images, in units of the noise's SD: the true ncsnr.
    mean, scale : (n_sites,) array of float32
        Mean response, and SD of the trial-to-trial noise, percent signal change.
    has_data : (n_sites, n_sessions) array of bool
        False where the site is invalid in a session, and all of its betas are 0.
    """

    region: NDArray[np.int64]
    tuning: NDArray[np.float32]
    signal_strength: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    has_data: NDArray[np.bool_]


@dataclass(frozen=True)
class Voxels(Tuned):
    """The labelled voxels of a subject, in file order (C order of the reversed volume).

    Attributes
    ----------
    voxel_index : (n_voxels,) array of int64
        0-based flat indices into the reversed volume (Z, Y, X), ascending.
    """

    voxel_index: NDArray[np.int64]


def make_voxels(plan: SubjectPlan, cortex: Cortex, subject: int, seed: int) -> Voxels:
    """Draw the truth of every voxel that has a label in any family."""
    labelled = np.any([labels > 0 for labels in make_labels(cortex).values()], axis=0)
    generator = random_stream(seed, Purpose.VOXELS, subject)
    tuned = draw_tuned(plan, regions_of_patches(cortex.patch[labelled]), generator)
    return Voxels(**vars(tuned), voxel_index=cortex.voxel_index[labelled])


def regions_of_patches(patch: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give whose tuning the sites of patches have: indices into `plan.REGIONS`."""
    of_patch = [
        REGIONS.index(patch.region if patch.region in REGIONS else "other") for patch in PATCHES
    ]
    return np.array(of_patch)[patch]


def draw_tuned(
    plan: SubjectPlan,
    region: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    first_and_last_whole: bool = False,
) -> Tuned:
    """Draw how sites respond whose regions are indices into `plan.REGIONS`.

    With `first_and_last_whole` a site has data in the first and the last session or in none, where
    there are more than two.
    """
    ends = int(first_and_last_whole and plan.sessions > 2)
    sessions_with_gaps = np.arange(ends, plan.sessions - ends)
    n_sites = len(region)
    tuning = tuning_of_voxels(region, generator)
    strength = np.empty(n_sites, dtype=np.float32)
    has_data = np.ones((n_sites, plan.sessions), dtype=bool)
    mean = generator.normal(0.4, 0.5, n_sites).astype(np.float32)
    scale = (1.4 * generator.lognormal(0, 0.35, n_sites)).astype(np.float32)
    for code, name in enumerate(REGIONS):
        inside = np.flatnonzero(region == code)
        strength[inside] = _signal_strengths(name, plan, len(inside), generator)
        if name in ("V1", "V2", "V4", "IT"):
            never, partly, strong = _special_voxels(inside, generator)
            has_data[never] = False
            for voxel in partly:
                count = generator.integers(1, max(1, plan.sessions // 5) + 1)
                has_data[voxel, generator.choice(sessions_with_gaps, count, replace=False)] = False
            # 45 % signal change: about a trial in 50 is beyond the 109.2 % that int16 holds.
            mean[strong] = 10.0
            scale[strong] = 45.0
    return Tuned(region, tuning, strength, mean, scale, has_data)


def _signal_strengths(
    region: str, plan: SubjectPlan, n_voxels: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw signal strengths whose median noise ceiling is the plan's, percent."""
    quantiles, ceilings = _CEILING_QUANTILES[region]
    # One voxel from each of n equal slices of the distribution: few voxels have its median too.
    drawn = (generator.permutation(n_voxels) + generator.random(n_voxels)) / max(1, n_voxels)
    strength = _strength_of_ceiling(np.interp(drawn, quantiles, ceilings))
    middle = _strength_of_ceiling(np.interp(0.5, quantiles, ceilings))
    strength *= _strength_of_ceiling(np.float64(plan.noise_ceiling[region])) / middle
    return np.minimum(strength, _strength_of_ceiling(np.float64(_HIGHEST_CEILING)))


def _strength_of_ceiling(
    ceiling: NDArray[np.float64] | np.float64,
) -> NDArray[np.float64]:
    """Invert NC = 100 s^2 / (s^2 + 1/3)."""
    return np.asarray(np.sqrt(ceiling / (REPETITIONS * (100 - ceiling))))


def _special_voxels(
    inside: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Choose voxels of a region: without any data, without some, and too strong for int16."""
    n = len(inside)
    never = max(round(_NEVER_SHARE * n), int(n >= 40))
    partly = max(round(_PARTLY_SHARE * n), int(n >= 16))
    strong = max(round(_SATURATED_SHARE * n), int(n >= 12))
    chosen = generator.choice(inside, never + partly + strong, replace=False)
    return chosen[:never], chosen[never : never + partly], chosen[never + partly :]
