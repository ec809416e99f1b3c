"""Is every session in its place? Its trials agree with others' of the same images."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks.runs import check_runs, run_table
from nsd_prep.checks.trial_agreement import (
    HIGHEST_AGREEMENT_OF_MISPLACED,
    LOWEST_AGREEMENT,
    MARGIN_OF_SURE,
    AgreementScores,
    TrialAgreement,
)
from nsd_prep.core.check import Check, Kind, Threshold, Verdict, worst
from nsd_prep.dataset.published import DOWNLOAD_AGAIN

#: A session at chance lies surely below this, by the smaller margin: a tired subject's session
#: with 15 % of the signal agrees so much, and is suspicious, not failed.
TIRED: Final = 0.2
MARGIN_OF_TIRED: Final = 2.5
#: A session surely above 0 by so many standard errors is weak, not misplaced.
MARGIN_OF_WEAK: Final = 2.5
MARGIN_OF_WEAKER_THAN_USUAL: Final = 4.0
#: Sessions of a subject differ in strength. One is weak that lies so many robust standard
#: deviations of the subject's sessions below their median; these are taken to differ by 0.1 at
#: least, as NSD's do.
DEVIATIONS_OF_WEAK: Final = 3.5
_LEAST_SPREAD_OF_STRENGTH: Final = 0.1
#: The same in one region: small ones are many, and their errors rest on few voxels.
MARGIN_OF_REGION: Final = 6.0
FEWEST_TRIALS_OF_REGION: Final = 10
#: Trials below which nothing is decided about a session.
FEWEST_TRIALS_OF_SESSION: Final = 4

AT_CHANCE: Final = "at chance"
OPPOSITE: Final = "of the opposite sign"
WEAK: Final = "weak"
AT_CHANCE_OR_WEAK: Final = "at chance or weak"
#: A session at chance, of early visual cortex alone: the subject may not have looked.
UNSEEN: Final = "at chance in early cortex"
#: Sessions that NSD is known to have.
KNOWN: Final = "known"
#: Regions that tell nothing of a subject who did not look at the images.
EARLY_CORTEX: Final = frozenset(
    {"V1", "V2", "V3", "V4", "hV4", "V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "early"}
)
_MISPLACED: Final = (AT_CHANCE, OPPOSITE, UNSEEN)
_SESSIONS_NAMED: Final = 10
_WHERE_RECORD_SPEAKS: Final = (
    "only where a check of the session's record (its scale, its {sites}, its trials with data) is "
    f"failed or suspicious too, {DOWNLOAD_AGAIN}."
)

SESSIONS_IN_PLACE: Final = Kind(
    name="sessions in their places",
    scope="subject; again with single trials",
    measures="agreement of a session's trials with the same images' in other sessions, less that "
    "with other images'; over all regions, and over each. Of single trials, of all images seen "
    "three times, over the 64 voxels of the highest ncsnr: all trials count, so that one region "
    "and one exchanged run are told",
    draws=("trials", "sessions"),
    conditions={
        "failed": f"a session at chance: below {LOWEST_AGREEMENT:g}, below "
        f"{HIGHEST_AGREEMENT_OF_MISPLACED:g} by {MARGIN_OF_SURE:g} standard errors, and "
        f"below {TIRED:g} by {MARGIN_OF_TIRED:g}, where the others do not differ so "
        f"much ({DEVIATIONS_OF_WEAK:g} robust deviations); not one in early cortex "
        "alone, and none that is known to be weak in NSD; or of the opposite sign",
        "suspicious": "one that is weak, or at chance otherwise, or that may be; one that is weak "
        f"in one region by {MARGIN_OF_REGION:g} standard errors",
        "not decidable": f"fewer than {FEWEST_TRIALS_OF_SESSION} trials, or too weak a signal",
        "passed": f"above {LOWEST_AGREEMENT:g}, and above 0 by {MARGIN_OF_SURE:g} standard errors",
    },
    value="{found}",
    expectation=f"every session agrees with the others (above {LOWEST_AGREEMENT:g}; chance is 0)",
    lower=LOWEST_AGREEMENT,
    unit="share of the prediction",
    meanings={
        "passed": "A session's responses agree with other sessions' responses to the same images.",
        "not decidable": "Some sessions have too few shared images, or too weak a signal, to tell.",
        "all at chance": "No session agrees with another: the order of sessions or trials, or the "
        "design, is another subject's or is counted from another number.",
        AT_CHANCE: "The subject may have slept or looked away, or the head moved: compare "
        "regions elsewhere in the brain. At chance everywhere it is another session's "
        f"or subject's file, or its trials are in another order; {_WHERE_RECORD_SPEAKS}",
        UNSEEN: "The subject may not have looked (closed eyes, fatigue): compare higher areas, "
        "where such a session looks normal. At chance there too, it is another session's "
        f"or subject's file, or its trials are in another order; {_WHERE_RECORD_SPEAKS}",
        KNOWN: "These sessions of NSD are known to be weak, and their trials are right (subject "
        "7's session 34 is blind in early visual cortex and normal elsewhere). Leave them "
        "out where that matters; there is nothing to repair.",
        OPPOSITE: "A session of the opposite sign disagrees with the others as much as sessions "
        f"agree: its betas were multiplied by a negative number; {DOWNLOAD_AGAIN}.",
        AT_CHANCE_OR_WEAK: "Such a session is most likely that of a tired subject, or of one "
        "whose eyes were closed: compare higher areas, and look at its mean "
        "image. Otherwise it is another session's or subject's file, or its "
        f"trials are in another order; {_WHERE_RECORD_SPEAKS}",
        WEAK: "A weak session may be a tired subject's, or its {sites} lie elsewhere (the head "
        "moved, or it is another preparation): look at its mean image before you use it.",
    },
    thresholds=(
        Threshold("agreement of a session at chance", LOWEST_AGREEMENT, "simulations"),
        Threshold("surely below", HIGHEST_AGREEMENT_OF_MISPLACED, "simulations"),
        Threshold("standard errors, failed", MARGIN_OF_SURE, "simulations: no sound session"),
        Threshold("agreement of a tired session", TIRED, "simulations: 15 % of the signal"),
        Threshold("standard errors below that", MARGIN_OF_TIRED, "simulations"),
        Threshold("standard errors above 0, weak", MARGIN_OF_WEAK, "simulations"),
        Threshold("standard errors, suspicious", MARGIN_OF_WEAKER_THAN_USUAL, "simulations"),
        Threshold("robust deviations of sessions, weak", DEVIATIONS_OF_WEAK, "simulations"),
        Threshold("standard errors in one region", MARGIN_OF_REGION, "small regions are many"),
        Threshold("fewest trials", FEWEST_TRIALS_OF_SESSION, "simulations"),
        Threshold("fewest trials in one region", FEWEST_TRIALS_OF_REGION, "few voxels"),
    ),
)


def session_agreement_table(regions: Sequence[TrialAgreement]) -> pd.DataFrame:
    """Return the agreement of each session of a subject, over all the subject's regions.

    Parameters
    ----------
    regions : sequence of TrialAgreement
        Of one subject, with the same sessions.

    Returns
    -------
    DataFrame
        Index session (1-based); agreement (1 is what the ncsnr predicts, 0 chance), error (its
        standard error), trials (how many), verdict (as in `nsd_prep.core.check`) and what: "at
        chance", "weak", or that it is one of them, or "of the opposite sign"; empty where nothing
        is; and the columns of `run_table`.
    """
    scores = AgreementScores(regions)
    return _judged(scores, scores)


def session_agreement(regions: Sequence[TrialAgreement]) -> "pd.Series[float]":
    """Return that column of `session_agreement_table`, without judging sessions or their runs."""
    scores = AgreementScores(regions)
    agreement, _, _ = _agreement(scores)
    return pd.Series(agreement, pd.Index(scores.sessions, name="session"), name="agreement")


def _judged(scores: AgreementScores, scores_of_runs: AgreementScores) -> pd.DataFrame:
    agreement, error, trials = _agreement(scores)
    usual = _median(agreement)
    lowest = _lowest_usual(agreement)
    # Those at chance do not tell how much sessions differ that are not.
    possible = _lowest_usual(agreement[agreement > LOWEST_AGREEMENT])
    judged = [
        _judge_session(*each, usual, lowest, possible)
        for each in zip(agreement, error, trials, strict=True)
    ]
    table = pd.DataFrame(
        {
            "agreement": agreement,
            "error": error,
            "trials": trials,
            "verdict": [verdict for verdict, _ in judged],
            "what": [what for _, what in judged],
        },
        index=pd.Index(scores.sessions, name="session"),
    )
    table = table.join(run_table(scores_of_runs))
    none = pd.Series([()] * len(table), table.index)
    # A session without an image seen three times has no run to judge.
    table["runs"] = table["runs"].where(table["runs"].notna(), none)
    # No run of a misplaced session is better than the session.
    misplaced = table["what"].isin(_MISPLACED)
    table["runs"] = table["runs"].mask(misplaced, none)
    # Elsewhere the runs are what is wrong.
    table.loc[table["runs"].map(len) > 0, ["verdict", "what"]] = ["passed", ""]
    return table


def _agreement(
    scores: AgreementScores,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return agreement, standard error and number of trials of each session."""
    sums = scores.sums.sum(axis=1)
    return *scores.judged(sums), sums[:, 3].astype(np.int64)


def _median(agreement: NDArray[np.float64]) -> float:
    """Return the median over the sessions that have an agreement; NaN where none has."""
    known = agreement[~np.isnan(agreement)]
    return float(np.median(known)) if len(known) else float("nan")


def _lowest_usual(agreement: NDArray[np.float64]) -> float:
    """Return the agreement below which a session is weaker than a subject's sessions differ."""
    known = agreement[np.isfinite(agreement)]
    if not len(known):
        return float("nan")
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    return middle - DEVIATIONS_OF_WEAK * max(spread, _LEAST_SPREAD_OF_STRENGTH)


def _judge_session(
    value: float, error: float, n_trials: int, usual: float, lowest: float, possible: float
) -> tuple[Verdict, str]:
    if n_trials < FEWEST_TRIALS_OF_SESSION or not np.isfinite(value):
        return "not decidable", ""
    if value < LOWEST_AGREEMENT and value + MARGIN_OF_SURE * error < HIGHEST_AGREEMENT_OF_MISPLACED:
        if value - MARGIN_OF_WEAK * error > 0:
            return ("suspicious", WEAK) if value < lowest else ("not decidable", "")
        if value + MARGIN_OF_SURE * error < 0:
            return "failed", OPPOSITE
        # Where sessions differ so much that one may be at chance, that is not sure.
        if value + MARGIN_OF_TIRED * error < TIRED and not value > possible:
            return "failed", AT_CHANCE
        return "suspicious", AT_CHANCE_OR_WEAK
    weaker = HIGHEST_AGREEMENT_OF_MISPLACED * min(usual, 1)
    if value < lowest and value + MARGIN_OF_WEAKER_THAN_USUAL * error < weaker:
        return "suspicious", WEAK
    if value < LOWEST_AGREEMENT or value - MARGIN_OF_SURE * error <= 0:
        return "not decidable", ""
    return "passed", ""


def check_sessions(
    subject: str,
    regions: Mapping[str, TrialAgreement],
    data: str = "",
    *,
    known: Collection[int] = (),
    repeated: Sequence[TrialAgreement] = (),
) -> list[Check]:
    """Check that a subject's sessions and runs are in their places, and name those that are not.

    Parameters
    ----------
    subject : str
        Such as "subj01".
    regions : mapping of str to TrialAgreement
        Of all the subject's regions.
    data : str
        As in `nsd_prep.core.check.Check`.
    known : collection of int
        Sessions (1-based) of which it is known that they are weak or blind, and right.
    repeated : sequence of TrialAgreement
        Of every image seen three times, in a few voxels of regions, by which runs are judged; by
        `regions` where none is given.

    Returns
    -------
    list of Check
        Of the sessions: failed where one is misplaced over all regions together; suspicious where
        one is weak, or misplaced in one of the regions; not decidable where some have too few
        trials or too weak a signal. And of their runs, as `check_runs` gives it.
    """
    scores = AgreementScores(list(regions.values()))
    table = _judged(scores, AgreementScores(repeated) if repeated else scores)
    at_chance = table["what"] == AT_CHANCE
    if at_chance.sum() == 1 and set(regions) <= EARLY_CORTEX:
        table.loc[at_chance, ["verdict", "what"]] = ["suspicious", UNSEEN]
    of_known = table.index.isin(list(known)) & at_chance
    table.loc[of_known, "verdict"] = "suspicious"
    verdicts: list[Verdict] = list(table["verdict"])
    named = [
        f"{what}: {_named(table.index[table['what'] == what])} of {len(table)}"
        for what in (AT_CHANCE, OPPOSITE, UNSEEN, AT_CHANCE_OR_WEAK, WEAK)
        if (table["what"] == what).any()
    ]
    if len(regions) > 1:
        for region, agreement in regions.items():
            value, error, trials = _agreement(AgreementScores([agreement]))
            usual = min(_median(value), 1)
            wrong = (
                (value + MARGIN_OF_REGION * error < HIGHEST_AGREEMENT_OF_MISPLACED * usual)
                & (value < _lowest_usual(value))
                & (trials >= FEWEST_TRIALS_OF_REGION)
                & (table["what"] == "").to_numpy()
                & (table["runs"].map(len) == 0).to_numpy()
            )
            if wrong.any():
                named.append(f"weak in {region}: {_named(table.index[wrong])} of {len(table)}")
                verdicts.append("suspicious")
    undecided = table.index[table["verdict"] == "not decidable"]
    if not named and len(undecided):
        named = [f"cannot be told: {_named(undecided)} of {len(table)}"]
    elif not named:
        lowest = table["agreement"].idxmin()
        named = [
            f"all {len(table)} sessions; the lowest is session {lowest} with "
            f"{table['agreement'].min():.2f} of what the ncsnr predicts"
        ]
    verdict = worst(verdicts)
    judged = table["agreement"].dropna()
    lowest = None if judged.empty else judged.idxmin()
    sessions = SESSIONS_IN_PLACE.check(
        verdict,
        subject=subject,
        data=data,
        session=lowest,
        measured=None if lowest is None else judged[lowest],
        reason=_reason(table, verdict, known),
        found="; ".join(named),
    )
    return [sessions, check_runs(subject, table[~table["what"].isin(_MISPLACED)], data)]


def _reason(table: pd.DataFrame, verdict: Verdict, known: Collection[int]) -> str:
    """Return which meaning goes with the verdict, by what was found."""
    if verdict in ("passed", "not decidable"):
        return verdict
    what = table["what"]
    named = table.index[what != ""]
    if len(named) and set(named) <= set(known):
        return KNOWN
    if (what == AT_CHANCE).all():
        return "all at chance"
    kinds = (AT_CHANCE, OPPOSITE, UNSEEN, AT_CHANCE_OR_WEAK)
    return next((kind for kind in kinds if (what == kind).any()), WEAK)


def _named(sessions: Sequence[object]) -> str:
    named = ", ".join(str(number) for number in sessions[:_SESSIONS_NAMED])
    more = len(sessions) - _SESSIONS_NAMED
    noun = "session" if len(sessions) == 1 else "sessions"
    return f"{noun} {named}" + (f" and {more} more" if more > 0 else "")
