"""The likeliest causes of what is wrong: one of a subject explains many failed checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from nsd_prep.checks.alignment import NCSNR_OF_VOXELS, TRIALS_OF_IMAGES
from nsd_prep.checks.hemispheres import HEMISPHERES
from nsd_prep.checks.images import IMAGES_OF_RESPONSES
from nsd_prep.checks.placement import INSIDE_BRAIN_MASK, MASK_IN_BRAIN, ORIENTATION
from nsd_prep.checks.presentations import SINGLE_TRIALS_OF_IMAGES
from nsd_prep.checks.published_kinds import (
    PUBLISHED_RDM_DEVIATION,
    PUBLISHED_REGION_CORRELATION,
    PUBLISHED_SUBJECT_CORRELATION,
)
from nsd_prep.checks.region_identity import REGION_IDENTITY
from nsd_prep.checks.region_order import REGION_ORDER
from nsd_prep.checks.reliability import SPLIT_HALF_RELIABILITY
from nsd_prep.checks.runs import RUNS_IN_PLACE
from nsd_prep.checks.scales import SCALE_OF_RUNS, SCALE_OF_SESSIONS
from nsd_prep.checks.session_statistics import (
    SESSIONS_DIFFER,
    TRIALS_WITH_DATA,
    VOXELS_IN_PLACE,
    VOXELS_WITH_DATA,
)
from nsd_prep.checks.sessions import SESSIONS_IN_PLACE
from nsd_prep.checks.subject_agreement import EACH_SUBJECT_AGREES, SUBJECTS_AGREE
from nsd_prep.core.check import PROBLEMS, Check, Kind

#: What is wrong with files and masks themselves: nothing else explains it.
_ROOTS: Final[tuple[Kind, ...]] = (
    SESSIONS_DIFFER,
    TRIALS_WITH_DATA,
    VOXELS_WITH_DATA,
    ORIENTATION,
    HEMISPHERES,
    INSIDE_BRAIN_MASK,
    MASK_IN_BRAIN,
)
#: What these and each other explain, what names a place first.
_OF_SUBJECT: Final[tuple[Kind, ...]] = (
    SESSIONS_IN_PLACE,
    RUNS_IN_PLACE,
    TRIALS_OF_IMAGES,
    SINGLE_TRIALS_OF_IMAGES,
    NCSNR_OF_VOXELS,
    SPLIT_HALF_RELIABILITY,
    REGION_IDENTITY,
    EACH_SUBJECT_AGREES,
    SCALE_OF_SESSIONS,
    SCALE_OF_RUNS,
    VOXELS_IN_PLACE,
)
_OF_RUN: Final[tuple[Kind, ...]] = (
    SUBJECTS_AGREE,
    REGION_ORDER,
    IMAGES_OF_RESPONSES,
    PUBLISHED_RDM_DEVIATION,
    PUBLISHED_SUBJECT_CORRELATION,
    PUBLISHED_REGION_CORRELATION,
)
_RANKS: Final[Mapping[str, int]] = MappingProxyType(
    {kind.name: rank for rank, kind in enumerate((*_ROOTS, *_OF_SUBJECT, *_OF_RUN))}
)
_EXPLAINED: Final = frozenset(kind.name for kind in (*_OF_SUBJECT, *_OF_RUN))


@dataclass(frozen=True)
class Cause:
    """Checks of one kind and subject, and those that fail or are suspicious for the same reason.

    Attributes
    ----------
    checks : tuple of Check
        Of one kind: the likeliest cause.
    others : tuple of Check
        What it explains; empty where it stands alone.
    """

    checks: tuple[Check, ...]
    others: tuple[Check, ...] = ()


def likeliest_causes(checks: Sequence[Check]) -> list[Cause]:
    """Group the failed and suspicious checks by their likeliest causes.

    A subject's cause is a failed check before a suspicious one, and among these one of files or
    masks, then of sessions, runs, trials, voxels: what fails further on follows from it.

    Parameters
    ----------
    checks : sequence of Check
        All of a run.

    Returns
    -------
    list of Cause
        Those with a failed check first; every failed or suspicious check is in one of them.
    """
    problems = [check for verdict in PROBLEMS for check in checks if check.verdict == verdict]
    causes: list[Cause] = []
    explained: set[int] = set()
    of_run = [check for check in problems if not check.subject and check.name in _EXPLAINED]
    for subject in dict.fromkeys(check.subject for check in problems if check.subject):
        own = [check for check in problems if check.subject == subject and check.name in _RANKS]
        if not own:
            continue
        first = min(own, key=lambda check: (PROBLEMS.index(check.verdict), _RANKS[check.name]))
        same = tuple(check for check in own if check.name == first.name)
        others = [check for check in own if check.name != first.name and check.name in _EXPLAINED]
        if not causes:  # what is wrong in the run follows from the first
            others += of_run
        causes.append(Cause(same, tuple(others)))
        explained |= {id(check) for check in (*same, *others)}
    causes += [Cause((check,)) for check in problems if id(check) not in explained]
    return sorted(causes, key=lambda cause: PROBLEMS.index(cause.checks[0].verdict))
