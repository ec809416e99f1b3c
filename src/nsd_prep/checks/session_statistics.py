"""Is each session's data whole, and like the subject's other sessions'? Their records tell."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from nsd_prep.checks.scales import (
    BETAS_IN_PERCENT,
    SCALE_OF_RUNS,
    SCALE_OF_SESSIONS,
    scale_of_runs,
    scale_of_sessions,
    size_of_sessions,
)
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
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, worst
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.published import DOWNLOAD_AGAIN

#: Share of voxels without data, beyond those that the subject's better sessions lack, that no
#: session has unless its file has holes; in fewer voxels than the number it is suspicious.
LARGEST_SHARE_CONSTANT: Final = 0.4
#: The same, from which a person should look at a session.
SHARE_CONSTANT_SUSPICIOUS: Final = 0.15
_FEWEST_VOXELS_OF_SESSION: Final = 100
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

VOXELS_WITH_DATA: Final = Kind(
    name="voxels of a session with data",
    scope="subject",
    measures="constant voxels beyond what the better sessions lack (their first quartile)",
    conditions={
        "failed": f"above {LARGEST_SHARE_CONSTANT:.0%}, of {_FEWEST_VOXELS_OF_SESSION} voxels or "
        "more in all regions",
        "suspicious": f"above {SHARE_CONSTANT_SUSPICIOUS:.0%}; of fewer voxels, or in one region, "
        f"above {LARGEST_SHARE_CONSTANT:.0%}",
        "not decidable": f"fewer than {FEWEST_COMPARED} voxels",
        "passed": "fewer",
    },
    value="{found}",
    expectation=f"at most {SHARE_CONSTANT_SUSPICIOUS:.0%} of {{sites}} constant beyond other "
    "sessions",
    unit="share of {sites}",
    meanings=meanings_of_sessions(
        "A few {sites} may lack data in a session; where most do, the file has holes, or its "
        f"volumes lie elsewhere: {DOWNLOAD_AGAIN}.",
        passed="In every session most {sites} have data.",
    ),
    thresholds=(
        Threshold("share, failed", LARGEST_SHARE_CONSTANT, "simulated sessions"),
        Threshold("share, suspicious", SHARE_CONSTANT_SUSPICIOUS, "simulated sessions"),
        Threshold("fewest voxels for *failed*", _FEWEST_VOXELS_OF_SESSION, "simulated sessions"),
        Threshold("fewest voxels", FEWEST_COMPARED, "simulated sessions: a few may be anything"),
    ),
)

TRIALS_WITH_DATA: Final = Kind(
    name="trials of a session with data",
    scope="subject",
    measures="trials with one value in all voxels",
    conditions={
        "failed": f"{_UNIFORM_TRIALS} or more",
        "suspicious": "1",
        "not decidable": "a session has no data",
        "passed": "none",
    },
    value="{found}",
    expectation="no trial with one value in all {sites}",
    upper=0,
    unit="trials",
    meanings=meanings_of_sessions(
        f"In such trials nothing was measured: the file has holes; {DOWNLOAD_AGAIN}.",
        passed="Every trial contains data.",
    ),
    thresholds=(
        Threshold("trials, failed", _UNIFORM_TRIALS, "one is odd, more are a hole in the file"),
    ),
)

SATURATION: Final = Kind(
    name="saturation",
    scope="subject",
    measures="values clipped, beyond the other sessions' median",
    conditions={
        "failed": f"above {SATURATED_FAILED:.0%}",
        "suspicious": f"above {SATURATED_SUSPICIOUS:.0%}",
        "passed": "fewer",
    },
    value="{found}",
    expectation=f"at most {SATURATED_SUSPICIOUS:.0%} of values clipped beyond other sessions",
    upper=SATURATED_SUSPICIOUS,
    unit="share of values",
    meanings=meanings_of_sessions(
        "Values at the limits of int16 were clipped; many of them mean that a session was scaled "
        "twice.",
        passed="Hardly any value was clipped at the limits of int16.",
    ),
    thresholds=(
        Threshold("share, failed", SATURATED_FAILED, "chosen"),
        Threshold("share, suspicious", SATURATED_SUSPICIOUS, "chosen"),
    ),
)

SESSIONS_DIFFER: Final = Kind(
    name="sessions differ",
    scope="subject",
    measures="digests of raw values",
    conditions={"failed": "two sessions have the same", "passed": "all differ"},
    value="{found}",
    expectation="no two sessions with the same values",
    upper=0,
    unit="sessions",
    meanings=meanings_of_sessions(
        "Sessions with the same raw values are copies of one file: download them again.",
        passed="No two sessions hold the same raw values.",
    ),
)

VOXELS_IN_PLACE: Final = Kind(
    name="voxels of a session in their places",
    scope="subject",
    measures="r over voxels of the logarithm of the deviation with the other sessions, over all "
    f"regions and in each of {_FEWEST_IN_PATTERN} voxels or more",
    conditions={
        "suspicious": f"below {PATTERN_SUSPICIOUS:g} where {PATTERN_USUAL:g} is usual",
        "not decidable": f"fewer than {FEWEST_SESSIONS} sessions or {_FEWEST_IN_PATTERN} voxels "
        f"with data, or less than {PATTERN_USUAL:g} is usual",
        "passed": "more",
    },
    value="{found}",
    expectation=f"r above {PATTERN_SUSPICIOUS:g} with the other sessions' deviations over "
    "{sites}",
    lower=PATTERN_SUSPICIOUS,
    unit="r",
    meanings=meanings_of_sessions(
        "The {sites} that vary much are largely the same in all sessions of a subject; a session "
        "that differs is misaligned, or another subject's.",
        passed="Every session has the subject's own pattern of {sites} that vary much.",
    ),
    thresholds=(
        Threshold("r, suspicious", PATTERN_SUSPICIOUS, "simulated sessions"),
        Threshold("r, usual", PATTERN_USUAL, "simulated sessions"),
        Threshold("fewest voxels", _FEWEST_IN_PATTERN, "the error of r is 0.2"),
        Threshold("fewest sessions", FEWEST_SESSIONS, "no session differs from one other"),
    ),
)


def check_session_records(subject: int, records: SubjectRecords, noun: Noun = VOXEL) -> list[Check]:
    """Check that a subject's sessions hold data, each its own, on one scale.

    Parameters
    ----------
    subject : int
        1-based.
    records : mapping of int to mapping of str to BetaStatistics
        By session (1-based) and region, of all sessions the same regions.
    noun : Noun
        What voxels are called.

    Returns
    -------
    list of Check
        Eight; a session is compared with the subject's others by medians over sessions.
    """
    name = f"subj{subject:02d}"
    size, verdict_of_size = size_of_sessions(records)
    checks = [BETAS_IN_PERCENT.check(verdict_of_size, subject=name, measured=size)]
    for kind, findings in (
        (VOXELS_WITH_DATA, _without_data(records, noun)),
        (TRIALS_WITH_DATA, _uniform_trials(records, noun)),
        (SATURATION, _saturated(records)),
        (SCALE_OF_SESSIONS, scale_of_sessions(records)),
        (SCALE_OF_RUNS, scale_of_runs(records)),
        (SESSIONS_DIFFER, _copies(records)),
        (VOXELS_IN_PLACE, _patterns(records)),
    ):
        if findings is None:
            unknown = "cannot be told from these sessions"
            checks.append(kind.check(None, subject=name, found=unknown))
            continue
        verdicts: list[Verdict] = [verdict for verdict, _ in findings.sessions.values()]
        no_data = f"too few {noun.plural} with data"
        named = [
            f"session {session}: {text or no_data}"
            for session, (_, text) in findings.sessions.items()
        ]
        every = f"all {len(records)} sessions" if len(records) > 1 else "the only session"
        checks.append(
            kind.check(
                worst(verdicts) if verdicts else "passed",
                subject=name,
                session=findings.session,
                run=findings.run,
                measured=findings.measured,
                lower=findings.lower,
                upper=findings.upper,
                unit=findings.unit,
                found="; ".join(named) or every,
            )
        )
    return checks


def _without_data(records: SubjectRecords, noun: Noun) -> SessionFindings | None:
    voxels = by_session(records, "n_voxels")
    if voxels[0].sum() < FEWEST_COMPARED:
        return None
    share = by_session(records, "constant_voxels") / voxels
    # What the better sessions lack lies outside the coverage of all; most may be broken.
    excess = share - np.quantile(share, 0.25, axis=0, method="lower")
    together = (excess * voxels).sum(axis=1) / voxels.sum(axis=1)
    names = list(next(iter(records.values())))
    findings: dict[int, Finding] = {}
    for row, session in enumerate(records):
        in_session = {
            name: share[row, column]
            for column, name in enumerate(names)
            if excess[row, column] > LARGEST_SHARE_CONSTANT
        }
        many = voxels[row].sum() >= _FEWEST_VOXELS_OF_SESSION
        if together[row] > (SHARE_CONSTANT_SUSPICIOUS if many else LARGEST_SHARE_CONSTANT):
            sure = many and together[row] > LARGEST_SHARE_CONSTANT
            constant = (share[row] @ voxels[row]) / voxels[row].sum()
            text = f"{constant:.0%} of {voxels[row].sum():.0f} {noun.plural} constant"
            findings[session] = ("failed" if sure else "suspicious", text)
        elif in_session:
            text = ", ".join(f"{part:.0%} of {name}" for name, part in in_session.items())
            findings[session] = ("suspicious", f"{text} constant")
    most = int(np.argmax(together))
    many = voxels[most].sum() >= _FEWEST_VOXELS_OF_SESSION
    return SessionFindings(
        findings,
        float(together[most]),
        list(records)[most],
        upper=SHARE_CONSTANT_SUSPICIOUS if many else LARGEST_SHARE_CONSTANT,
    )


def _uniform_trials(records: SubjectRecords, noun: Noun) -> SessionFindings:
    findings: dict[int, Finding] = {}
    numbers = {}
    for session, regions in records.items():
        name, part = max(regions.items(), key=lambda item: item[1].session.uniform_trials)
        numbers[session] = number = part.session.uniform_trials
        if number:
            where = f"of {name}"
            if all(record.session.uniform_trials == number for record in regions.values()):
                where = "of every region" if len(regions) > 1 else where
            runs = [str(n) for n, run in enumerate(part.runs, 1) if run.uniform_trials]
            text = f"{number} of {part.session.n_trials} trials with one value in all "
            text += f"{noun.plural} {where} ({'run' if len(runs) == 1 else 'runs'} "
            text += f"{', '.join(runs)} of {len(part.runs)})"
            findings[session] = ("failed" if number >= _UNIFORM_TRIALS else "suspicious", text)
        elif all(record.constant_voxels == record.n_voxels for record in regions.values()):
            findings[session] = WITHOUT_DATA
    most = max(numbers, key=numbers.__getitem__)
    return SessionFindings(findings, numbers[most], most)


def _saturated(records: SubjectRecords) -> SessionFindings:
    voxels = by_session(records, "n_voxels")
    share = (by_session(records, "saturated") * voxels).sum(axis=1) / voxels.sum(axis=1)
    excess = share - np.median(share)
    findings: dict[int, Finding] = {
        session: (
            "failed" if excess[row] > SATURATED_FAILED else "suspicious",
            f"{share[row]:.1%} of values at the limits of int16",
        )
        for row, session in enumerate(records)
        if excess[row] > SATURATED_SUSPICIOUS
    }
    most = int(np.argmax(excess))
    return SessionFindings(findings, float(excess[most]), list(records)[most])


def _copies(records: SubjectRecords) -> SessionFindings:
    findings: dict[int, Finding] = {}
    first_with: dict[tuple[str, ...], int] = {}
    for session, regions in records.items():
        digests = tuple(part.sample_sha256 for part in regions.values() if part.sample_sha256)
        if not digests:
            continue
        if digests in first_with:
            findings[session] = ("failed", f"the same values as session {first_with[digests]}")
        first_with.setdefault(digests, session)
    return SessionFindings(
        findings, len(findings), next(iter(findings)) if len(findings) == 1 else None
    )


def _patterns(records: SubjectRecords) -> SessionFindings | None:
    """Compare, between sessions, how much each of the sampled voxels varies.

    Of all regions together, and of each that has enough voxels: one alone may be moved.
    """
    together = _patterns_of(records, list(next(iter(records.values()))))
    if together is None:
        return None
    lowest = together
    for name in next(iter(records.values())):
        alone = _patterns_of(records, [name])
        if alone is None:
            continue
        for session, (verdict, text) in alone.sessions.items():
            if verdict == "suspicious":
                together.sessions.setdefault(session, (verdict, f"{text} in {name}"))
        lowest = min(lowest, alone, key=lambda findings: findings.measured)
    return replace(lowest, sessions=together.sessions)


def _patterns_of(records: SubjectRecords, names: Sequence[str]) -> SessionFindings | None:
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
    findings: dict[int, Finding] = dict.fromkeys(
        np.array(list(records))[~known].tolist(), WITHOUT_DATA
    )
    for session, value in zip(sessions.tolist(), usual, strict=True):
        if value < PATTERN_SUSPICIOUS:
            text = f"r {value:.2f} where {np.median(usual):.2f} is usual"
            findings[session] = ("suspicious", text)
    lowest = int(np.argmin(usual))
    return SessionFindings(findings, float(usual[lowest]), int(sessions[lowest]))
