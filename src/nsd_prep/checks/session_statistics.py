"""Is each session's data whole, and like the subject's other sessions'? Their records tell."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from nsd_prep.checks.scales import (
    FEWEST_COMPARED,
    FEWEST_SESSIONS,
    RATIO_SUSPICIOUS,
    SHIFT_SUSPICIOUS,
    USUAL_DEVIATIONS,
    WITHOUT_DATA,
    Found,
    SubjectRecords,
    by_session,
    scale_of_runs,
    scale_of_sessions,
    size_of_sessions,
)
from nsd_prep.core.check import Check, Verdict, check, worst
from nsd_prep.dataset.published import DOWNLOAD_AGAIN

#: Share of voxels without data, beyond those that the subject's better sessions lack, that no
#: session has unless its file has holes; in fewer voxels than the number it is suspicious.
LARGEST_SHARE_CONSTANT: Final = 0.4
#: The same, from which a person should look at a session.
SHARE_CONSTANT_SUSPICIOUS: Final = 0.15
_FEWEST_VOXELS: Final = 100
#: Trials in which all voxels have one value: one is odd, more are a hole in the file.
_UNIFORM_TRIALS: Final = 2
#: Share of values that are cut off at the ends of int16, beyond the other sessions'.
SATURATED_SUSPICIOUS: Final = 0.01
SATURATED_FAILED: Final = 0.2
#: Correlation over voxels, with the other sessions, of which voxel varies how much: below the first
#: a session is another's or is moved, where the sessions in general reach the second.
PATTERN_SUSPICIOUS: Final = 0.3
PATTERN_USUAL: Final = 0.6
_FEWEST_IN_PATTERN: Final = 30


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
    size, size_verdict = size_of_sessions(records)
    table = (
        (
            "voxels of a session with data",
            _without_data(records),
            f"at most {SHARE_CONSTANT_SUSPICIOUS:.0%} of voxels constant beyond other sessions",
            "A few voxels may lack data in a session; where most do, the file has holes, or its "
            f"volumes lie elsewhere: {DOWNLOAD_AGAIN}.",
        ),
        (
            "trials of a session with data",
            _uniform_trials(records),
            "no trial with one value in all voxels",
            f"In such trials nothing was measured: the file has holes; {DOWNLOAD_AGAIN}.",
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
            scale_of_sessions(records),
            f"deviation within a factor of {RATIO_SUSPICIOUS:g} of the other sessions', mean within"
            f" {SHIFT_SUSPICIOUS:g} deviations",
            "A session on another scale is of another preparation of the betas, was scaled twice "
            f"or not at all: {DOWNLOAD_AGAIN}.",
        ),
        (
            "scale of runs",
            scale_of_runs(records),
            f"deviation within a factor of {RATIO_SUSPICIOUS:g} of the session's other runs', mean "
            f"within {SHIFT_SUSPICIOUS:g} deviations",
            "A run on another scale spoils the z-scores of its session: look at its responses, and "
            f"{DOWNLOAD_AGAIN}.",
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


def _without_data(records: SubjectRecords) -> Found | None:
    voxels = by_session(records, "n_voxels")
    if voxels[0].sum() < FEWEST_COMPARED:
        return None
    share = by_session(records, "constant_voxels") / voxels
    # What the better sessions lack lies outside the coverage of all; most may be broken.
    excess = share - np.quantile(share, 0.25, axis=0, method="lower")
    together = (excess * voxels).sum(axis=1) / voxels.sum(axis=1)
    names = list(next(iter(records.values())))
    found: Found = {}
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


def _uniform_trials(records: SubjectRecords) -> Found:
    found: Found = {}
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
            found[session] = WITHOUT_DATA
    return found


def _saturated(records: SubjectRecords) -> Found:
    voxels = by_session(records, "n_voxels")
    share = (by_session(records, "saturated") * voxels).sum(axis=1) / voxels.sum(axis=1)
    excess = share - np.median(share)
    return {
        session: (
            "failed" if excess[row] > SATURATED_FAILED else "suspicious",
            f"{share[row]:.1%} of values at the ends of int16",
        )
        for row, session in enumerate(records)
        if excess[row] > SATURATED_SUSPICIOUS
    }


def _copies(records: SubjectRecords) -> Found:
    found: Found = {}
    first_with: dict[tuple[str, ...], int] = {}
    for session, regions in records.items():
        digests = tuple(part.sample_sha256 for part in regions.values() if part.sample_sha256)
        if not digests:
            continue
        if digests in first_with:
            found[session] = ("failed", f"the same values as session {first_with[digests]}")
        first_with.setdefault(digests, session)
    return found


def _patterns(records: SubjectRecords) -> Found | None:
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


def _patterns_of(records: SubjectRecords, names: Sequence[str]) -> Found | None:
    deviations = np.array(
        [
            [value for name in names for value in regions[name].voxel_deviation]
            for regions in records.values()
        ]
    )
    known = (deviations > 0).mean(axis=1) > 0.5
    voxels = (deviations[known] > 0).all(axis=0)
    if known.sum() < FEWEST_SESSIONS or voxels.sum() < _FEWEST_IN_PATTERN:
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
    found: Found = dict.fromkeys(np.array(list(records))[~known].tolist(), WITHOUT_DATA)
    for session, value in zip(sessions.tolist(), usual, strict=True):
        if value < PATTERN_SUSPICIOUS:
            text = f"r {value:.2f} where {np.median(usual):.2f} is usual"
            found[session] = ("suspicious", text)
    return found
