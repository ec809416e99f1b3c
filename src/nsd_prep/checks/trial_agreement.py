"""How a subject's trials agree with the same images' trials in other sessions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nsd_prep.checks.trials import SingleTrials, VoxelBlock, add_blocks
from nsd_prep.dataset.published import run_lengths

#: Agreement, as a share of what the ncsnr predicts, below which a session, or a part of one, is out
#: of its place. Lower than for whole regions: a session with a tired subject has weaker responses.
LOWEST_AGREEMENT: Final = 0.25
#: What is called misplaced lies surely below this.
HIGHEST_AGREEMENT_OF_MISPLACED: Final = 0.75
#: "Surely", in standard errors.
MARGIN_OF_SURE: Final = 5.0


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
    with_other_trials : callable
        Gives what `agreement_with_other_trials` returns of the same trials, which may be read again
        for that: only where runs are at chance, which is rare, it tells what they show.
    """

    session: NDArray[np.int64]
    trial: NDArray[np.int64]
    agreement: NDArray[np.float64]
    expected: NDArray[np.float64]
    trials_per_session: int
    with_other_trials: Callable[[], NDArray[np.float32]]


def other_trials(
    session: NDArray[np.int64], trial: NDArray[np.int64], trials_per_session: int
) -> NDArray[np.int64]:
    """Return the trials whose images a trial may show where a session is out of order.

    Parameters
    ----------
    session, trial : ndarray of int64, shape (n_trials,)
        Session (1-based) and trial in the session (0-based) of each trial.
    trials_per_session : int
        Trials in a session.

    Returns
    -------
    ndarray of int64, shape (n_runs + 2, n_trials)
        For each run, the trial (an index, 0-based) at the same place in that run; then the next
        trial, and the one before; -1 where it is not among these.
    """
    lengths = np.array(run_lengths(trials_per_session))
    starts = np.cumsum(lengths) - lengths
    _, row = np.unique(session, return_inverse=True)
    # One place more at each end, for what lies beyond a session.
    at = np.full((row.max() + 1, trials_per_session + 2), -1, dtype=np.int64)
    at[row, trial + 1] = np.arange(len(trial))
    trial_in_run = trial - starts[np.searchsorted(starts, trial, side="right") - 1]
    in_runs = [
        np.where(
            trial_in_run < length,
            at[row, np.minimum(start + trial_in_run, trials_per_session) + 1],
            -1,
        )
        for start, length in zip(starts, lengths, strict=True)
    ]
    return np.array([*in_runs, at[row, trial + 2], at[row, trial]])


def agreement_of_trials(
    trials: SingleTrials, again: Callable[[], SingleTrials] | None = None
) -> TrialAgreement:
    """Compare each trial with the same image's trials in other sessions.

    Voxels count where they have data: a session of zeros has no agreement, and takes nothing from
    that of others.

    Parameters
    ----------
    trials : SingleTrials
        Of a subject and region.
    again : callable, optional
        Reads the same trials again, so that what is returned need not keep them; without it, it
        does, and their responses must stay as they are.

    Returns
    -------
    TrialAgreement
        Sums over voxels: those of a subject's regions may be added.
    """
    agreement = AgreementOfBlocks(trials)
    add_blocks(trials, agreement)
    return agreement.result(again)


def agreement_with_other_trials(trials: SingleTrials) -> NDArray[np.float32]:
    """Compare each trial with the images of other trials of its session.

    Parameters
    ----------
    trials : SingleTrials
        Of a subject and region.

    Returns
    -------
    ndarray of float32, shape (n_alternatives, n_images, 3)
        As `TrialAgreement.agreement`, each trial with the images of `other_trials` in place of its
        own; NaN where there is none.
    """
    agreement = _AgreementWithOthers(trials)
    add_blocks(trials, agreement)
    return agreement.with_other_trials()


class AgreementOfBlocks:
    """What `agreement_of_trials` returns, computed from one block of voxels after another.

    Parameters
    ----------
    trials : SingleTrials
        Whose blocks are added.
    """

    def __init__(self, trials: SingleTrials) -> None:
        self._trials = trials
        session = trials.session
        self._elsewhere = session[:, :, np.newaxis] != session[:, np.newaxis, :]
        n_elsewhere = self._elsewhere.sum(axis=2)
        self._scored = n_elsewhere > 0
        self._share = self._elsewhere / np.maximum(n_elsewhere, 1)[:, :, np.newaxis]
        numbers, number = np.unique(session, return_inverse=True)
        self._number = number.reshape(session.shape)
        belongs = number.ravel() == np.arange(len(numbers))[:, np.newaxis]
        self._in_session = csr_array((belongs & self._scored.ravel()).astype(np.float64))
        # Sums over voxels: of trials with their own image elsewhere, and with all images of their
        # session.
        self._same = np.zeros(session.shape)
        self._with_session = np.zeros(session.size)
        self._expected = np.zeros(session.shape)

    def add(self, block: VoxelBlock) -> None:
        """Add the voxels of a block."""
        _, values, valid, signal = block
        if not signal.any():
            return
        if valid is None:
            others = self._share @ values
            self._expected += np.where(self._scored, signal @ signal, 0)
        else:
            elsewhere = self._elsewhere.astype(np.float64)
            available = elsewhere @ valid
            others = elsewhere @ values / np.maximum(available, 1)
            self._expected += ((available > 0) & valid) @ signal**2
        weighted = values * signal
        self._same += np.einsum("irv,irv->ir", weighted, others)
        self._add_products(*(part.reshape(-1, part.shape[2]) for part in (weighted, others)))

    def _add_products(self, weighted: NDArray[np.float64], others: NDArray[np.float64]) -> None:
        """Add what is summed of trials and of means of other trials, each (n_trials, n_block)."""
        of_sessions = self._in_session @ others
        self._with_session += np.einsum("tv,tv->t", weighted, of_sessions[self._number.ravel()])

    def result(self, again: Callable[[], SingleTrials] | None = None) -> TrialAgreement:
        """Return the agreement in all the voxels added; `again` as for `agreement_of_trials`."""
        trials = self._trials
        scored, chance = self._chance()
        reading = again or (lambda: trials)
        return TrialAgreement(
            trials.session,
            trials.trial,
            np.where(scored, self._same - chance, np.nan),
            np.where(scored, self._expected, 0.0),
            trials.trials_per_session,
            lambda: agreement_with_other_trials(reading()),
        )

    def _chance(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which trials have an agreement, and what theirs is by chance, (n_images, 3)."""
        scored = self._scored
        number = self._number
        trials_in_session = self._in_session.sum(axis=1)[number]
        # How many scored trials of the session show the trial's own image.
        own = (~self._elsewhere & scored[:, np.newaxis, :]).sum(axis=2)
        n_different = trials_in_session - own
        scored = scored & (n_different > 0)
        all_images = self._with_session.reshape(number.shape)
        return scored, (all_images - own * self._same) / np.maximum(n_different, 1)


class _AgreementWithOthers(AgreementOfBlocks):
    """What `agreement_with_other_trials` returns, computed from one block after another."""

    def __init__(self, trials: SingleTrials) -> None:
        super().__init__(trials)
        session = trials.session.ravel()
        self._other = other_trials(session, trials.trial.ravel(), trials.trials_per_session)
        self._same_place = _trials_at_same_places(self._other[:-2])
        self._next = np.flatnonzero(self._other[-2] >= 0)
        # Sums over voxels: of trials with the images of trials at the same places in other runs,
        # and of the neighbours.
        self._at_same_place = [np.zeros((*rows.shape, rows.shape[1])) for rows in self._same_place]
        self._neighbours = np.zeros((2, len(self._next)))

    def _add_products(self, weighted: NDArray[np.float64], others: NDArray[np.float64]) -> None:
        super()._add_products(weighted, others)
        for total, rows in zip(self._at_same_place, self._same_place, strict=True):
            total += weighted[rows] @ others[rows].swapaxes(1, 2)
        first, second = self._next, self._other[-2, self._next]
        self._neighbours[0] += np.einsum("tv,tv->t", weighted[first], others[second])
        self._neighbours[1] += np.einsum("tv,tv->t", weighted[second], others[first])

    def with_other_trials(self) -> NDArray[np.float32]:
        """Return the agreement in all the voxels added."""
        scored, chance = self._chance()
        judged = scored.ravel()
        judged_instead = (self._other >= 0) & judged & judged[self._other]
        instead = np.where(judged_instead, self._instead() - chance.ravel(), np.nan)
        return instead.reshape(-1, *scored.shape).astype(np.float32)

    def _instead(self) -> NDArray[np.float64]:
        """Return the sums of trials with the images of `other_trials`, in their shape."""
        instead = np.zeros(self._other.shape)
        own_run = self._other[:-2] == np.arange(self._other.shape[1])
        run, trial = np.nonzero(own_run)
        instead[run, trial] = self._same.ravel()[trial]
        run_of = np.zeros(self._other.shape[1], dtype=np.int64)
        run_of[trial] = run
        for total, rows in zip(self._at_same_place, self._same_place, strict=True):
            instead[run_of[rows][:, np.newaxis, :], rows[:, :, np.newaxis]] = total
        instead[-2, self._next] = self._neighbours[0]
        instead[-1, self._other[-2, self._next]] = self._neighbours[1]
        return instead


def _trials_at_same_places(there: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the trials that stand at one place in several runs of a session.

    Parameters
    ----------
    there : ndarray of int64, shape (n_runs, n_trials)
        The first rows of `other_trials`.

    Returns
    -------
    list of ndarray of int64, shape (n_places, n_trials_there)
        One array for each number of trials from two on: trials (0-based) in the order of runs.
    """
    trial = np.arange(there.shape[1])
    first = there[np.argmax(there >= 0, axis=0), trial]
    places = there[:, first == trial].T  # each place once
    n_there = (places >= 0).sum(axis=1)
    found = []
    for number in range(2, len(there) + 1):
        some = places[n_there == number]
        if len(some):
            found.append(some[some >= 0].reshape(-1, number))
    return found


class AgreementScores:
    """Agreement of a subject's trials, added over regions, in sums over runs of sessions.

    Parameters
    ----------
    regions : sequence of TrialAgreement
        Of one subject, with the same sessions.

    Attributes
    ----------
    sessions : ndarray of int64, shape (n_sessions,)
        1-based.
    sums : ndarray of float64, shape (n_sessions, n_runs, 4)
        Over a run's trials: agreement, expectation, its square, number.
    spread : float
        Standard deviation of a trial's agreement, relative to its expectation: one for all
        sessions, since a session's own would rest on few trials.
    """

    def __init__(self, regions: Sequence[TrialAgreement]) -> None:
        first = regions[0]
        agreement = np.nansum([region.agreement for region in regions], axis=0).ravel()
        expected = np.sum([region.expected for region in regions], axis=0).ravel()
        self.sessions, session = np.unique(first.session.ravel(), return_inverse=True)
        ends = np.cumsum(run_lengths(first.trials_per_session))
        run = np.minimum(np.searchsorted(ends, first.trial.ravel(), side="right"), len(ends) - 1)
        scored = expected > 0
        self._regions, self._expected = regions, expected
        self._session, self._run = session, run
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

    @cached_property
    def sums_instead(self) -> NDArray[np.float64]:
        """The same as `sums`, of agreement with the images of `other_trials`.

        float64, (n_sessions, n_runs, n_alternatives, 4).
        """
        first = self._regions[0]
        other = other_trials(first.session.ravel(), first.trial.ravel(), first.trials_per_session)
        instead = first.with_other_trials()
        for region in self._regions[1:]:  # one at a time in memory
            instead = instead + region.with_other_trials()
        sums = np.zeros((*self.sums.shape[:2], len(other), 4))
        for exchange, there in enumerate(other):
            values = instead[exchange].ravel()
            known = np.flatnonzero(np.isfinite(values))
            predicted = self._expected[there[known]]
            columns = np.stack([values[known], predicted, predicted**2, np.ones(len(known))], 1)
            np.add.at(sums[:, :, exchange], (self._session[known], self._run[known]), columns)
        return sums

    def judged(self, sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the agreement of groups of trials, and its standard error, from their sums."""
        expected = np.where(sums[..., 1] > 0, sums[..., 1], np.nan)
        return sums[..., 0] / expected, self.spread * np.sqrt(sums[..., 2]) / expected
