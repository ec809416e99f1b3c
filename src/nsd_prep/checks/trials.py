"""A subject's single trials in a region, and what is known about where they were measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks.decision import signal_share
from nsd_prep.core.counts import counted
from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.published import REPETITIONS

#: Voxels handled together: their trials fit into a core's cache.
_VOXELS_AT_ONCE: Final = 256
#: The pairs of repetitions, 0-based.
PAIRS: Final = tuple(combinations(range(REPETITIONS), 2))


@dataclass(frozen=True)
class SingleTrials:
    """A subject's single trials in a region.

    Attributes
    ----------
    responses : ndarray of float32, shape (n_images, 3, n_voxels)
        z-scores within sessions (population's standard deviation), as
        `nsd_prep.extraction.repetitions.repetitions_of_images` gives them.
    ncsnr : ndarray of float32, shape (n_voxels,)
        As stored; NaN where a voxel has no data.
    session, trial : ndarray of int64, shape (n_images, 3)
        Session (1-based) and trial in the session (0-based) of each, as `places_of_images` gives
        them.
    trials_per_session : int
        Over which trials were z-scored.
    sessions : ndarray of int64, shape (n_sessions,)
        Numbers (1-based, ascending) of the sessions read; at least those in `session`.
    without_data : ndarray of bool, shape (n_sessions, n_voxels)
        Whether a voxel is constant in a session: its trials there are zeros, not responses.
    """

    responses: NDArray[np.float32]
    ncsnr: NDArray[np.float32]
    session: NDArray[np.int64]
    trial: NDArray[np.int64]
    trials_per_session: int
    sessions: NDArray[np.int64]
    without_data: NDArray[np.bool_]

    @cached_property
    def signal(self) -> NDArray[np.float64]:
        """The share of a trial's variance that is signal by the stored ncsnr, (n_voxels,).

        0 where a voxel can tell nothing: the ncsnr is NaN or 0 (a value of 0 was cut off there,
        and only says that the signal is weak), or no session has data.
        """
        telling = (np.nan_to_num(self.ncsnr) > 0) & ((~self.without_data).sum(axis=0) >= 1)
        return np.where(telling, np.nan_to_num(signal_share(self.ncsnr)), 0.0)

    @property
    def n_telling(self) -> int:
        """How many voxels have signal by the stored ncsnr."""
        return int(np.count_nonzero(self.signal))

    def blocks(self) -> Iterator["VoxelBlock"]:
        """Give the trials in blocks of voxels: of all, then again of those that lack data.

        Voxels that lack data in some session are 0, with a signal of 0, in the blocks of all.
        """
        row = np.searchsorted(self.sessions, self.session)
        gaps: NDArray[np.bool_] = np.asarray(self.without_data[np.unique(row)].any(axis=0))
        for start in range(0, len(gaps), _VOXELS_AT_ONCE):
            block = slice(start, start + _VOXELS_AT_ONCE)
            values = self.responses[:, :, block].astype(np.float64)
            if gaps[block].any():
                values[:, :, gaps[block]] = 0
            voxels = np.arange(start, start + values.shape[2])
            yield VoxelBlock(voxels, values, None, np.where(gaps[block], 0, self.signal[block]))
        with_gaps = np.flatnonzero(gaps)
        for start in range(0, len(with_gaps), _VOXELS_AT_ONCE):
            voxels = with_gaps[start : start + _VOXELS_AT_ONCE]
            valid = ~self.without_data[:, voxels][row]
            responses = self.responses[:, :, voxels].astype(np.float64) * valid
            yield VoxelBlock(voxels, responses, valid, self.signal[voxels])


class VoxelBlock(NamedTuple):
    """Trials of some voxels.

    Attributes
    ----------
    voxels : ndarray of int64, shape (n_block,)
        Positions (0-based) among the region's voxels.
    values : ndarray of float64, shape (n_images, 3, n_block)
        Responses, 0 where there are no data; a copy.
    valid : ndarray of bool, shape (n_images, 3, n_block), optional
        Which are responses; None where all are.
    signal : ndarray of float64, shape (n_block,)
        As `SingleTrials.signal`.
    """

    voxels: NDArray[np.int64]
    values: NDArray[np.float64]
    valid: NDArray[np.bool_] | None
    signal: NDArray[np.float64]


class OfBlocks(Protocol):
    """Computes something of trials from one block of voxels after another."""

    def add(self, block: VoxelBlock) -> None:
        """Add a block, whose values must stay as they are."""


def add_blocks(trials: SingleTrials, *computed: OfBlocks) -> None:
    """Add all voxels of trials to each of several: a block is then in the core's cache once."""
    for block in trials.blocks():
        for one in computed:
            one.add(block)


def over_pairs(
    values: NDArray[np.float64], valid: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return products and squares of trials, averaged over pairs of an image's repetitions.

    Parameters
    ----------
    values : ndarray of float64, shape (n_images, 3, n_voxels)
        0 where `valid` is False.
    valid : ndarray of bool, shape (n_images, 3, n_voxels), optional
        Which are responses: only pairs of these count.

    Returns
    -------
    products, squares : ndarray of float64, shape (n_images, n_voxels)
        Of the two trials with each other, and of each with itself. Where no pair has data, the
        voxel's mean over images; NaN where no image has a pair.
    """
    if valid is None:
        squares = np.einsum("irv,irv->iv", values, values)
        products = values[:, 0] + values[:, 1]
        products += values[:, 2]
        products *= products
        products -= squares
        products /= REPETITIONS * (REPETITIONS - 1)
        squares /= REPETITIONS
        return products, squares
    pairs = [(a, b, valid[:, a] & valid[:, b]) for a, b in PAIRS]
    number = np.sum([both for _, _, both in pairs], axis=0)
    halves = []
    for totals in (
        [both * values[:, a] * values[:, b] for a, b, both in pairs],
        [both * (values[:, a] ** 2 + values[:, b] ** 2) / 2 for a, b, both in pairs],
    ):
        mean = np.sum(totals, axis=0) / np.maximum(number, 1)
        n_images = (number > 0).sum(axis=0)
        of_voxel = np.where(n_images > 0, mean.sum(axis=0) / np.maximum(n_images, 1), np.nan)
        halves.append(np.where(number > 0, mean, of_voxel))
    return halves[0], halves[1]


def places_of_images(
    trials: pd.DataFrame, nsd_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each repetition of each image was measured.

    Parameters
    ----------
    trials : DataFrame
        One subject's trial table: nsd_id, repetition (0-based), session (1-based) and
        trial_in_session (0-based).
    nsd_ids : ndarray of int64, shape (n_images,)
        Images (0-based) that were each seen three times.

    Returns
    -------
    session : ndarray of int64, shape (n_images, 3)
        1-based.
    trial : ndarray of int64, shape (n_images, 3)
        0-based, in the session.

    Raises
    ------
    InputFileError
        An image has not all three repetitions in the table.
    """
    table = trials.pivot(
        index="nsd_id", columns="repetition", values=["session", "trial_in_session"]
    )
    table = table.reindex(index=nsd_ids)
    session, trial = (
        table[name].reindex(columns=range(REPETITIONS)) for name in ("session", "trial_in_session")
    )
    missing = table.index[session.isna().any(axis=1)]
    if len(missing):
        raise InputFileError(
            f"The trial table lacks repetitions of {counted(len(missing), 'image')}, the first "
            f"nsd_id {missing[0]}: expected {REPETITIONS} of each; give the table of the same "
            "sessions."
        )
    return session.to_numpy(np.int64), trial.to_numpy(np.int64)
