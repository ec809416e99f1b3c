"""Latent image features, shared by the subjects in part, and pictures drawn from them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.synthetic.plan import REGIONS, SyntheticPlan
from nsd_prep.synthetic.streams import Purpose, random_stream

BLOCKS: Final = 4
DIMENSIONS_PER_BLOCK: Final = 4
DIMENSIONS: Final = BLOCKS * DIMENSIONS_PER_BLOCK

#: Share of a voxel's signal variance that comes from features that all subjects share; the rest
#: comes from features of the subject's own. Between subjects, noise-free RDMs then correlate at
#: share^2 / (share^2 + (1 - share)^2), which is 0.6.
SHARED_SHARE: Final = 0.55

#: How much of a region's signal variance comes from each block of features, before
#: normalisation. The blocks are independent, so noise-free RDMs of two regions correlate as the
#: cosine of their rows: V1-V2 .92, V2-V4 .74, V4-IT .48, V1-IT .11.
BLOCK_WEIGHTS: Final[Mapping[str, tuple[float, float, float, float]]] = MappingProxyType(
    {
        "V1": (0.95, 0.40, 0.08, 0.00),
        "V2": (0.65, 0.65, 0.20, 0.05),
        "V3": (0.45, 0.75, 0.50, 0.10),
        "V4": (0.25, 0.50, 0.70, 0.18),
        "IT": (0.06, 0.08, 0.30, 0.95),
        "other": (0.06, 0.08, 0.30, 0.95),
    }
)

#: Contrast of a picture's patterns, on a logarithmic scale, for a feature of 1; and how much red,
#: green and blue are raised.
_CONTRAST: Final = 0.7
_WARMTH: Final = (0.08, 0.0, -0.08)


def dimension_weights(region: str) -> NDArray[np.float64]:
    """Give the share of signal variance of each feature in one of `plan.REGIONS`.

    (2 * DIMENSIONS,) float64: shared features, then the subject's own; the sum is 1.
    """
    blocks = np.array(BLOCK_WEIGHTS[region]) / sum(BLOCK_WEIGHTS[region])
    shares = np.repeat(blocks, DIMENSIONS_PER_BLOCK) / DIMENSIONS_PER_BLOCK
    return np.concatenate([SHARED_SHARE * shares, (1 - SHARED_SHARE) * shares])


def shared_latents(plan: SyntheticPlan, seed: int) -> NDArray[np.float32]:
    """Draw the features that all subjects share, independent and standard normal.

    (n_images, DIMENSIONS) float32, rows by 0-based nsd id.
    """
    generator = random_stream(seed, Purpose.SHARED_LATENTS)
    return generator.standard_normal((plan.images, DIMENSIONS), dtype=np.float32)


def own_latents(plan: SyntheticPlan, subject: int, seed: int) -> NDArray[np.float32]:
    """Draw the features of one subject (1-based), independent and standard normal.

    (images_per_subject, DIMENSIONS) float32, rows by the subject's image number, less 1.
    """
    generator = random_stream(seed, Purpose.OWN_LATENTS, subject)
    return generator.standard_normal((plan.images_per_subject, DIMENSIONS), dtype=np.float32)


def tuning_of_voxels(
    regions: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the tuning of voxels, whose regions are indices into `plan.REGIONS`.

    (n_voxels, 2 * DIMENSIONS) float32, rows of unit length, so that the tuned response has unit
    variance over images.
    """
    weights = np.array([dimension_weights(region) for region in REGIONS])
    tuning = generator.standard_normal((len(regions), 2 * DIMENSIONS)) * np.sqrt(weights[regions])
    unit: NDArray[np.float64] = tuning / np.linalg.norm(tuning, axis=1, keepdims=True)
    return unit.astype(np.float32)


def draw_pictures(
    latents: NDArray[np.float32], image_size: tuple[int, int], seed: int
) -> NDArray[np.uint8]:
    """Draw pictures in which each feature is the contrast of a pattern.

    Patterns are fine for V1's features and coarse for IT's, so that contrast energy tells of V1's
    responses about as much as in photographs (r about 0.4 between RDMs); and as in photographs red
    is stronger than blue. (n_images, height, width, 3) uint8, RGB.
    """
    generator = random_stream(seed, Purpose.PICTURES)
    height, width = image_size
    row, column = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    patterns = np.empty((DIMENSIONS, height, width, 3), dtype=np.float32)
    for dimension in range(DIMENSIONS):
        cycles = 5.0 / 2 ** (dimension // DIMENSIONS_PER_BLOCK)
        angle, phase = generator.uniform(0, 2 * np.pi, 2)
        wave = np.sin(2 * np.pi * cycles * (np.cos(angle) * row + np.sin(angle) * column) + phase)
        colour = np.abs(generator.normal(0, 1, 3))  # of one sign, or the grey is gone
        patterns[dimension] = wave[:, :, np.newaxis] * colour / np.linalg.norm(colour)
    flat = patterns.reshape(DIMENSIONS, -1)
    warmth = np.tile(np.array(_WARMTH, dtype=np.float32), height * width)
    pictures = np.empty((len(latents), flat.shape[1]), dtype=np.uint8)
    step = max(1, (1 << 22) // flat.shape[1])
    for start in range(0, len(latents), step):
        values = np.exp(_CONTRAST * latents[start : start + step]) @ flat
        pictures[start : start + step] = 127.5 + 127.5 * np.tanh(0.4 * values + warmth)
    return pictures.reshape(-1, height, width, 3)
