"""What checks find in the records of a subject's sessions, and how many sessions they need."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.check import Verdict, any_verdict
from nsd_prep.extraction.statistics import BetaStatistics

SubjectRecords = Mapping[int, Mapping[str, BetaStatistics]]

#: Voxels in all regions below which sessions are not compared at all: a few may be anything.
FEWEST_COMPARED: Final = 20
#: Sessions below which no session can be told from the others by its scale.
FEWEST_SESSIONS: Final = 3
#: A session's verdict, and what was found; "" where it has too little data.
Finding = tuple[Verdict, str]
WITHOUT_DATA: Final[Finding] = ("not decidable", "")


def meanings_of_sessions(wrong: str, passed: str) -> Mapping[str, str]:
    """Return the meanings of a kind of check that compares sessions."""
    return {
        **any_verdict(wrong),
        "passed": passed,
        "not decidable": "Sessions have too little data, or differ too much from each other, to "
        "tell.",
    }


@dataclass(frozen=True)
class SessionFindings:
    """What a check found in a subject's sessions.

    Attributes
    ----------
    sessions : dict of int to (str, str)
        Sessions (1-based) that are not as they should be, each with its verdict and what was found.
    measured : float
        What was measured in the session that is least as it should be; NaN where in none.
    session, run : int, optional
        Where that was.
    lower, upper : float, optional
        Its bounds.
    unit : str
        As in `nsd_prep.core.check.Check`.
    """

    sessions: dict[int, Finding]
    measured: float = float("nan")
    session: int | None = None
    run: int | None = None
    lower: float | None = None
    upper: float | None = None
    unit: str = ""


def by_session(records: SubjectRecords, attribute: str) -> NDArray[np.float64]:
    """Return an attribute of each part, (n_sessions, n_regions)."""
    return np.array(
        [[getattr(part, attribute) for part in regions.values()] for regions in records.values()],
        dtype=np.float64,
    )
