"""Is every session in its place, run by run? Its trials agree with others' of the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks import Check, Verdict, check, worst
from nsd_prep.data_checks.single_trials import SingleTrials
from nsd_prep.session_record import run_lengths

#: Agreement, as a share of what the ncsnr predicts, below which a session is out of its place.
#: Lower than for whole regions: a session with a tired subject has weaker responses.
LOWEST_AGREEMENT: Final = 0.25
#: A session that is called misplaced lies surely below this, and below `TIRED` by the smaller
#: margin: a tired subject's session with a third of the signal is suspicious, not failed.
HIGHEST_AGREEMENT_OF_MISPLACED: Final = 0.75
TIRED: Final = 1 / 3
#: "Surely", in standard errors; the smaller margins make a suspicion.
MARGIN: Final = 5.0
MARGIN_OF_SUSPICION: Final = 4.0
MARGIN_OF_SUSPICION_OF_RUNS: Final = 3.5
MARGIN_OF_TIRED: Final = 2.5
#: A session surely above 0 by so many standard errors is weak, not misplaced.
MARGIN_OF_WEAK: Final = 2.5
#: Trials below which nothing is decided about a session, or part of one.
FEWEST_TRIALS: Final = 4
FEWEST_TRIALS_OF_RUNS: Final = 6
FEWEST_TRIALS_OF_FAILED: Final = 8

SESSIONS: Final = "sessions in their places"
_SESSIONS_NAMED: Final = 10


@dataclass(frozen=True)
class TrialAgreement:
    """How each trial agrees with the same image's trials in other sessions.

    Attributes
    ----------
    session, trial : ndarray of int64, shape (n_images, 3)
        Session (1-based) and trial in the session (0-based) of each repetition of each image.
    agreement : ndarray of float64, shape (n_images, 3)
        Sum over voxels, weighted by their signal, of the products of a trial's response with the
        mean of the same image's in other sessions, less the same with the other images of the
        session (chance); NaN where no other session shows the image.
    expected : ndarray of float64, shape (n_images, 3)
        What the stored ncsnr predicts for it, of the voxels with data in both.
    trials_per_session : int
        Trials in a session, of which `trial` counts.
    """

    session: NDArray[np.int64]
    trial: NDArray[np.int64]
    agreement: NDArray[np.float64]
    expected: NDArray[np.float64]
    trials_per_session: int


def agreement_of_trials(trials: SingleTrials) -> TrialAgreement:
    """Compare each trial with the same image's trials in other sessions.

    Voxels count where they have data: a session of zeros has no agreement, and takes nothing from
    that of others.

    Parameters
    ----------
    trials : SingleTrials
        Of a subject and region.

    Returns
    -------
    TrialAgreement
        Sums over voxels: those of a subject's regions may be added.
    """
    session = trials.session
    elsewhere = session[:, :, np.newaxis] != session[:, np.newaxis, :]
    n_elsewhere = elsewhere.sum(axis=2)
    scored = n_elsewhere > 0
    share = elsewhere / np.maximum(n_elsewhere, 1)[:, :, np.newaxis]
    numbers, number = np.unique(session, return_inverse=True)
    number = number.reshape(session.shape)
    belongs = (number.ravel() == np.arange(len(numbers))[:, np.newaxis]) & scored.ravel()
    trials_in_session = belongs.sum(axis=1)[number]
    # How many scored trials of the session show the trial's own image.
    own = (~elsewhere & scored[:, np.newaxis, :]).sum(axis=2)

    same = np.zeros(session.shape)
    all_images = np.zeros(session.shape)
    expected = np.zeros(session.shape)
    for _, values, valid, signal in trials.blocks():
        if not signal.any():
            continue
        if valid is None:
            others = share @ values
            expected += np.where(scored, signal @ signal, 0)
        else:
            available = elsewhere.astype(np.float64) @ valid
            others = elsewhere.astype(np.float64) @ values / np.maximum(available, 1)
            expected += ((available > 0) & valid) @ signal**2
        sums = belongs.astype(np.float64) @ others.reshape(-1, others.shape[2])
        values *= signal
        same += np.einsum("irv,irv->ir", values, others)
        with_sessions = values.reshape(-1, values.shape[2]) @ sums.T
        in_own_session = np.take_along_axis(with_sessions, number.reshape(-1, 1), axis=1)
        all_images += in_own_session.reshape(session.shape)
    n_different = trials_in_session - own
    scored &= n_different > 0
    chance = (all_images - own * same) / np.maximum(n_different, 1)
    return TrialAgreement(
        session,
        trials.trial,
        np.where(scored, same - chance, np.nan),
        np.where(scored, expected, 0.0),
        trials.trials_per_session,
    )


class _Scores:
    """Agreement of a subject's trials, added over regions, in sums over runs of sessions.

    `sums` is (n_sessions, n_runs, 4): agreement, expectation, its square, trials. `spread` is the
    standard deviation of a trial's agreement, relative to its expectation: one for all sessions,
    since a session's own would rest on few trials.
    """

    def __init__(self, regions: Sequence[TrialAgreement]) -> None:
        first = regions[0]
        agreement = np.nansum([region.agreement for region in regions], axis=0).ravel()
        expected = np.sum([region.expected for region in regions], axis=0).ravel()
        self.sessions, session = np.unique(first.session.ravel(), return_inverse=True)
        ends = np.cumsum(run_lengths(first.trials_per_session))
        run = np.minimum(np.searchsorted(ends, first.trial.ravel(), side="right"), len(ends) - 1)
        scored = expected > 0
        self.sums = np.zeros((len(self.sessions), len(ends), 4))
        columns = np.stack([agreement, expected, expected**2, np.ones_like(expected)], axis=1)
        np.add.at(self.sums, (session[scored], run[scored]), columns[scored])
        totals = self.sums.sum(axis=1)
        value = totals[:, 0] / np.where(totals[:, 1] > 0, totals[:, 1], np.nan)
        residual = agreement - value[session] * expected
        freedom = max(int(totals[:, 3].sum() - np.count_nonzero(totals[:, 3])), 1)
        squares = float(totals[:, 2].sum()) / max(float(totals[:, 3].sum()), 1.0)
        self.spread = (
            float(np.sqrt((residual[scored] ** 2).sum() / freedom / squares)) if squares else 0.0
        )

    def judged(self, sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the agreement of groups of trials, and its standard error, from their sums."""
        expected = np.where(sums[..., 1] > 0, sums[..., 1], np.nan)
        return sums[..., 0] / expected, self.spread * np.sqrt(sums[..., 2]) / expected


def session_table(regions: Sequence[TrialAgreement]) -> pd.DataFrame:
    """Return the agreement of each session of a subject, over all the subject's regions.

    Parameters
    ----------
    regions : sequence of TrialAgreement
        Of one subject, with the same sessions.

    Returns
    -------
    DataFrame
        Index session (1-based); agreement (1 is what the ncsnr predicts, 0 chance), error (its
        standard error), trials (how many), verdict (as in `nsd_prep.checks`) and what: "at chance",
        "weak", or the runs at chance, such as "from run 5 of 12 on"; empty where nothing is.
    """
    scores = _Scores(regions)
    agreement, error = scores.judged(scores.sums.sum(axis=1))
    trials = scores.sums[:, :, 3].sum(axis=1).astype(np.int64)
    usual = float(np.nanmedian(agreement)) if np.isfinite(agreement).any() else float("nan")
    judged = [_judge_session(*each, usual) for each in zip(agreement, error, trials, strict=True)]
    for row, (verdict, _) in enumerate(judged):
        if verdict != "failed":
            in_runs = _judge_runs(scores, row)
            judged[row] = in_runs if in_runs[0] != "passed" else judged[row]
    return pd.DataFrame(
        {
            "agreement": agreement,
            "error": error,
            "trials": trials,
            "verdict": [verdict for verdict, _ in judged],
            "what": [what for _, what in judged],
        },
        index=pd.Index(scores.sessions, name="session"),
    )


def run_table(regions: Sequence[TrialAgreement]) -> pd.DataFrame:
    """Return the agreement of each run of each session, as `session_table` does of sessions.

    Returns
    -------
    DataFrame
        session, run (both 1-based), agreement, error, trials.
    """
    scores = _Scores(regions)
    agreement, error = scores.judged(scores.sums)
    n_sessions, n_runs = agreement.shape
    return pd.DataFrame(
        {
            "session": np.repeat(scores.sessions, n_runs),
            "run": np.tile(np.arange(1, n_runs + 1), n_sessions),
            "agreement": agreement.ravel(),
            "error": error.ravel(),
            "trials": scores.sums[:, :, 3].ravel().astype(np.int64),
        }
    )


def _judge_session(value: float, error: float, n_trials: int, usual: float) -> tuple[Verdict, str]:
    if n_trials < FEWEST_TRIALS or not np.isfinite(value):
        return "not decidable", ""
    if value < LOWEST_AGREEMENT and value + MARGIN * error < HIGHEST_AGREEMENT_OF_MISPLACED:
        at_chance = value - MARGIN_OF_WEAK * error < 0 and value + MARGIN_OF_TIRED * error < TIRED
        return ("failed", "at chance") if at_chance else ("suspicious", "weak")
    if value + MARGIN_OF_SUSPICION * error < HIGHEST_AGREEMENT_OF_MISPLACED * min(usual, 1):
        return "suspicious", "weak"
    if value < LOWEST_AGREEMENT or value - MARGIN * error <= 0:
        return "not decidable", ""
    return "passed", ""


def _judge_runs(scores: _Scores, row: int) -> tuple[Verdict, str]:
    """Look for runs at chance in a session that is in its place otherwise."""
    sums = scores.sums[row]
    n_runs = len(sums)
    parts = [(a, b) for a, b in combinations(range(n_runs + 1), 2) if b - a < n_runs]
    pairs = [(a, b) for a, b in combinations(range(n_runs), 2) if b - a > 1]
    member = np.zeros((len(parts) + len(pairs), n_runs), dtype=np.bool_)
    for index, (start, end) in enumerate(parts):
        member[index, start:end] = True
    for index, pair in enumerate(pairs, len(parts)):
        member[index, list(pair)] = True
    inside = member.astype(np.float64) @ sums
    outside = sums.sum(axis=0) - inside
    (value, error), (others, others_error) = scores.judged(inside), scores.judged(outside)
    bound = HIGHEST_AGREEMENT_OF_MISPLACED
    with np.errstate(invalid="ignore"):
        sure = (bound * others - value) / np.hypot(error, bound * others_error)
        possible = (
            (inside[:, 3] >= FEWEST_TRIALS_OF_RUNS)
            & (value < LOWEST_AGREEMENT * others)
            & (others > MARGIN * others_error)
        )
    sure = np.where(possible & np.isfinite(sure), sure, -np.inf)
    best = int(np.argmax(sure))
    if sure[best] < MARGIN_OF_SUSPICION_OF_RUNS:
        return "passed", ""
    runs = np.flatnonzero(member[best]) + 1
    if best >= len(parts):
        what = f"runs {runs[0]} and {runs[1]} of {n_runs}"
    elif runs[-1] == n_runs:
        what = f"from run {runs[0]} of {n_runs} on"
    elif len(runs) == 1:
        what = f"run {runs[0]} of {n_runs}"
    else:
        what = f"runs {runs[0]} to {runs[-1]} of {n_runs}"
    failed = sure[best] > MARGIN and inside[best, 3] >= FEWEST_TRIALS_OF_FAILED
    return ("failed" if failed else "suspicious"), what


def check_sessions(subject: int, regions: Mapping[str, TrialAgreement]) -> Check:
    """Check that every session of a subject is in its place, and name those that are not.

    Parameters
    ----------
    subject : int
        1-based.
    regions : mapping of str to TrialAgreement
        Of all the subject's regions.

    Returns
    -------
    Check
        Failed where a session, or part of one, is misplaced over all regions together; suspicious
        where one is weak, or misplaced in one of the regions; not decidable where some have too
        few trials or too weak a signal.
    """
    table = session_table(list(regions.values()))
    verdicts: list[Verdict] = list(table["verdict"])
    named = [
        f"{what}: {_named(table.index[table['what'] == what])} of {len(table)}"
        for what in ("at chance", "weak")
        if (table["what"] == what).any()
    ]
    named += [
        f"at chance: session {session} {what}"
        for session, what in table["what"].items()
        if "run" in what
    ]
    if len(regions) > 1:
        for region, agreement in regions.items():
            alone = session_table([agreement])
            wrong = alone["verdict"].isin(["failed", "suspicious"]) & (table["what"] == "")
            if wrong.any():
                named.append(f"weak in {region}: {_named(alone.index[wrong])} of {len(table)}")
                verdicts.append("suspicious")
    undecided = table.index[table["verdict"] == "not decidable"]
    if not named and len(undecided):
        named = [f"cannot be told: {_named(undecided)} of {len(table)}"]
    elif not named:
        lowest = table["agreement"].idxmin()
        named = [
            f"all {len(table)} sessions; the lowest is session {lowest} with "
            f"{table['agreement'].min():.2f} of what the ncsnr predicts"
            + ("" if _runs_can_be_told(list(regions.values())) else "; too few trials to tell runs")
        ]
    return check(
        SESSIONS,
        f"subj{subject:02d}",
        "; ".join(named),
        f"every session agrees with the others (above {LOWEST_AGREEMENT:g}; chance is 0)",
        worst(verdicts),
        _meaning(table, worst(verdicts)),
    )


def _runs_can_be_told(regions: Sequence[TrialAgreement]) -> bool:
    """Return whether two runs at chance would be seen in most sessions."""
    runs = run_table(regions)
    error = float(runs["error"].median()) / np.sqrt(2)
    return MARGIN_OF_SUSPICION_OF_RUNS * error < HIGHEST_AGREEMENT_OF_MISPLACED


def _meaning(table: pd.DataFrame, verdict: Verdict) -> str:
    """Return what the verdict means, by what was found."""
    if verdict == "passed":
        return "A session's responses agree with other sessions' responses to the same images."
    if verdict == "not decidable":
        return "Some sessions have too few shared images, or too weak a signal, to tell."
    what = table["what"]
    if (what == "at chance").all():
        return (
            "No session agrees with another: the order of sessions or trials, or the design, is "
            "another subject's or is counted from another number."
        )
    if (what == "at chance").any():
        return (
            "A session at chance is another session's or subject's file, or its trials are in "
            "another order: download it again."
        )
    if what.str.contains("from run").any():
        return (
            "From there on the session's trials show other images than the design says: a trial "
            "was lost or is there twice."
        )
    if what.str.contains("run").any():
        return "These runs' trials show other images than the design says: runs were exchanged."
    return (
        "A weak session may be a tired subject's, or its voxels lie elsewhere (the head moved, or "
        "it is another preparation): look at its mean image before you use it."
    )


def _named(sessions: Sequence[object]) -> str:
    named = ", ".join(str(number) for number in sessions[:_SESSIONS_NAMED])
    more = len(sessions) - _SESSIONS_NAMED
    noun = "session" if len(sessions) == 1 else "sessions"
    return f"{noun} {named}" + (f" and {more} more" if more > 0 else "")
