"""Is each session's data whole, and like the subject's other sessions'? Their records tell."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks import Check, Verdict, check, worst
from nsd_prep.session_record import PartStatistics

SubjectRecords = Mapping[int, Mapping[str, PartStatistics]]

#: Share of voxels without data, beyond those that the subject's better sessions lack, that no
#: session has unless its file has holes; in fewer voxels than the number it is suspicious.
LARGEST_SHARE_CONSTANT: Final = 0.4
#: The same, from which a person should look at a session.
SHARE_CONSTANT_SUSPICIOUS: Final = 0.15
_FEWEST_VOXELS: Final = 100
#: Voxels in all regions below which sessions are not compared at all: a few may be anything.
_FEWEST_COMPARED: Final = 20
#: Trials in which all voxels have one value: one is odd, more are a hole in the file.
_UNIFORM_TRIALS: Final = 2
#: Share of values that are cut off at the ends of int16, beyond the other sessions'.
SATURATED_SUSPICIOUS: Final = 0.01
SATURATED_FAILED: Final = 0.2
#: Ratio of a session's standard deviation to that of the subject's other sessions, and the number
#: of robust standard deviations over sessions that it must lie away as well.
RATIO_SUSPICIOUS: Final = 1.5
RATIO_FAILED: Final = 5.0
#: The session's mean, in standard deviations over trials away from the other sessions'.
SHIFT_SUSPICIOUS: Final = 0.75
ROBUST_DEVIATIONS: Final = 5.0
#: The same of runs, which are many, and of few trials.
ROBUST_DEVIATIONS_OF_RUNS: Final = 8.0
#: Percent signal change: outside of the first range betas are not of NSD's scale (NSD's standard
#: deviations over trials are 1 to 3), outside of the second surely not.
USUAL_DEVIATIONS: Final = (0.1, 20.0)
POSSIBLE_DEVIATIONS: Final = (0.02, 100.0)
#: The smallest spread over sessions that is taken for granted, relative (deviation) and in standard
#: deviations over trials (mean).
_LEAST_SPREAD: Final = 0.05
#: Sessions below which no session can be told from the others by its scale.
_FEWEST_SESSIONS: Final = 3
#: Runs of a session below which none can be told from the others.
_FEWEST_RUNS: Final = 3
#: Correlation over voxels, with the other sessions, of which voxel varies how much: below the first
#: a session is another's or is moved, where the sessions in general reach the second.
PATTERN_SUSPICIOUS: Final = 0.3
PATTERN_USUAL: Final = 0.6
_FEWEST_IN_PATTERN: Final = 30

#: How a session's verdict is told: which sessions, with what was found.
_Found = dict[int, tuple[Verdict, str]]
_WITHOUT_DATA: Final[tuple[Verdict, str]] = ("not decidable", "too few voxels with data")


def check_session_records(subject: int, records: SubjectRecords) -> list[Check]:
    """Check that a subject's sessions hold data, each its own, on one scale.

    Parameters
    ----------
    subject : int
        1-based.
    records : mapping of int to mapping of str to PartStatistics
        By session (1-based) and region, of all sessions the same regions.

    Returns
    -------
    list of Check
        Eight; a session is compared with the subject's others by medians over sessions.
    """
    size, size_verdict = _size(records)
    table = (
        (
            "voxels of a session with data",
            _without_data(records),
            f"at most {SHARE_CONSTANT_SUSPICIOUS:.0%} of voxels constant beyond other sessions",
            "A few voxels may lack data in a session; where most do, the file has holes, or its "
            "volumes lie elsewhere: download it again.",
        ),
        (
            "trials of a session with data",
            _uniform_trials(records),
            "no trial with one value in all voxels",
            "In such trials nothing was measured: the file has holes; download it again.",
        ),
        (
            "saturation",
            _saturated(records),
            f"at most {SATURATED_SUSPICIOUS:.0%} of values cut off beyond other sessions",
            "Values at the ends of int16 were cut off; many of them mean that a session was scaled "
            "twice.",
        ),
        (
            "scale of sessions",
            _scale(records),
            f"deviation within a factor of {RATIO_SUSPICIOUS:g} of the other sessions', mean within"
            f" {SHIFT_SUSPICIOUS:g} deviations",
            "A session on another scale is of another preparation of the betas, was scaled twice "
            "or not at all: download it again.",
        ),
        (
            "scale of runs",
            _scale_of_runs(records),
            f"deviation within a factor of {RATIO_SUSPICIOUS:g} of the session's other runs', mean "
            f"within {SHIFT_SUSPICIOUS:g} deviations",
            "A run on another scale spoils the z-scores of its session: look at its responses, and "
            "download the session again.",
        ),
        (
            "sessions differ",
            _copies(records),
            "no two sessions with the same values",
            "Sessions with the same raw values are copies of one file: download them again.",
        ),
        (
            "voxels of a session in their places",
            _patterns(records),
            f"r above {PATTERN_SUSPICIOUS:g} with the other sessions' deviations over voxels",
            "Which voxels vary much is much the same in all sessions of a subject; a session that "
            "differs is moved, or another subject's.",
        ),
    )
    sound = "In this the sessions are as they should be."
    unclear = "Sessions have too little data, or differ too much from each other, to tell."
    checks = [
        check(
            "betas in percent signal change",
            f"subj{subject:02d}",
            f"median deviation {size:.3g} % over trials",
            f"from {USUAL_DEVIATIONS[0]:g} to {USUAL_DEVIATIONS[1]:g} %",
            size_verdict,
            {
                "passed": sound,
                "not decidable": "No voxel varies: nothing can be told of the scale.",
            }.get(
                size_verdict,
                "The betas of all sessions were scaled otherwise than NSD's, 300 to a percent: "
                "download them again, or write them so.",
            ),
        )
    ]
    for name, found, expectation, meaning in table:
        verdict: Verdict | None = None
        value = "cannot be told from these sessions"
        if found is not None:
            verdicts = [verdict for verdict, _ in found.values()]
            verdict = worst(verdicts) if verdicts else "passed"
            named = [f"session {session}: {text}" for session, (_, text) in found.items()]
            value = "; ".join(named) or f"all {len(records)} sessions"
        checks.append(
            check(
                name,
                f"subj{subject:02d}",
                value,
                expectation,
                verdict,
                {"passed": sound, "not decidable": unclear}.get(str(verdict), meaning),
            )
        )
    return checks


def _by_session(records: SubjectRecords, attribute: str) -> NDArray[np.float64]:
    """Return an attribute of each part, (n_sessions, n_regions)."""
    return np.array(
        [[getattr(part, attribute) for part in regions.values()] for regions in records.values()],
        dtype=np.float64,
    )


def _without_data(records: SubjectRecords) -> _Found | None:
    voxels = _by_session(records, "n_voxels")
    if voxels[0].sum() < _FEWEST_COMPARED:
        return None
    share = _by_session(records, "constant_voxels") / voxels
    # What the better sessions lack lies outside the coverage of all; most may be broken.
    excess = share - np.quantile(share, 0.25, axis=0, method="lower")
    together = (excess * voxels).sum(axis=1) / voxels.sum(axis=1)
    names = list(next(iter(records.values())))
    found: _Found = {}
    for row, session in enumerate(records):
        in_session = {
            name: share[row, place]
            for place, name in enumerate(names)
            if excess[row, place] > LARGEST_SHARE_CONSTANT
        }
        many = voxels[row].sum() >= _FEWEST_VOXELS
        if together[row] > (SHARE_CONSTANT_SUSPICIOUS if many else LARGEST_SHARE_CONSTANT):
            sure = many and together[row] > LARGEST_SHARE_CONSTANT
            constant = (share[row] @ voxels[row]) / voxels[row].sum()
            text = f"{constant:.0%} of {voxels[row].sum():.0f} voxels constant"
            found[session] = ("failed" if sure else "suspicious", text)
        elif in_session:
            text = ", ".join(f"{part:.0%} of {name}" for name, part in in_session.items())
            found[session] = ("suspicious", f"{text} constant")
    return found


def _uniform_trials(records: SubjectRecords) -> _Found:
    found: _Found = {}
    for session, regions in records.items():
        name, part = max(regions.items(), key=lambda item: item[1].session.uniform_trials)
        number = part.session.uniform_trials
        if number:
            where = f"of {name}"
            if all(one.session.uniform_trials == number for one in regions.values()):
                where = "of every region" if len(regions) > 1 else where
            runs = [str(n) for n, run in enumerate(part.runs, 1) if run.uniform_trials]
            text = f"{number} of {part.session.n_trials} trials with one value in all voxels "
            text += f"{where} ({'run' if len(runs) == 1 else 'runs'} {', '.join(runs)} of "
            text += f"{len(part.runs)})"
            found[session] = ("failed" if number >= _UNIFORM_TRIALS else "suspicious", text)
        elif all(one.constant_voxels == one.n_voxels for one in regions.values()):
            found[session] = _WITHOUT_DATA
    return found


def _saturated(records: SubjectRecords) -> _Found:
    voxels = _by_session(records, "n_voxels")
    share = (_by_session(records, "saturated") * voxels).sum(axis=1) / voxels.sum(axis=1)
    excess = share - np.median(share)
    return {
        session: (
            "failed" if excess[row] > SATURATED_FAILED else "suspicious",
            f"{share[row]:.1%} of values at the ends of int16",
        )
        for row, session in enumerate(records)
        if excess[row] > SATURATED_SUSPICIOUS
    }


def _size(records: SubjectRecords) -> tuple[float, Verdict]:
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


def _scale(records: SubjectRecords) -> _Found | None:
    parts = [list(regions.values()) for regions in records.values()]
    deviation = np.array([[part.session.deviation for part in row] for row in parts])
    mean = np.array([[part.session.mean for part in row] for row in parts])
    # A region without data in most sessions has nothing to compare with.
    measured = (deviation > 0).sum(axis=0) > len(records) / 2
    known: NDArray[np.bool_] = np.asarray((deviation[:, measured] > 0).all(axis=1))
    if not measured.any() or known.sum() < _FEWEST_SESSIONS:
        return None
    deviation, mean = deviation[:, measured], mean[:, measured]
    voxels = _by_session(records, "n_voxels")[0, measured]
    if voxels.sum() < _FEWEST_COMPARED:
        return None
    usual = np.median(deviation[known], axis=0)
    weights = voxels / voxels.sum()
    log_ratio = np.log(np.where(deviation > 0, deviation, usual) / usual) @ weights
    shift = ((mean - np.median(mean[known], axis=0)) / usual) @ weights
    found: _Found = {}
    for row, session in enumerate(records):
        if not known[row]:
            found[session] = _WITHOUT_DATA
            continue
        others = known.copy()
        others[row] = False
        away = [_away(values[row], values[others]) for values in (log_ratio, shift)]
        verdict = _verdict_of_scale(log_ratio[row], shift[row], away, ROBUST_DEVIATIONS)
        if verdict != "passed":
            text = (
                f"deviation {np.exp(log_ratio[row]):.3g} times the other sessions', mean "
                f"{shift[row]:+.2g} deviations from theirs"
            )
            found[session] = (verdict, text)
    return found


def _scale_of_runs(records: SubjectRecords) -> _Found | None:
    """Compare each run with the others of its session, by how much runs differ in all sessions."""
    statistics = np.array(
        [
            [[(run.deviation, run.mean) for run in part.runs] for part in regions.values()]
            for regions in records.values()
        ]
    )
    deviation, mean = statistics[..., 0], statistics[..., 1]
    voxels = _by_session(records, "n_voxels")[0]
    if voxels.sum() < _FEWEST_COMPARED or deviation.shape[2] < _FEWEST_RUNS:
        return None
    deviation = np.where(deviation > 0, deviation, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a session without data has no median
        usual = np.nanmedian(deviation, axis=2, keepdims=True)
    log_ratio, shift = (
        np.einsum("srn,r->sn", np.nan_to_num(values), voxels / voxels.sum())
        for values in (
            np.log(deviation / usual),
            (mean - np.median(mean, axis=2, keepdims=True)) / usual,
        )
    )
    found: _Found = {}
    for row, session in enumerate(records):
        if np.isnan(usual[row]).all():
            found[session] = _WITHOUT_DATA
            continue
        named = {}
        for run in range(log_ratio.shape[1]):
            away = [_away(values[row, run], values) for values in (log_ratio, shift)]
            verdict = _verdict_of_scale(
                log_ratio[row, run], shift[row, run], away, ROBUST_DEVIATIONS_OF_RUNS
            )
            if verdict != "passed":
                text = (
                    f"run {run + 1} of {log_ratio.shape[1]} with a deviation "
                    f"{np.exp(log_ratio[row, run]):.3g} times its other runs', mean "
                    f"{shift[row, run]:+.2g} deviations from theirs"
                )
                named[text] = verdict
        if named:
            found[session] = (worst(list(named.values())), ", ".join(named))
    return found


def _verdict_of_scale(
    log_ratio: float, shift: float, away: Sequence[float], enough: float
) -> Verdict:
    """Judge deviation and mean by how much they differ, and by how sure that is."""
    ratio = float(np.exp(abs(log_ratio)))
    if away[0] > enough and ratio > RATIO_SUSPICIOUS:
        return "failed" if ratio > RATIO_FAILED else "suspicious"
    shifted = abs(shift) > SHIFT_SUSPICIOUS
    if away[1] > enough and shifted:
        return "suspicious"
    return "not decidable" if ratio > RATIO_SUSPICIOUS or shifted else "passed"


def _away(value: float, others: NDArray[np.float64]) -> float:
    """Return how many robust standard deviations of others a value lies away from them."""
    middle = np.median(others)
    spread = 1.4826 * np.median(np.abs(others - middle))
    return float(abs(value - middle) / max(spread, _LEAST_SPREAD))


def _copies(records: SubjectRecords) -> _Found:
    found: _Found = {}
    first_with: dict[tuple[str, ...], int] = {}
    for session, regions in records.items():
        digests = tuple(part.sample_sha256 for part in regions.values() if part.sample_sha256)
        if not digests:
            continue
        if digests in first_with:
            found[session] = ("failed", f"the same values as session {first_with[digests]}")
        first_with.setdefault(digests, session)
    return found


def _patterns(records: SubjectRecords) -> _Found | None:
    """Compare, between sessions, how much each of the sampled voxels varies.

    Of all regions together, and of each that has enough voxels: one alone may be moved.
    """
    found = _patterns_of(records, list(next(iter(records.values()))))
    for name in next(iter(records.values())):
        alone = _patterns_of(records, [name]) if found is not None else None
        for session, (verdict, text) in (alone or {}).items():
            if verdict == "suspicious" and found is not None:
                found.setdefault(session, (verdict, f"{text} in {name}"))
    return found


def _patterns_of(records: SubjectRecords, names: Sequence[str]) -> _Found | None:
    deviations = np.array(
        [
            [value for name in names for value in regions[name].voxel_deviation]
            for regions in records.values()
        ]
    )
    known = (deviations > 0).mean(axis=1) > 0.5
    voxels = (deviations[known] > 0).all(axis=0)
    if known.sum() < _FEWEST_SESSIONS or voxels.sum() < _FEWEST_IN_PATTERN:
        return None
    logarithm = np.log(deviations[np.ix_(known, voxels)])
    if not (logarithm.std(axis=1) > 0).all():
        return None
    sessions = np.array(list(records))[known]
    r = np.corrcoef(logarithm)
    np.fill_diagonal(r, np.nan)
    usual = np.nanmedian(r, axis=1)
    if np.median(usual) < PATTERN_USUAL:
        return None
    found: _Found = dict.fromkeys(np.array(list(records))[~known].tolist(), _WITHOUT_DATA)
    for session, value in zip(sessions.tolist(), usual, strict=True):
        if value < PATTERN_SUSPICIOUS:
            text = f"r {value:.2f} where {np.median(usual):.2f} is usual"
            found[session] = ("suspicious", text)
    return found
