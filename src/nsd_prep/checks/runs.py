"""Are a session's runs in their places? Their trials agree with other sessions' as the rest do."""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks.probes import N_PROBES
from nsd_prep.checks.trial_agreement import (
    HIGHEST_AGREEMENT_OF_MISPLACED,
    LOWEST_AGREEMENT,
    MARGIN_OF_SURE,
    AgreementScores,
)
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, number_text, worst

#: Standard errors below `HIGHEST_AGREEMENT_OF_MISPLACED` that make a suspicion.
MARGIN_OF_SUSPICIOUS_RUN: Final = 4.0
#: Trials below which nothing is decided about a part of a session, or nothing is sure.
FEWEST_TRIALS_OF_RUNS: Final = 6
FEWEST_TRIALS_OF_FAILED_RUNS: Final = 8
#: An exchange of two runs would be seen where a suspicion is so many standard errors away, and
#: runs are in their places where this share of all exchanges would be.
MARGIN_OF_SEEN: Final = 2.0
LOWEST_SHARE_SEEN: Final = 0.9

#: What the trials of runs at chance show.
EXCHANGED: Final = "exchanged"
SHIFTED: Final = "shifted"
UNSEEN: Final = "unseen"

RUNS_IN_PLACE: Final = Kind(
    name="runs in their places",
    scope="subject, or run where none can be decided",
    measures="agreement of runs' trials, as for sessions, against the rest of their session; of "
    f"all images seen three times, over the {N_PROBES} voxels of the highest ncsnr of each region",
    draws=("trials",),
    conditions={
        "failed": f"runs at chance: below {LOWEST_AGREEMENT:g} of the session's agreement, and "
        f"below {HIGHEST_AGREEMENT_OF_MISPLACED:g} by {MARGIN_OF_SURE:g} standard errors; and "
        "their trials agree instead with the images of another run, or of the next or last trial: "
        f"above {LOWEST_AGREEMENT:g}, and above 0 by {MARGIN_OF_SURE:g} standard errors",
        "suspicious": f"at chance by {MARGIN_OF_SUSPICIOUS_RUN:g}, with other images or none: a "
        "subject may sleep for a run",
        "not decidable": f"fewer than {LOWEST_SHARE_SEEN:.0%} of all exchanges of two runs would "
        "be seen",
        "passed": "no run at chance",
    },
    value="{found}",
    expectation=f"no run at chance, and {LOWEST_SHARE_SEEN:.0%} of all exchanges would be seen",
    lower=LOWEST_SHARE_SEEN,
    unit="share of exchanges",
    meanings={
        "passed": "Every run's responses agree with other sessions' responses to the same images.",
        "not decidable": "A run has too few repeated images, or too weak a signal, to tell.",
        EXCHANGED: "These runs' trials show the images of other runs of the session: runs were "
        "exchanged.",
        SHIFTED: "These trials show the images of the trials next to them: a trial was lost or "
        "appears twice.",
        UNSEEN: "The subject may have slept or closed their eyes in these runs: compare regions "
        "elsewhere in the brain. At chance everywhere, the trials are another session's "
        "or in another order, or the file has holes.",
    },
    thresholds=(
        Threshold("agreement of a run at chance", LOWEST_AGREEMENT, "simulations"),
        Threshold("surely below", HIGHEST_AGREEMENT_OF_MISPLACED, "simulations"),
        Threshold("standard errors, failed", MARGIN_OF_SURE, "simulations: no sound run"),
        Threshold("standard errors, suspicious", MARGIN_OF_SUSPICIOUS_RUN, "simulations"),
        Threshold("fewest trials of runs", FEWEST_TRIALS_OF_RUNS, "simulations"),
        Threshold("fewest trials for *failed*", FEWEST_TRIALS_OF_FAILED_RUNS, "simulations"),
        Threshold("standard errors of what would be seen", MARGIN_OF_SEEN, "simulations"),
        Threshold("share of exchanges that would be seen", LOWEST_SHARE_SEEN, "nine of ten"),
    ),
)


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
        A row for each session: verdict_of_runs (as in `nsd_prep.core.check`), runs (a tuple of
        those at chance, 1-based; empty where none is), shown (what their trials show: "exchanged",
        "shifted" or "unseen"; empty where none is), n_runs (of the session) and seen (share of all
        exchanges of two runs that would be found with a margin, 0 to 1).
    """
    sessions = pd.Index(scores.sessions, name="session")
    n_runs = scores.sums.shape[1]
    if n_runs < 2:
        columns = {
            "verdict_of_runs": "passed",
            "runs": pd.Series([()] * len(sessions), sessions),
            "shown": "",
            "n_runs": n_runs,
            "seen": 0.0,
        }
        return pd.DataFrame(columns, sessions)
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
        enough = (inside[..., 3] >= FEWEST_TRIALS_OF_RUNS) & (
            others > MARGIN_OF_SURE * others_error
        )
        possible = enough & (value < LOWEST_AGREEMENT * others)
        seen = (
            enough
            & (bound * others / spread > MARGIN_OF_SUSPICIOUS_RUN + MARGIN_OF_SEEN)
            & (LOWEST_AGREEMENT * others > MARGIN_OF_SEEN * error)
        )
    sure = np.where(possible & np.isfinite(sure), sure, -np.inf)
    best = np.argmax(sure, axis=1)
    rows = np.arange(len(sure))
    highest, n_trials = sure[rows, best], inside[rows, best, 3]
    is_suspicious = highest >= MARGIN_OF_SUSPICIOUS_RUN
    shown = np.array(
        [
            _shown_by(scores, row, np.flatnonzero(member[best[row]]), others[row, best[row]])
            if is_suspicious[row]
            else ""
            for row in rows.tolist()
        ]
    )
    failed = (
        (highest > MARGIN_OF_SURE)
        & (n_trials >= FEWEST_TRIALS_OF_FAILED_RUNS)
        & np.isin(shown, (EXCHANGED, SHIFTED))
    )
    verdicts = np.where(failed, "failed", np.where(is_suspicious, "suspicious", "passed"))
    runs = [
        tuple((np.flatnonzero(inside) + 1).tolist()) if any_found else ()
        for inside, any_found in zip(member[best] > 0, is_suspicious, strict=True)
    ]
    exchanges = member.sum(axis=1) == 2
    return pd.DataFrame(
        {
            "verdict_of_runs": verdicts,
            "runs": pd.Series(runs, sessions),
            "shown": shown,
            "n_runs": n_runs,
            "seen": seen[:, exchanges].sum(axis=1) / max(int(exchanges.sum()), 1),
        },
        index=sessions,
    )


def _shown_by(scores: AgreementScores, session: int, runs: NDArray[np.int64], usual: float) -> str:
    """Return what the trials of runs at chance show, by index: other runs' images, the next, none.

    `usual` is the agreement of the rest of the session.
    """
    n_runs = scores.sums.shape[1]
    instead = scores.sums_instead[session, runs]
    value, error = scores.judged(instead[:, :n_runs])
    with np.errstate(invalid="ignore", divide="ignore"):
        sure = np.nan_to_num(value / error, nan=-np.inf)
    sure[np.arange(len(runs)), runs] = -np.inf  # a run itself
    partners = instead[np.arange(len(runs)), np.argmax(sure, axis=1)].sum(axis=0)
    candidates = np.stack([partners, *instead[:, n_runs:].sum(axis=0)])
    value, error = scores.judged(candidates)
    with np.errstate(invalid="ignore"):
        shows = (value > LOWEST_AGREEMENT * usual) & (value > MARGIN_OF_SURE * error)
    if not shows.any():
        return UNSEEN
    return (EXCHANGED, SHIFTED, SHIFTED)[int(np.argmax(np.where(shows, value, -np.inf)))]


def _runs_named(runs: Sequence[int], n_runs: int) -> str:
    first, last = runs[0], runs[-1]
    if len(runs) == 1:
        return f"run {first} of {n_runs}"
    if last - first >= len(runs):
        return f"runs {first} and {last} of {n_runs}"
    if last == n_runs:
        return f"from run {first} of {n_runs} on"
    return f"runs {first} to {last} of {n_runs}"


def check_runs(subject: str, table: pd.DataFrame, data: str = "") -> Check:
    """Check that every run of a subject's sessions is in its place, and name those that are not.

    Parameters
    ----------
    subject : str
        Such as "subj01".
    table : DataFrame
        As `run_table` gives it, of the sessions that are in their places otherwise.
    data : str
        As in `nsd_prep.core.check.Check`.

    Returns
    -------
    Check
        Failed or suspicious where runs are at chance; not decidable where an exchange of two runs
        would too often not be seen.
    """
    misplaced = table[table["runs"].map(len) > 0]
    seen = float(table["seen"].mean()) if len(table) else 0.0
    text = f"{number_text(seen, '.0%')} of all exchanges of two runs would be seen"
    verdict: Verdict = "passed"
    reason = ""
    session = run = None
    if len(misplaced):
        verdict = worst(misplaced["verdict_of_runs"])
        n_runs = misplaced["n_runs"].astype(int)
        sessions = list(zip(misplaced.index, misplaced["runs"], n_runs, strict=True))
        text = "; ".join(f"session {number} {_runs_named(*runs)}" for number, *runs in sessions)
        at_worst = misplaced.loc[misplaced["verdict_of_runs"] == verdict, "shown"]
        reason = next(cause for cause in (SHIFTED, EXCHANGED, UNSEEN) if (at_worst == cause).any())
        if len(sessions) == 1:
            session = int(sessions[0][0])
            run = sessions[0][1][0] if len(sessions[0][1]) == 1 else None
    elif not seen >= LOWEST_SHARE_SEEN:  # NaN of sessions without two runs
        verdict = "not decidable"
    return RUNS_IN_PLACE.check(
        verdict,
        subject=subject,
        data=data,
        session=session,
        run=run,
        measured=seen,
        reason=reason,
        found=text,
    )


def undecided_once(checks: Sequence[Check]) -> list[Check]:
    """Return checks with one in place of those of runs that are not decidable, where several are.

    It stands where the first of them was, and names the subjects.
    """
    undecided = [
        check
        for check in checks
        if (check.name, check.verdict) == (RUNS_IN_PLACE.name, "not decidable") and check.subject
    ]
    if len(undecided) < 2:
        return list(checks)
    seen = [check.measured for check in undecided if check.measured is not None]
    subjects = ", ".join(dict.fromkeys(check.subject for check in undecided))
    together = RUNS_IN_PLACE.check(
        "not decidable",
        data=undecided[0].data if len({check.data for check in undecided}) == 1 else "",
        measured=max(seen, default=None),
        found=f"at most {max(seen, default=0.0):.0%} of all exchanges of two runs would be seen in "
        f"{subjects}",
    )
    others = {id(check) for check in undecided[1:]}
    return [
        together if check is undecided[0] else check for check in checks if id(check) not in others
    ]
