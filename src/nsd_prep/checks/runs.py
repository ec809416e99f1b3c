"""Are a session's runs in their places? Their trials agree with other sessions' as the rest do."""

from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks.trial_agreement import (
    HIGHEST_AGREEMENT_OF_MISPLACED,
    LOWEST_AGREEMENT,
    MARGIN,
    AgreementScores,
)
from nsd_prep.core.check import Check, Verdict, check, worst

#: Standard errors below `HIGHEST_AGREEMENT_OF_MISPLACED` that make a suspicion.
MARGIN_OF_SUSPICION: Final = 4.0
#: Trials below which nothing is decided about a part of a session, or nothing is sure.
FEWEST_TRIALS: Final = 6
FEWEST_TRIALS_OF_FAILED: Final = 8
#: An exchange of two runs would be seen where a suspicion is so many standard errors away, and
#: runs are in their places where this share of all exchanges would be.
MARGIN_OF_SEEN: Final = 2.0
LOWEST_SHARE_SEEN: Final = 0.9

RUNS: Final = "runs in their places"


def run_table(scores: AgreementScores) -> pd.DataFrame:
    """Look for runs at chance in sessions that are in their places otherwise.

    Every stretch of runs and every pair of runs is compared with the rest of its session.

    Parameters
    ----------
    scores : AgreementScores
        Of a subject.

    Returns
    -------
    DataFrame
        A row for each session: verdict_of_runs (as in `nsd_prep.core.check`), runs (which are at
        chance, such as "from run 5 of 12 on"; empty where none is), and seen (share of all
        exchanges of two runs that would be found with a margin, 0 to 1).
    """
    sessions = pd.Index(scores.sessions, name="session")
    n_runs = scores.sums.shape[1]
    if n_runs < 2:
        return pd.DataFrame({"verdict_of_runs": "passed", "runs": "", "seen": 0.0}, sessions)
    stretches = [(a, b) for a, b in combinations(range(n_runs + 1), 2) if b - a < n_runs]
    apart = [(a, b) for a, b in combinations(range(n_runs), 2) if b - a > 1]
    member = np.zeros((len(stretches) + len(apart), n_runs))
    for index, (start, end) in enumerate(stretches):
        member[index, start:end] = 1
    for index, pair in enumerate(apart, len(stretches)):
        member[index, list(pair)] = 1
    inside = member @ scores.sums
    value, error = scores.judged(inside)
    others, others_error = scores.judged(scores.sums.sum(axis=1, keepdims=True) - inside)
    bound = HIGHEST_AGREEMENT_OF_MISPLACED
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.hypot(error, bound * others_error)
        sure = (bound * others - value) / spread
        enough = (inside[..., 3] >= FEWEST_TRIALS) & (others > MARGIN * others_error)
        possible = enough & (value < LOWEST_AGREEMENT * others)
        seen = (
            enough
            & (bound * others / spread > MARGIN_OF_SUSPICION + MARGIN_OF_SEEN)
            & (LOWEST_AGREEMENT * others > MARGIN_OF_SEEN * error)
        )
    sure = np.where(possible & np.isfinite(sure), sure, -np.inf)
    best = np.argmax(sure, axis=1)
    rows = np.arange(len(sure))
    highest, n_trials = sure[rows, best], inside[rows, best, 3]
    failed = (highest > MARGIN) & (n_trials >= FEWEST_TRIALS_OF_FAILED)
    found = highest >= MARGIN_OF_SUSPICION
    verdicts = np.where(failed, "failed", np.where(found, "suspicious", "passed"))
    named = [
        _runs_named(runs) if any_found else ""
        for runs, any_found in zip(member[best] > 0, found, strict=True)
    ]
    exchanges = member.sum(axis=1) == 2
    return pd.DataFrame(
        {
            "verdict_of_runs": verdicts,
            "runs": named,
            "seen": seen[:, exchanges].sum(axis=1) / max(int(exchanges.sum()), 1),
        },
        index=sessions,
    )


def _runs_named(runs: NDArray[np.bool_]) -> str:
    numbers = np.flatnonzero(runs) + 1
    first, last, n_runs = numbers[0], numbers[-1], len(runs)
    if len(numbers) == 1:
        return f"run {first} of {n_runs}"
    if last - first >= len(numbers):
        return f"runs {first} and {last} of {n_runs}"
    if last == n_runs:
        return f"from run {first} of {n_runs} on"
    return f"runs {first} to {last} of {n_runs}"


def check_runs(where: str, table: pd.DataFrame) -> Check:
    """Check that every run of a subject's sessions is in its place, and name those that are not.

    Parameters
    ----------
    where : str
        Which subject, as the check names it.
    table : DataFrame
        As `run_table` gives it, of the sessions that are in their places otherwise.

    Returns
    -------
    Check
        Failed or suspicious where runs are at chance; not decidable where an exchange of two runs
        would too often not be seen.
    """
    found = table[table["runs"] != ""]
    seen = float(table["seen"].mean()) if len(table) else 0.0
    value = f"{seen:.0%} of all exchanges of two runs would be seen"
    meaning = "Every run's responses agree with other sessions' responses to the same images."
    verdict: Verdict = "passed"
    if len(found):
        verdict = worst(found["verdict_of_runs"])
        value = "; ".join(f"session {session} {runs}" for session, runs in found["runs"].items())
        meaning = "These runs' trials show other images than the design says: runs were exchanged."
        if found["runs"].str.startswith("from").any():
            meaning = (
                "From there on the session's trials show other images than the design says, or "
                "hold no data: a trial was lost or is there twice, or the file has holes."
            )
    elif not seen >= LOWEST_SHARE_SEEN:  # NaN of sessions without two runs
        verdict = "not decidable"
        meaning = "A run has too few shared images, or too weak a signal, to tell."
    return check(
        RUNS,
        where,
        value,
        f"no run at chance, and {LOWEST_SHARE_SEEN:.0%} of all exchanges would be seen",
        verdict,
        meaning,
    )
