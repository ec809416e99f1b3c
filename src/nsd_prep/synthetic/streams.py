"""Independent random streams, one for each purpose and each subject and session."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a random stream is for; part of its seed, so no two purposes share numbers."""

    ORDERING = 1
    IMAGE_IDS = 2
    ANATOMY = 3
    SHARED_LATENTS = 4
    OWN_LATENTS = 5
    VOXELS = 6
    SESSION = 7
    BACKGROUND_VOXELS = 8
    BACKGROUND_SESSION = 9
    PICTURES = 10
    STIMULUS_TABLE = 11
    SURFACES = 12
    VERTICES = 13
    SURFACE_SESSION = 14
    BACKGROUND_VERTICES = 15
    BACKGROUND_SURFACE_SESSION = 16
    EXPERIMENT = 17
    EXPERIMENT_BETAS = 18


def random_stream(seed: int, purpose: Purpose, *identifiers: int) -> np.random.Generator:
    """Give the generator of one purpose, the same whatever else is drawn before or after.

    `identifiers` are subject, session (both 1-based) and hemisphere (0: left), or fewer of them.
    """
    # SFC64 is the fastest of NumPy's bit generators for float32 normal numbers.
    sequence = np.random.SeedSequence((seed, int(purpose), *identifiers))
    return np.random.Generator(np.random.SFC64(sequence))
