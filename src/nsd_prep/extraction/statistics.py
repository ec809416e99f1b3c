"""What a session's raw betas look like in a region: recorded while they are in memory."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from nsd_prep.core.digests import sha256_of_bytes
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.published import BETA_SCALE

#: Voxels, evenly spaced, of which mean and deviation are taken, and how many are kept one by one.
_SAMPLED: Final = 256
_KEPT: Final = 64
_LOWEST, _HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max
#: Voxels that vary below which all having one value in a trial may be chance.
_FEWEST_VARYING: Final = 3
_DIGITS: Final = 5


class TrialStatistics(BaseModel):
    """Raw betas of a region over some trials of a session.

    Attributes
    ----------
    n_trials : int
        How many trials.
    mean, mean_spread : float
        Median and interquartile range over voxels of the mean over trials, in percent signal
        change: over 256 voxels, evenly spaced, where there are more. Voxels that are constant over
        the session are left out of these and the next.
    deviation, deviation_spread : float
        The same of the standard deviation over trials (N in the denominator).
    uniform_trials : int
        Trials in which every voxel that varies over the session has the same value; 0 where fewer
        than three vary.
    """

    model_config = ConfigDict(frozen=True)

    n_trials: int
    mean: float
    mean_spread: float
    deviation: float
    deviation_spread: float
    uniform_trials: int


class BetaStatistics(BaseModel):
    """Raw betas of a region in a session.

    Attributes
    ----------
    n_voxels : int
        Voxels of the region.
    constant_voxels : int
        Voxels with one value in all trials: without data in this session.
    saturated : float
        Share of values at the ends of int16, where larger responses are cut off.
    session : TrialStatistics
        Over all trials.
    runs : tuple of TrialStatistics
        Over the trials of each run.
    voxel_mean, voxel_deviation : tuple of float
        Mean and standard deviation over trials of 64 voxels, evenly spaced, or of all where there
        are fewer; percent signal change.
    sample_sha256 : str
        Digest of the raw values of these voxels; empty where none of them varies.
    """

    model_config = ConfigDict(frozen=True)

    n_voxels: int
    constant_voxels: int
    saturated: float
    session: TrialStatistics
    runs: tuple[TrialStatistics, ...]
    voxel_mean: tuple[float, ...]
    voxel_deviation: tuple[float, ...]
    sample_sha256: str

    @property
    def is_possible(self) -> bool:
        """Whether numbers are finite, and counts and shares within their limits."""
        parts = (self.session, *self.runs)
        numbers = [value for part in parts for value in part.model_dump().values()]
        numbers += [self.saturated, *self.voxel_mean, *self.voxel_deviation]
        spreads = [value for part in parts for value in (part.mean_spread, part.deviation_spread)]
        deviations = [part.deviation for part in parts] + [*self.voxel_deviation, *spreads]
        return (
            bool(np.isfinite(numbers).all())
            and min(deviations, default=0) >= 0
            and 0 <= self.saturated <= 1
            and 0 <= self.constant_voxels <= self.n_voxels
            and all(0 <= part.uniform_trials <= part.n_trials for part in parts)
            and len(self.voxel_mean) == len(self.voxel_deviation) == min(self.n_voxels, _KEPT)
            and sum(part.n_trials for part in self.runs) == self.session.n_trials
        )


def describe_part(values: Betas, runs: tuple[int, ...]) -> BetaStatistics:
    """Describe a region's raw betas in a session.

    Parameters
    ----------
    values : ndarray, shape (n_voxels, n_trials)
        As stored: int16, 300 times the percent signal change; or float32, percent signal change,
        NaN in all trials of a vertex without data. At least one voxel and trial.
    runs : tuple of int
        Trials of each run, as `run_lengths` gives them.

    Returns
    -------
    BetaStatistics
        Of this region alone, whatever others are read with it.
    """
    is_integer = values.dtype == np.int16
    if not is_integer:
        values = np.nan_to_num(values)  # no data are zeros where betas are integers
    lowest, highest = values.min(axis=1), values.max(axis=1)
    varies = lowest != highest
    cut_off = values[(lowest == _LOWEST) | (highest == _HIGHEST)]
    n_cut_off = np.count_nonzero((cut_off == _LOWEST) | (cut_off == _HIGHEST))
    saturated = n_cut_off / values.size if is_integer else 0.0
    uniform = _uniform_trials(values, varies)
    sample = values[_evenly_spaced(len(values), _SAMPLED)]
    varying = sample[(sample != sample[:, :1]).any(axis=1)]
    session, *of_runs = _statistics(varying, uniform, runs)
    sampled = np.ascontiguousarray(values[_evenly_spaced(len(values), _KEPT)])
    mean, deviation = _mean_and_deviation(sampled)
    return BetaStatistics(
        n_voxels=len(values),
        constant_voxels=int(np.count_nonzero(~varies)),
        saturated=_rounded(saturated),
        session=session,
        runs=tuple(of_runs),
        voxel_mean=tuple(map(_rounded, mean.tolist())),
        voxel_deviation=tuple(map(_rounded, deviation.tolist())),
        sample_sha256=sha256_of_bytes(sampled.astype("<i2" if is_integer else "<f4").tobytes())
        if deviation.any()
        else "",
    )


def _evenly_spaced(n_voxels: int, most: int) -> NDArray[np.int64]:
    return np.linspace(0, n_voxels - 1, min(n_voxels, most)).astype(np.int64)


def _mean_and_deviation(
    values: Betas,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each voxel's mean and standard deviation over trials, percent signal change."""
    scaled = values / np.float32(_scale(values))
    return scaled.mean(axis=1), scaled.std(axis=1)


def _uniform_trials(values: Betas, varies: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the trials in which all voxels that vary have one value."""
    uniform = np.zeros(values.shape[1], dtype=np.bool_)
    varying = np.flatnonzero(varies)
    if len(varying) < _FEWEST_VARYING:
        return uniform
    # Some voxels exclude nearly every trial of sound data.
    some = values[varying[:8]]
    candidates = np.flatnonzero((some == some[0]).all(axis=0))
    if len(candidates):
        those = values[np.ix_(varying, candidates)]
        uniform[candidates] = (those == those[0]).all(axis=0)
    return uniform


def _statistics(
    values: Betas, uniform: NDArray[np.bool_], runs: tuple[int, ...]
) -> list[TrialStatistics]:
    """Return the statistics of the session, then of each run.

    In few calls on all runs: each of many small ones, in a thread beside another, would wait for
    the interpreter's turn.
    """
    lengths = np.array(runs, dtype=np.int64)
    n_trials = np.concatenate([[len(uniform)], lengths])
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    scaled = (
        values.astype(np.float64) / _scale(values) if len(values) else np.zeros((1, len(uniform)))
    )
    sums = np.stack([np.add.reduceat(power, starts, axis=1) for power in (scaled, scaled**2)])
    sums = np.concatenate([sums.sum(axis=2, keepdims=True), sums], axis=2)
    mean, square = sums / n_trials
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    low, middle, high = np.quantile(np.stack([mean, deviation]), (0.25, 0.5, 0.75), axis=1)
    spread = high - low
    n_uniform = np.append(uniform.sum(), np.add.reduceat(uniform.astype(np.int64), starts))
    columns = (n_trials, middle[0], spread[0], middle[1], spread[1], n_uniform)
    return [
        TrialStatistics(
            n_trials=trials,
            mean=_rounded(mean_of_voxels),
            mean_spread=_rounded(mean_spread),
            deviation=_rounded(deviation_of_voxels),
            deviation_spread=_rounded(deviation_spread),
            uniform_trials=n_same,
        )
        for (
            trials,
            mean_of_voxels,
            mean_spread,
            deviation_of_voxels,
            deviation_spread,
            n_same,
        ) in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _scale(values: Betas) -> int:
    """Return by what values as stored are divided for percent signal change."""
    return BETA_SCALE if values.dtype == np.int16 else 1


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def sessions_table(
    records: Mapping[int, Mapping[int, Mapping[str, BetaStatistics]]],
) -> pd.DataFrame:
    """Return a row for each subject, session and region, as ``sessions.csv`` has them.

    Parameters
    ----------
    records : mapping of int to mapping of int to mapping of str to BetaStatistics
        By subject and session (1-based) and region.

    Returns
    -------
    DataFrame
        subject ("subj01"), session, region, voxels, constant_voxels, saturated (share of values);
        n_trials, mean, mean_spread, deviation, deviation_spread and uniform_trials as in
        `TrialStatistics`; lowest_run and highest_run: the least and largest deviation of a run.
    """
    rows = [
        {
            "subject": f"subj{subject:02d}",
            "session": session,
            "region": region,
            "voxels": part.n_voxels,
            "constant_voxels": part.constant_voxels,
            "saturated": part.saturated,
            **part.session.model_dump(),
            "lowest_run": min(run.deviation for run in part.runs),
            "highest_run": max(run.deviation for run in part.runs),
        }
        for subject, sessions in records.items()
        for session, regions in sessions.items()
        for region, part in regions.items()
    ]
    return pd.DataFrame(rows)
