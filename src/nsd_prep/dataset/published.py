"""What is published about NSD: sizes and numbers that the real dataset must reproduce.

Sources: Allen et al. 2022, Nature Neuroscience 25:116-126, and the NSD data manual; the statistics
of regions are those of the published Allen2022 assemblies.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: What repairs a damaged file, for messages.
DOWNLOAD_AGAIN: Final = (
    "download it again with 'aws s3 cp', as 'aws s3 sync' leaves a file of the same size as it is"
)

SUBJECTS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
TRIALS_PER_SESSION: Final = 750
SESSION_COUNTS: Final[Mapping[int, int]] = MappingProxyType(
    {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}
)
#: NIfTI (X, Y, Z) of func1pt8mm.
GRIDS: Final[Mapping[int, tuple[int, int, int]]] = MappingProxyType(
    {
        1: (81, 104, 83),
        2: (82, 106, 84),
        3: (81, 106, 82),
        4: (85, 99, 80),
        5: (79, 97, 78),
        6: (85, 113, 83),
        7: (78, 95, 81),
        8: (80, 103, 78),
    }
)
#: Vertices of the left and the right hemisphere: of a subject's own surface, and of fsaverage.
NATIVE_VERTICES: Final[Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        1: (227021, 226601),
        2: (239633, 239309),
        3: (240830, 243023),
        4: (228495, 227262),
        5: (197594, 198908),
        6: (253634, 259406),
        7: (198770, 200392),
        8: (224364, 224398),
    }
)
FSAVERAGE_VERTICES: Final = (163842, 163842)
#: Numbers of images: in all, for a subject, and shared by the subjects.
IMAGES: Final = 73_000
IMAGES_OF_A_SUBJECT: Final = 10_000
SHARED_IMAGES: Final = 1_000
PLANNED_TRIALS: Final = 30_000
REPETITIONS: Final = 3
#: Betas are stored as int16: percent signal change times this.
BETA_SCALE: Final = 300
#: Voxels of a region, for subjects 1 to 8.
VOXEL_COUNTS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "V1": (1350, 1102, 1254, 877, 1113, 1127, 1142, 1074),
        "V2": (1433, 1075, 1141, 863, 1081, 1180, 986, 1033),
        "V4": (687, 483, 426, 475, 542, 477, 397, 495),
        "IT": (7604, 8185, 8167, 7645, 6619, 9666, 6515, 8350),
    }
)
#: Vertices of a region on fsaverage, the same in all subjects: left and right.
FSAVERAGE_REGION_VERTICES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"V1": (2153, 2123), "V2": (1643, 1748), "V4": (410, 504)}
)
#: The same of both hemispheres together.
FSAVERAGE_REGION_SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {"V1": 4276, "V2": 3391, "V4": 914, "IT": 19065}
)
#: How many shared images a subject saw 3, 2, 1 and 0 times.
REPETITION_COUNTS: Final[Mapping[int, tuple[int, int, int, int]]] = MappingProxyType(
    {
        1: (1000, 0, 0, 0),
        2: (1000, 0, 0, 0),
        3: (614, 213, 103, 70),
        4: (515, 251, 141, 93),
        5: (1000, 0, 0, 0),
        6: (614, 213, 103, 70),
        7: (1000, 0, 0, 0),
        8: (515, 251, 141, 93),
    }
)
#: Images of the training and of the test part of splits, by subject (1-based). Papers that use
#: them: brain-diffuser, MindEye; Gifford et al. 2023, "The Algonauts Project 2023 Challenge".
SPLIT_SIZES: Final[Mapping[str, Mapping[int, tuple[int, int]]]] = MappingProxyType(
    {
        name: MappingProxyType(
            {
                **dict.fromkeys((1, 2, 5, 7), of_40_sessions),
                **dict.fromkeys((3, 6), of_32),
                **dict.fromkeys((4, 8), of_30),
            }
        )
        for name, of_40_sessions, of_32, of_30 in (
            ("shared1000_37", (8859, 982), (8188, 894), (7907, 872)),
            ("algonauts2023", (9841, 159), (9082, 293), (8779, 395)),
        )
    }
)
#: Sessions whose responses are known to be weak, by subject (1-based); their trials are right.
#: Subject 7's session 34 agrees with the others in higher areas, and not in early visual cortex.
WEAK_SESSIONS: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {6: (3, 7, 20), 7: (22, 34, 40), 8: (8,)}
)
#: Mean over the eight subjects of the median noise ceiling of each, in percent, and its tolerance.
MEAN_MEDIAN_NOISE_CEILING: Final[Mapping[str, float]] = MappingProxyType(
    {"V1": 37.0, "V2": 31.1, "V4": 26.4}
)
MEAN_MEDIAN_NOISE_CEILING_TOLERANCE: Final = 0.5
#: Voxels whose noise ceiling lies above this percentage count as reliable in Brain-Score.
RELIABLE_NOISE_CEILING: Final = 30.0
#: Runs of odd and of even number in a session of NSD have so many trials, twelve runs in all (NSD
#: data manual, "Behavioral data").
_NSD_RUNS: Final = (63, 62) * 6
#: A session of any other number of trials is cut into so many parts.
_PARTS: Final = 10
#: The preparations of the betas, by the numbers that the NSD data manual gives them.
PREPARATION_FOLDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "b1": "betas_assumehrf",
        "b2": "betas_fithrf",
        "b3": "betas_fithrf_GLMdenoise_RR",
    }
)
DEFAULT_PREPARATION: Final = "b3"


def run_lengths(n_trials: int) -> tuple[int, ...]:
    """Return how many trials each run of a session of so many trials has.

    63, 62, 63, ... for the 750 trials of NSD (Allen et al. 2022: twelve runs a session); else
    tenths of the session, those of more trials first.
    """
    if n_trials == TRIALS_PER_SESSION:
        return _NSD_RUNS
    parts = min(_PARTS, n_trials)
    return tuple(n_trials // parts + (part < n_trials % parts) for part in range(parts))
