"""Is every session in its place? Its trials agree with others' trials of the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks import Check, check
from nsd_prep.data_checks.decision import signal_share, voxels_that_tell
from nsd_prep.errors import InputFileError
from nsd_prep.published import REPETITIONS

#: Agreement, as a share of what the ncsnr predicts, below which a session is out of its place.
#: Lower than for whole regions: a session with a tired subject has weaker responses.
LOWEST_AGREEMENT: Final = 0.25
#: A session that is called misplaced lies surely below this.
HIGHEST_AGREEMENT_OF_MISPLACED: Final = 0.75
#: "Surely", in standard errors.
MARGIN: Final = 5.0
#: Trials below which nothing is decided about a session.
FEWEST_TRIALS: Final = 4

_VOXELS_AT_ONCE: Final = 256
_SESSIONS_NAMED: Final = 10


@dataclass(frozen=True)
class TrialAgreement:
    """How each trial agrees with the same image's trials in other sessions.

    Attributes
    ----------
    session : ndarray of int64, shape (n_images, 3)
        Session (1-based) of each repetition of each image.
    agreement : ndarray of float64, shape (n_images, 3)
        Sum over voxels, weighted by their signal, of the products of a trial's response with the
        mean of the same image's in other sessions, less the same with the other images of the
        session (chance); NaN where no other session shows the image.
    expected : float
        What the stored ncsnr predicts for it.
    """

    session: NDArray[np.int64]
    agreement: NDArray[np.float64]
    expected: float


def sessions_of_images(trials: pd.DataFrame, nsd_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the session of each repetition of each image.

    Parameters
    ----------
    trials : DataFrame
        One subject's trial table: nsd_id, repetition (0-based), session (1-based).
    nsd_ids : ndarray of int64, shape (n_images,)
        Images (0-based) that were each seen three times.

    Returns
    -------
    ndarray of int64, shape (n_images, 3)
        1-based.

    Raises
    ------
    InputFileError
        An image has not all three repetitions in the table.
    """
    table = trials.pivot(index="nsd_id", columns="repetition", values="session")
    table = table.reindex(index=nsd_ids, columns=range(REPETITIONS))
    missing = table.index[table.isna().any(axis=1)]
    if len(missing):
        raise InputFileError(
            f"The trial table lacks repetitions of {len(missing)} images, the first nsd_id "
            f"{missing[0]}: expected {REPETITIONS} of each; give the table of the same sessions."
        )
    return table.to_numpy(np.int64)


def agreement_of_trials(
    responses: NDArray[np.float32],
    session: NDArray[np.int64],
    ncsnr: NDArray[np.float32],
    sessions_without_data: NDArray[np.int64],
) -> TrialAgreement:
    """Compare each trial with the same image's trials in other sessions.

    Parameters
    ----------
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        Single-trial z-scores.
    session : ndarray of int64, shape (n_images, 3)
        Session (1-based) of each.
    ncsnr : ndarray of float32, shape (n_voxels,)
        As stored; NaN where a voxel has no data.
    sessions_without_data : ndarray of int64, shape (n_voxels,)
        In how many sessions a voxel is constant.

    Returns
    -------
    TrialAgreement
        Sums over voxels: those of a subject's regions may be added.
    """
    telling = voxels_that_tell(ncsnr, sessions_without_data)
    signal = signal_share(ncsnr[telling])
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
    for start in range(0, len(telling), _VOXELS_AT_ONCE):
        block = slice(start, start + _VOXELS_AT_ONCE)
        values = responses[:, :, telling[block]].astype(np.float64)
        others = share @ values
        sums = belongs.astype(np.float64) @ others.reshape(-1, others.shape[2])
        values *= signal[block]
        same += np.einsum("irv,irv->ir", values, others)
        with_sessions = values.reshape(-1, values.shape[2]) @ sums.T
        of_own_session = np.take_along_axis(with_sessions, number.reshape(-1, 1), axis=1)
        all_images += of_own_session.reshape(session.shape)
    n_different = trials_in_session - own
    scored &= n_different > 0
    chance = (all_images - own * same) / np.maximum(n_different, 1)
    return TrialAgreement(session, np.where(scored, same - chance, np.nan), float(signal @ signal))


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
        standard error), trials (how many), in_place (bool, or None where it cannot be decided).
    """
    expected = sum(region.expected for region in regions)
    total = np.sum([region.agreement for region in regions], axis=0)
    scores = pd.DataFrame(
        {
            "session": regions[0].session.ravel(),
            "score": (total / expected if expected > 0 else np.full_like(total, np.nan)).ravel(),
        }
    )
    of_session = scores.groupby("session")["score"]
    table = pd.DataFrame({"agreement": of_session.mean(), "trials": of_session.count()})
    spread = float(((scores["score"] - of_session.transform("mean")) ** 2).sum())
    freedom = max(int(table["trials"].sum()) - len(table), 1)
    # One spread for all sessions: a session's own would rest on few trials.
    table["error"] = np.sqrt(spread / freedom / table["trials"].clip(lower=1))
    table["in_place"] = [
        _is_in_place(value, error, n_trials)
        for value, error, n_trials in zip(
            table["agreement"], table["error"], table["trials"], strict=True
        )
    ]
    return table[["agreement", "error", "trials", "in_place"]]


def _is_in_place(value: float, error: float, n_trials: int) -> bool | None:
    if n_trials < FEWEST_TRIALS or not np.isfinite(value):
        return None
    if value < LOWEST_AGREEMENT:
        return False if value + MARGIN * error < HIGHEST_AGREEMENT_OF_MISPLACED else None
    return True if value - MARGIN * error > 0 else None


def check_sessions(subject: int, regions: Sequence[TrialAgreement]) -> Check:
    """Check that every session of a subject is in its place, and name those that are not.

    Parameters
    ----------
    subject : int
        1-based.
    regions : sequence of TrialAgreement
        Of all the subject's regions.

    Returns
    -------
    Check
        Failed where at least one session is misplaced; not decidable where none is known to be,
        and some have too few trials or too weak a signal.
    """
    table = session_table(regions)
    misplaced = [number for number, holds in table["in_place"].items() if holds is False]
    undecided = [number for number, holds in table["in_place"].items() if holds is None]
    if misplaced:
        value = f"at chance: {_named(misplaced)} of {len(table)}"
    elif undecided:
        value = f"cannot be told: {_named(undecided)} of {len(table)}"
    else:
        lowest = table["agreement"].idxmin()
        value = (
            f"all {len(table)} sessions; the lowest is session {lowest} with "
            f"{table['agreement'].min():.2f} of what the ncsnr predicts"
        )
    return check(
        "sessions in their places",
        f"subj{subject:02d}",
        value,
        f"every session agrees with the others (above {LOWEST_AGREEMENT:g}; chance is 0)",
        False if misplaced else None if undecided else True,
        "A session's responses agree with other sessions' responses to the same images; one at "
        "chance is another session's or subject's file: download it again.",
    )


def _named(sessions: Sequence[object]) -> str:
    named = ", ".join(str(number) for number in sessions[:_SESSIONS_NAMED])
    more = len(sessions) - _SESSIONS_NAMED
    noun = "session" if len(sessions) == 1 else "sessions"
    return f"{noun} {named}" + (f" and {more} more" if more > 0 else "")
