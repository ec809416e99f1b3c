"""The shape of a synthetic dataset: subjects, grids, sessions, images, voxels of each region."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log

from nsd_prep.core.errors import ParameterError
from nsd_prep.dataset.published import FSAVERAGE_VERTICES, NATIVE_VERTICES

SUBJECTS_IN_DESIGN = 8
"""Rows of ``subjectim``: the design always names all eight subjects, as NSD's does."""

REPETITIONS = 3
"""How many times each image is planned to be shown."""

REGIONS = ("V1", "V2", "V3", "V4", "IT", "other")
"""Groups of voxels that share a tuning and a distribution of signal strengths."""


@dataclass(frozen=True)
class SubjectPlan:
    """One subject's shape.

    Attributes
    ----------
    grid : tuple of int
        NIfTI dimensions (X, Y, Z), voxels.
    sessions : int
        Scan sessions of this subject.
    voxels : mapping of str to int
        Voxels of V1, V2, V3, V4 and IT, both hemispheres together, and under ``other`` of each of
        the four streams midlateral, midparietal, lateral and parietal.
    noise_ceiling : mapping of str to float
        Median noise ceiling, percent, for three repetitions, of each of `REGIONS`.
    """

    grid: tuple[int, int, int]
    sessions: int
    voxels: Mapping[str, int]
    noise_ceiling: Mapping[str, float]

    def __post_init__(self) -> None:
        for what, mapping in (("voxels", self.voxels), ("noise_ceiling", self.noise_ceiling)):
            if sorted(mapping) != sorted(REGIONS):
                raise ParameterError(
                    f"{what} must have exactly the regions {', '.join(REGIONS)}, "
                    f"got {', '.join(mapping)}"
                )
        if len(self.grid) != 3 or min(self.grid) < 5:
            raise ParameterError(
                f"grid must be three dimensions of at least 5 voxels, got {self.grid}"
            )


@dataclass(frozen=True)
class SurfacePlan:
    """The shape of a dataset's surfaces.

    Attributes
    ----------
    fsaverage : int
        Vertices of a hemisphere of fsaverage: 10 * 4**n + 2, an icosahedron divided n times.
    native : mapping of int to tuple of int
        Vertices of the left and of the right hemisphere of each subject's own surface.
    vertices : mapping of str to tuple of int
        Vertices of V1, V2, V3, V4 and IT on fsaverage, left and right, and under ``other`` of each
        of the four streams midlateral, midparietal, lateral and parietal.
    by_default : bool
        Whether surfaces are written where nothing is said.
    every_mgh : bool
        Whether every session has the ``.mgh`` of fsaverage, or those that are written in full.
    """

    fsaverage: int
    native: Mapping[int, tuple[int, int]]
    vertices: Mapping[str, tuple[int, int]]
    by_default: bool = False
    every_mgh: bool = True

    def __post_init__(self) -> None:
        size = self.fsaverage - 2
        if size < 10 or size % 10 or not log(size // 10, 4).is_integer():
            raise ParameterError(
                f"fsaverage must have 10 * 4**n + 2 vertices, such as 642, got {self.fsaverage}"
            )
        if sorted(self.vertices) != sorted(REGIONS):
            raise ParameterError(
                f"vertices must have exactly the regions {', '.join(REGIONS)}, "
                f"got {', '.join(self.vertices)}"
            )


@dataclass(frozen=True)
class SyntheticPlan:
    """The shape of a whole dataset.

    Attributes
    ----------
    name : str
        The dataset's name, as written to ``dataset.json``.
    trials_per_session : int
        Trials of every session.
    images_per_subject : int
        Images planned for a subject, each for three trials; with `trials_per_session` this fixes
        the number of planned sessions.
    subjects : mapping of int to SubjectPlan
        The subjects (1 to 8).
    shared_repetitions : mapping of tuple of int to int
        How many shared images have how many repetitions. A key has one number for each of
        `session_counts`: ``{(2, 3): 4}`` with session counts (5, 6) asks for four shared images
        that are seen twice within 5 sessions and three times within 6.
    image_size : tuple of int
        Height and width of the pictures, pixels.
    processes : int
        Processes that write subjects side by side; the bytes do not depend on it.
    surfaces : SurfacePlan, optional
        The shape of its surfaces, where it can have them.
    """

    name: str
    trials_per_session: int
    images_per_subject: int
    subjects: Mapping[int, SubjectPlan]
    shared_repetitions: Mapping[tuple[int, ...], int]
    image_size: tuple[int, int]
    processes: int = 1
    surfaces: SurfacePlan | None = None

    def __post_init__(self) -> None:
        if not self.subjects or not set(self.subjects) <= set(range(1, SUBJECTS_IN_DESIGN + 1)):
            raise ParameterError(f"subjects must be among 1..8, got {sorted(self.subjects)}")
        if self.planned_trials % self.trials_per_session:
            raise ParameterError(
                f"{self.images_per_subject} images shown {REPETITIONS} times are no whole number "
                f"of sessions of {self.trials_per_session} trials"
            )
        if self.session_counts[-1] > self.planned_sessions:
            raise ParameterError(
                f"a subject has {self.session_counts[-1]} sessions, but the images are enough for "
                f"{self.planned_sessions}"
            )
        for key in self.shared_repetitions:
            if len(key) != len(self.session_counts):
                raise ParameterError(
                    f"a key of shared_repetitions needs one number for each of the session counts "
                    f"{self.session_counts}, got {key}"
                )
        if self.surfaces is not None and not set(self.subjects) <= set(self.surfaces.native):
            raise ParameterError(
                f"surfaces must have the subjects {sorted(self.subjects)}, "
                f"got {sorted(self.surfaces.native)}"
            )
        if self.shared_images > self.images_per_subject:
            raise ParameterError(
                f"{self.shared_images} shared images are more than the {self.images_per_subject} "
                f"images of a subject"
            )

    @property
    def planned_trials(self) -> int:
        """Trials that the design plans for a subject, also beyond the sessions that it has."""
        return REPETITIONS * self.images_per_subject

    @property
    def planned_sessions(self) -> int:
        """Sessions that the design plans for a subject."""
        return self.planned_trials // self.trials_per_session

    @property
    def session_counts(self) -> tuple[int, ...]:
        """The different numbers of sessions that subjects have, ascending."""
        return tuple(sorted({subject.sessions for subject in self.subjects.values()}))

    @property
    def shared_images(self) -> int:
        """Number of images that every subject sees."""
        return sum(self.shared_repetitions.values())

    @property
    def images(self) -> int:
        """Number of images of the dataset: shared ones, and eight subjects' own ones."""
        own = self.images_per_subject - self.shared_images
        return self.shared_images + SUBJECTS_IN_DESIGN * own

    @property
    def runs(self) -> tuple[int, int]:
        """Runs of a session and slots of a run, of which some show no image (NSD: 12 and 75)."""
        runs = 12 if self.trials_per_session >= 120 else 3
        trials = ceil(self.trials_per_session / runs)
        return runs, trials + max(1, trials // 5)


def _subject(
    grid: tuple[int, int, int],
    sessions: int,
    voxels: tuple[int, int, int, int, int, int],
    medians: tuple[float, float, float, float],
) -> SubjectPlan:
    v1, v2, v4, it = medians
    ceilings = {"V1": v1, "V2": v2, "V3": v2, "V4": v4, "IT": it, "other": 3.0}
    return SubjectPlan(grid, sessions, dict(zip(REGIONS, voxels, strict=True)), ceilings)


# Median noise ceilings of V1, V2, V4 and IT as published for the real data, subjects 1..8.
_MEDIANS = (
    (48.0, 40.2, 27.4, 8.9),
    (49.1, 31.0, 42.1, 11.0),
    (38.7, 32.0, 26.1, 7.5),
    (33.7, 31.7, 21.2, 8.6),
    (40.9, 36.1, 30.3, 11.3),
    (38.8, 32.0, 23.8, 8.6),
    (25.5, 25.5, 20.5, 6.0),
    (21.5, 20.1, 19.4, 4.7),
)


def _small_surfaces(
    fsaverage: int, vertices: tuple[tuple[int, int], ...], *, by_default: bool
) -> SurfacePlan:
    """Return surfaces with as many native vertices for each of fsaverage's as NSD's have."""
    native = {}
    for subject, sizes in NATIVE_VERTICES.items():
        left, right = (
            of_nsd * fsaverage // template
            for of_nsd, template in zip(sizes, FSAVERAGE_VERTICES, strict=True)
        )
        native[subject] = (left, right + (left == right))  # never of one size
    regions = dict(zip(REGIONS, vertices, strict=True))
    return SurfacePlan(fsaverage, native, regions, by_default=by_default)


# Six sessions of few trials say little about a voxel, so the smallest dataset has a strong signal.
_STRONG = (72.0, 68.0, 65.0, 45.0)

_TINY = SyntheticPlan(
    name="synthetic-tiny",
    trials_per_session=30,
    images_per_subject=60,
    subjects={
        1: _subject((9, 12, 10), 6, (20, 18, 10, 14, 52, 5), _STRONG),
        2: _subject((10, 13, 11), 6, (17, 16, 9, 13, 48, 4), _STRONG),
        5: _subject((11, 12, 9), 5, (22, 19, 11, 12, 56, 5), _STRONG),
    },
    shared_repetitions={(3, 3): 24, (2, 3): 5, (1, 3): 2, (0, 3): 1},
    image_size=(8, 8),
    surfaces=_small_surfaces(
        642, ((11, 10), (9, 10), (5, 6), (8, 7), (26, 28), (3, 3)), by_default=True
    ),
)

_DEMO = SyntheticPlan(
    name="synthetic-demo",
    trials_per_session=75,
    images_per_subject=250,
    subjects={
        1: _subject((24, 31, 25), 10, (150, 151, 60, 149, 310, 16), _MEDIANS[0]),
        2: _subject((25, 32, 26), 10, (122, 113, 60, 105, 334, 16), _MEDIANS[1]),
        3: _subject((23, 31, 24), 9, (139, 120, 60, 93, 333, 16), _MEDIANS[2]),
        4: _subject((26, 30, 24), 8, (97, 91, 60, 103, 312, 16), _MEDIANS[3]),
        5: _subject((24, 29, 23), 10, (124, 114, 60, 118, 270, 16), _MEDIANS[4]),
        6: _subject((26, 34, 25), 9, (125, 124, 60, 104, 395, 16), _MEDIANS[5]),
        7: _subject((23, 28, 24), 10, (127, 104, 60, 86, 266, 16), _MEDIANS[6]),
        8: _subject((24, 30, 23), 8, (119, 109, 60, 108, 341, 16), _MEDIANS[7]),
    },
    shared_repetitions={
        (3, 3, 3): 130,
        (2, 3, 3): 18,
        (1, 3, 3): 3,
        (2, 2, 3): 14,
        (1, 2, 3): 3,
        (1, 1, 3): 5,
        (0, 1, 3): 1,
        (0, 0, 3): 2,
    },
    image_size=(64, 64),
    surfaces=_small_surfaces(
        2562, ((74, 72), (60, 63), (30, 31), (42, 45), (170, 172), (8, 9)), by_default=False
    ),
)

# Grids, sessions, voxels and vertices of V1, V2, V4 and IT are NSD's. The shared images'
# repetitions within 30, 32 and 40 sessions add up to the published counts: 515/251/141/93 and
# 614/213/103/70.
_FULL = SyntheticPlan(
    name="synthetic-full",
    trials_per_session=750,
    images_per_subject=10_000,
    subjects={
        1: _subject((81, 104, 83), 40, (1350, 1433, 300, 687, 7604, 60), _MEDIANS[0]),
        2: _subject((82, 106, 84), 40, (1102, 1075, 300, 483, 8185, 60), _MEDIANS[1]),
        3: _subject((81, 106, 82), 32, (1254, 1141, 300, 426, 8167, 60), _MEDIANS[2]),
        4: _subject((85, 99, 80), 30, (877, 863, 300, 475, 7645, 60), _MEDIANS[3]),
        5: _subject((79, 97, 78), 40, (1113, 1081, 300, 542, 6619, 60), _MEDIANS[4]),
        6: _subject((85, 113, 83), 32, (1127, 1180, 300, 477, 9666, 60), _MEDIANS[5]),
        7: _subject((78, 95, 81), 40, (1142, 986, 300, 397, 6515, 60), _MEDIANS[6]),
        8: _subject((80, 103, 78), 30, (1074, 1033, 300, 495, 8350, 60), _MEDIANS[7]),
    },
    shared_repetitions={
        (3, 3, 3): 515,
        (2, 3, 3): 96,
        (1, 3, 3): 3,
        (2, 2, 3): 155,
        (1, 2, 3): 55,
        (0, 2, 3): 3,
        (1, 1, 3): 83,
        (0, 1, 3): 20,
        (0, 0, 3): 70,
    },
    image_size=(16, 16),
    processes=2,
    surfaces=SurfacePlan(
        fsaverage=FSAVERAGE_VERTICES[0],
        native=dict(NATIVE_VERTICES),  # travels to other processes
        vertices={
            "V1": (2153, 2123),
            "V2": (1643, 1748),
            "V3": (300, 310),
            "V4": (410, 504),
            "IT": (9480, 9585),
            "other": (120, 130),
        },
        every_mgh=False,
    ),
)

PLANS: Mapping[str, SyntheticPlan] = {"tiny": _TINY, "demo": _DEMO, "full": _FULL}
"""The plans behind the scales of `nsd_prep.synthetic.write_synthetic_nsd`."""
