"""Are sessions, and the runs of each, on one scale? Their records tell."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.special
from numpy.typing import NDArray

from nsd_prep.checks.session_findings import (
    FEWEST_COMPARED,
    FEWEST_SESSIONS,
    WITHOUT_DATA,
    Finding,
    SessionFindings,
    SubjectRecords,
    by_session,
    meanings_of_sessions,
)
from nsd_prep.core.check import Kind, Threshold, Verdict, any_verdict, worst
from nsd_prep.dataset.published import DOWNLOAD_AGAIN

#: Ratio of a session's standard deviation to that of the subject's other sessions, and the number
#: of robust standard deviations over sessions that it must lie away as well.
RATIO_SUSPICIOUS: Final = 1.5
RATIO_FAILED: Final = 5.0
#: Ratio from which a session is suspicious whose others are few: under 1 % of simulated subjects
#: whose sessions' scales spread by 0.15.
RATIO_OF_FEW: Final = 1.75
#: A ratio that no real session has, however much the others differ.
RATIO_IMPOSSIBLE: Final = 50.0
#: The session's mean, in standard deviations over trials away from the other sessions'.
SHIFT_SUSPICIOUS: Final = 0.75
SHIFT_OF_FEW: Final = 1.0
ROBUST_DEVIATIONS: Final = 5.0
#: Probability, by Student's t, that a sound session lies so far away: the spread of few sessions is
#: itself little known. A median deviation tells as much as a standard deviation of 0.37 times the
#: number (its efficiency for the normal distribution).
CHANCE_OF_SUSPICIOUS_SCALE: Final = 1e-4
CHANCE_OF_FAILED_SCALE: Final = 1e-6
_EFFICIENCY: Final = 0.37
#: The same of runs, which are many, and of few trials.
ROBUST_DEVIATIONS_OF_RUNS: Final = 8.0
#: Percent signal change: outside of the first range betas are not of NSD's scale (NSD's standard
#: deviations over trials are 1 to 3), outside of the second surely not.
USUAL_DEVIATIONS: Final = (0.1, 20.0)
POSSIBLE_DEVIATIONS: Final = (0.02, 100.0)
#: The smallest spread over sessions that is taken for granted, relative (deviation) and in standard
#: deviations over trials (mean).
_LEAST_SPREAD: Final = 0.05
#: Runs of a session below which none can be told from the others.
_FEWEST_RUNS: Final = 3

_FEWEST_VOXELS: Final = Threshold(
    "fewest voxels", FEWEST_COMPARED, "simulated sessions: a few may be anything"
)

BETAS_IN_PERCENT: Final = Kind(
    name="betas in percent signal change",
    scope="subject",
    measures="median over sessions and regions of the deviation over trials; NSD's are 1 to 3 %",
    conditions={
        "failed": f"outside of {POSSIBLE_DEVIATIONS[0]:g} to {POSSIBLE_DEVIATIONS[1]:g} %",
        "suspicious": f"outside of {USUAL_DEVIATIONS[0]:g} to {USUAL_DEVIATIONS[1]:g} %",
        "not decidable": "no voxel varies",
        "passed": "within",
    },
    value="median deviation {measured:.3g} % over trials",
    expectation=f"from {USUAL_DEVIATIONS[0]:g} to {USUAL_DEVIATIONS[1]:g} %",
    lower=USUAL_DEVIATIONS[0],
    upper=USUAL_DEVIATIONS[1],
    unit="%",
    meanings={
        **any_verdict(
            "The betas of all sessions are not scaled like NSD's, 300 units to a percent: "
            "download them again, or rescale them."
        ),
        "passed": "The betas are in percent signal change, as NSD's are.",
        "not decidable": "No {site} varies: the scale cannot be judged.",
    },
    thresholds=(
        Threshold("usual, %", USUAL_DEVIATIONS, "NSD's are 1 to 3 %"),
        Threshold("possible, %", POSSIBLE_DEVIATIONS, "NSD's are 1 to 3 %; 300 too large or small"),
    ),
)


def _kind_of_scale(
    what: str,
    measures: str,
    others: str,
    spread: Threshold,
    wrong: str,
    passed: str,
    fewest: Threshold,
) -> Kind:
    """Return the kind of check that compares sessions, or runs, by their scale."""
    return Kind(
        name=f"scale of {what}",
        scope="subject",
        measures=measures,
        draws=("sessions",),
        conditions={
            "failed": f"a factor of {RATIO_FAILED:g} (t, p below {CHANCE_OF_FAILED_SCALE:g}), or "
            f"of {RATIO_IMPOSSIBLE:g}",
            "suspicious": f"a factor of {RATIO_SUSPICIOUS:g}, or a mean {SHIFT_SUSPICIOUS:g} "
            f"deviations off (t, p below {CHANCE_OF_SUSPICIOUS_SCALE:g}), or {RATIO_OF_FEW:g} and "
            f"{SHIFT_OF_FEW:g}",
            "not decidable": f"{what} differ too much for that to be sure, or there are fewer than "
            f"{fewest.value} {what} or {FEWEST_COMPARED} voxels",
            "passed": "within",
        },
        value="{found}",
        expectation=f"deviation within a factor of {RATIO_SUSPICIOUS:g} of {others}', mean within "
        f"{SHIFT_SUSPICIOUS:g} deviations",
        meanings=meanings_of_sessions(wrong, passed),
        thresholds=(
            Threshold("factor, suspicious", RATIO_SUSPICIOUS, "simulated sessions"),
            Threshold("factor, failed", RATIO_FAILED, "simulated sessions: none of 5000 subjects"),
            Threshold("factor, where sessions are few", RATIO_OF_FEW, "1 % of simulated subjects"),
            Threshold("mean, where sessions are few", SHIFT_OF_FEW, "simulated sessions"),
            Threshold("factor, failed whatever the others", RATIO_IMPOSSIBLE, "no real session"),
            Threshold("p, suspicious", CHANCE_OF_SUSPICIOUS_SCALE, "40 sessions of two numbers"),
            Threshold("p, failed", CHANCE_OF_FAILED_SCALE, "one error in a million checks"),
            Threshold("mean, deviations", SHIFT_SUSPICIOUS, "simulated sessions"),
            spread,
            fewest,
            _FEWEST_VOXELS,
        ),
    )


SCALE_OF_SESSIONS: Final = _kind_of_scale(
    "sessions",
    "deviation and mean against the subject's other sessions, robustly "
    f"({ROBUST_DEVIATIONS:g} deviations)",
    others="the other sessions",
    spread=Threshold("robust deviations over sessions", ROBUST_DEVIATIONS, "simulated sessions"),
    fewest=Threshold("fewest sessions", FEWEST_SESSIONS, "no session differs from one other"),
    wrong="A session on another scale holds another preparation of the betas, was scaled twice or "
    f"not at all: {DOWNLOAD_AGAIN}.",
    passed="All sessions of the subject are on one scale.",
)

SCALE_OF_RUNS: Final = _kind_of_scale(
    "runs",
    "deviation and mean of a run against the other runs of its session, robustly "
    f"({ROBUST_DEVIATIONS_OF_RUNS:g} deviations over the runs of all sessions)",
    others="the session's other runs",
    spread=Threshold("robust deviations over runs", ROBUST_DEVIATIONS_OF_RUNS, "runs are many"),
    fewest=Threshold("fewest runs", _FEWEST_RUNS, "no run differs from one other"),
    wrong="A run on another scale spoils the z-scores of its session: look at its responses, and "
    "download the session again.",
    passed="All runs of each session are on one scale.",
)


def size_of_sessions(records: SubjectRecords) -> tuple[float, Verdict]:
    """Return the median deviation over sessions and regions, percent, and whether it is NSD's."""
    deviations = [
        part.session.deviation
        for regions in records.values()
        for part in regions.values()
        if part.session.deviation > 0
    ]
    if not deviations:
        return float("nan"), "not decidable"
    size = float(np.median(deviations))
    if not POSSIBLE_DEVIATIONS[0] < size < POSSIBLE_DEVIATIONS[1]:
        return size, "failed"
    return size, "passed" if USUAL_DEVIATIONS[0] < size < USUAL_DEVIATIONS[1] else "suspicious"


def scale_of_sessions(records: SubjectRecords) -> SessionFindings | None:
    """Compare each session's deviation and mean with those of the subject's other sessions.

    Parameters
    ----------
    records : mapping of int to mapping of str to BetaStatistics
        Of a subject, by session (1-based) and region.

    Returns
    -------
    SessionFindings or None
        Of sessions that are not on the others' scale; None where too few sessions or voxels are
        there to compare.
    """
    parts = [list(regions.values()) for regions in records.values()]
    deviation = np.array([[part.session.deviation for part in row] for row in parts])
    mean = np.array([[part.session.mean for part in row] for row in parts])
    # A region without data in most sessions has nothing to compare with.
    measured = (deviation > 0).sum(axis=0) > len(records) / 2
    known: NDArray[np.bool_] = np.asarray((deviation[:, measured] > 0).all(axis=1))
    if not measured.any() or known.sum() < FEWEST_SESSIONS:
        return None
    deviation, mean = deviation[:, measured], mean[:, measured]
    voxels = by_session(records, "n_voxels")[0, measured]
    if voxels.sum() < FEWEST_COMPARED:
        return None
    usual = np.median(deviation[known], axis=0)
    weights = voxels / voxels.sum()
    log_ratio = np.log(np.where(deviation > 0, deviation, usual) / usual) @ weights
    shift = ((mean - np.median(mean[known], axis=0)) / usual) @ weights
    findings: dict[int, Finding] = {}
    for row, session in enumerate(records):
        if not known[row]:
            findings[session] = WITHOUT_DATA
            continue
        others = known.copy()
        others[row] = False
        away = [_away(values[row], values[others]) for values in (log_ratio, shift)]
        verdict = _verdict_of_scale(
            log_ratio[row], shift[row], away, ROBUST_DEVIATIONS, int(others.sum())
        )
        if verdict != "passed":
            text = (
                f"deviation {np.exp(log_ratio[row]):.3g} times the other sessions', mean "
                f"{shift[row]:+.2g} deviations from theirs"
            )
            findings[session] = (verdict, text)
    judged = [session for row, session in enumerate(records) if known[row]]
    return _farthest(findings, judged, log_ratio[known, np.newaxis], shift[known, np.newaxis])


def scale_of_runs(records: SubjectRecords) -> SessionFindings | None:
    """Compare each run with the others of its session, by how much runs differ in all sessions.

    Parameters
    ----------
    records : mapping of int to mapping of str to BetaStatistics
        Of a subject, by session (1-based) and region.

    Returns
    -------
    SessionFindings or None
        Of sessions with runs that are not on the others' scale; None where too few sessions, runs
        or voxels are there to compare.
    """
    statistics = np.array(
        [
            [[(run.deviation, run.mean) for run in part.runs] for part in regions.values()]
            for regions in records.values()
        ]
    )
    deviation, mean = statistics[..., 0], statistics[..., 1]
    voxels = by_session(records, "n_voxels")[0]
    if voxels.sum() < FEWEST_COMPARED or deviation.shape[2] < _FEWEST_RUNS:
        return None
    deviation = np.where(deviation > 0, deviation, np.nan)
    usual = np.full((*deviation.shape[:2], 1), np.nan)
    has_data = ~np.isnan(deviation).all(axis=2)
    usual[has_data] = np.nanmedian(deviation[has_data], axis=1, keepdims=True)
    log_ratio, shift = (
        np.einsum("srn,r->sn", np.nan_to_num(values), voxels / voxels.sum())
        for values in (
            np.log(deviation / usual),
            (mean - np.median(mean, axis=2, keepdims=True)) / usual,
        )
    )
    findings: dict[int, Finding] = {}
    for row, session in enumerate(records):
        if np.isnan(usual[row]).all():
            findings[session] = WITHOUT_DATA
            continue
        named = {}
        for run in range(log_ratio.shape[1]):
            away = [_away(values[row, run], values) for values in (log_ratio, shift)]
            verdict = _verdict_of_scale(
                log_ratio[row, run],
                shift[row, run],
                away,
                ROBUST_DEVIATIONS_OF_RUNS,
                log_ratio.size,
            )
            if verdict != "passed":
                text = (
                    f"run {run + 1} of {log_ratio.shape[1]} with a deviation "
                    f"{np.exp(log_ratio[row, run]):.3g} times its other runs', mean "
                    f"{shift[row, run]:+.2g} deviations from theirs"
                )
                named[text] = verdict
        if named:
            findings[session] = (worst(list(named.values())), ", ".join(named))
    return _farthest(findings, list(records), log_ratio, shift)


def _farthest(
    findings: dict[int, Finding],
    sessions: Sequence[int],
    log_ratio: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> SessionFindings:
    """Return the findings with the largest ratio or shift, of the sessions of the worst verdict.

    `log_ratio` and `shift` have a row for each of the sessions, and a column for each of its runs.
    """
    all_findings = [findings.get(session, ("passed", "")) for session in sessions]
    judged = [verdict for verdict, text in all_findings if (verdict, text) != WITHOUT_DATA]
    if not judged:
        return SessionFindings(findings)
    others = [finding == WITHOUT_DATA or finding[0] != worst(judged) for finding in all_findings]
    beyond = np.stack(
        [np.abs(log_ratio) / np.log(RATIO_SUSPICIOUS), np.abs(shift) / SHIFT_SUSPICIOUS]
    )
    beyond[:, others] = -1
    which, row, column = np.unravel_index(np.argmax(beyond), beyond.shape)
    run = int(column) + 1 if log_ratio.shape[1] > 1 else None
    session = sessions[int(row)]
    if which == 1:
        return SessionFindings(
            findings,
            float(shift[row, column]),
            session,
            run,
            -SHIFT_SUSPICIOUS,
            SHIFT_SUSPICIOUS,
            "deviations of the mean",
        )
    return SessionFindings(
        findings,
        float(np.exp(log_ratio[row, column])),
        session,
        run,
        1 / RATIO_SUSPICIOUS,
        RATIO_SUSPICIOUS,
        "ratio of deviations",
    )


def _verdict_of_scale(
    log_ratio: float, shift: float, away: Sequence[float], enough: float, n_others: int
) -> Verdict:
    """Judge deviation and mean by how much they differ, and by how sure that is.

    `away` is in robust deviations of the `n_others` that they are compared with.
    """
    ratio = float(np.exp(abs(log_ratio)))
    degrees = max(_EFFICIENCY * (n_others - 1), 1.0)
    unlikely, impossible = (
        max(enough, -float(scipy.special.stdtrit(degrees, chance)))
        for chance in (CHANCE_OF_SUSPICIOUS_SCALE, CHANCE_OF_FAILED_SCALE)
    )
    if away[0] > enough and ratio > RATIO_FAILED:
        sure = away[0] > impossible or ratio > RATIO_IMPOSSIBLE
        return "failed" if sure else "suspicious"
    shifted = abs(shift) > SHIFT_SUSPICIOUS
    if (away[0] > unlikely and ratio > RATIO_SUSPICIOUS) or (away[1] > unlikely and shifted):
        return "suspicious"
    # More than NSD's sessions differ counts, whatever the spread of few others may be.
    if (away[0] > enough and ratio > RATIO_OF_FEW) or (
        away[1] > enough and abs(shift) > SHIFT_OF_FEW
    ):
        return "suspicious"
    return "not decidable" if ratio > RATIO_SUSPICIOUS or shifted else "passed"


def _away(value: float, others: NDArray[np.float64]) -> float:
    """Return how many robust standard deviations of others a value lies away from them."""
    middle = np.median(others)
    spread = 1.4826 * np.median(np.abs(others - middle))
    return float(abs(value - middle) / max(spread, _LEAST_SPREAD))
