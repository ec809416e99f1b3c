"""Is each session's data whole, and like the subject's other sessions'? Their records tell."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks import Check, Verdict, check
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
#: Percent signal change: outside of the first range betas are not of NSD's scale (NSD's standard
#: deviations over trials are 1 to 3), outside of the second surely not.
USUAL_DEVIATIONS: Final = (0.1, 20.0)
POSSIBLE_DEVIATIONS: Final = (0.02, 100.0)
#: The smallest spread over sessions that is taken for granted, relative (deviation) and in standard
#: deviations over trials (mean).
_LEAST_SPREAD: Final = 0.05
#: Sessions below which no session can be told from the others by its scale.
_FEWEST_SESSIONS: Final = 3
#: Correlation over voxels, with the other sessions, of which voxel varies how much: below the first
#: a session is another's or is moved, where the sessions in general reach the second.
PATTERN_SUSPICIOUS: Final = 0.3
PATTERN_USUAL: Final = 0.6
_FEWEST_IN_PATTERN: Final = 30

#: How a session's verdict is told: which sessions, with what was found.
_Found = dict[int, tuple[Verdict, str]]


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
        Seven; a session is compared with the subject's others by medians over sessions.
    """
    size, size_verdict = _size(records)
    table = (
        (
            "voxels of a session with data",
            _without_data(records),
            f"at most {SHARE_CONSTANT_SUSPICIOUS:.0%} of voxels constant beyond other sessions",
            "A few voxels may lack data in a session; where most do, the file has holes: download "
            "it again.",
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
            order: Sequence[Verdict] = ("failed", "suspicious")
            verdict = next((v for v in order if v in {w for w, _ in found.values()}), "passed")
            named = [f"session {session}: {text}" for session, (_, text) in found.items()]
            value = "; ".join(named) or f"all {len(records)} sessions"
        checks.append(
            check(
                name,
                f"subj{subject:02d}",
                value,
                expectation,
                verdict,
                sound if verdict == "passed" else meaning,
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
            name: part
            for name, part in zip(names, excess[row], strict=True)
            if part > LARGEST_SHARE_CONSTANT
        }
        many = voxels[row].sum() >= _FEWEST_VOXELS
        if together[row] > (SHARE_CONSTANT_SUSPICIOUS if many else LARGEST_SHARE_CONSTANT):
            sure = many and together[row] > LARGEST_SHARE_CONSTANT
            text = f"{together[row]:.0%} of {voxels[row].sum():.0f} voxels constant"
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
            runs = [str(n) for n, run in enumerate(part.runs, 1) if run.uniform_trials]
            text = f"{number} of {part.session.n_trials} trials with one value in all voxels of "
            text += f"{name} (runs {', '.join(runs)} of {len(part.runs)})"
            found[session] = ("failed" if number >= _UNIFORM_TRIALS else "suspicious", text)
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
            continue
        others = known.copy()
        others[row] = False
        away = [_away(values, row, others) for values in (log_ratio, shift)]
        ratio = float(np.exp(abs(log_ratio[row])))
        verdict: Verdict | None = None
        if away[0] > ROBUST_DEVIATIONS and ratio > RATIO_SUSPICIOUS:
            verdict = "failed" if ratio > RATIO_FAILED else "suspicious"
        elif away[1] > ROBUST_DEVIATIONS and abs(shift[row]) > SHIFT_SUSPICIOUS:
            verdict = "suspicious"
        if verdict:
            text = (
                f"deviation {np.exp(log_ratio[row]):.3g} times the other sessions', mean "
                f"{shift[row]:+.2g} deviations from theirs"
            )
            found[session] = (verdict, text)
    return found


def _away(values: NDArray[np.float64], row: int, others: NDArray[np.bool_]) -> float:
    """Return how many robust standard deviations over the other sessions a session lies away."""
    middle = np.median(values[others])
    spread = 1.4826 * np.median(np.abs(values[others] - middle))
    return float(abs(values[row] - middle) / max(spread, _LEAST_SPREAD))


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
    """Compare, between sessions, how much each of the sampled voxels varies."""
    deviations = np.array(
        [
            [value for part in regions.values() for value in part.voxel_deviation]
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
    return {
        int(session): ("suspicious", f"r {value:.2f} where {np.median(usual):.2f} is usual")
        for session, value in zip(sessions, usual, strict=True)
        if value < PATTERN_SUSPICIOUS
    }
