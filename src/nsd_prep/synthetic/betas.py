"""Simulated betas of a session, and the noise ceiling SNR of the whole subject."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.synthetic.plan import REPETITIONS
from nsd_prep.synthetic.streams import Purpose, random_stream
from nsd_prep.synthetic.voxels import Tuned, Voxels

_PER_PERCENT: Final = 300  # int16 units of 1 % signal change
_LOWEST, _HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max


def simulate_session(
    voxels: Voxels,
    features: NDArray[np.float32],
    *,
    subject: int,
    session: int,
    seed: int,
) -> NDArray[np.int16]:
    """Simulate the betas of the labelled voxels in one session.

    A beta is mean + offset + scale * gain * (signal_strength * (tuning . features) + noise), in
    percent signal change, with noise of unit variance; gain and offset change from session to
    session, so that only z-scored sessions can be put together.

    Parameters
    ----------
    voxels : Voxels
        The truth of the subject's voxels.
    features : (n_trials, n_features) array of float32
        Latent features of the image of each trial.
    subject, session, seed : int
        The first two 1-based.

    Returns
    -------
    (n_voxels, n_trials) array of int16
        Percent signal change times 300, rounded and clipped; 0 where a voxel has no data.
    """
    generator = random_stream(seed, Purpose.SESSION, subject, session)
    stored = _as_int16(_simulated(voxels, features, generator, _PER_PERCENT))
    stored[~voxels.has_data[:, session - 1]] = 0
    return stored


def simulate_vertices(
    vertices: Tuned, features: NDArray[np.float32], session: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Simulate the betas of vertices in one session (1-based), as `simulate_session` does.

    (n_vertices, n_trials) float32, percent signal change; NaN where a vertex has no data.
    """
    betas = _simulated(vertices, features, generator, 1)
    betas[~vertices.has_data[:, session - 1]] = np.nan
    return betas


def stored_betas(betas: NDArray[np.float32]) -> NDArray[np.int16]:
    """Give percent signal change as HDF5 files hold it: int16, times 300; 0 for NaN."""
    return _as_int16(np.nan_to_num(_PER_PERCENT * betas))


def _simulated(
    sites: Tuned,
    features: NDArray[np.float32],
    generator: np.random.Generator,
    per_percent: float,
) -> NDArray[np.float32]:
    """Simulate betas, percent signal change times `per_percent`: (n_sites, n_trials) float32."""
    n_sites = len(sites.region)
    gain = generator.uniform(0.8, 1.25)
    offset = generator.normal(0, 0.3) + 0.2 * generator.standard_normal(n_sites, dtype=np.float32)
    betas = generator.standard_normal((n_sites, len(features)), dtype=np.float32)
    betas += (sites.tuning * sites.signal_strength[:, np.newaxis]) @ features.T
    betas *= (per_percent * gain * sites.scale[:, np.newaxis]).astype(np.float32)
    betas += (per_percent * (sites.mean + offset)[:, np.newaxis]).astype(np.float32)
    return betas


class BackgroundSession:
    """Noise in the sites of the brain that have no label, in file order, a part at a time.

    `sites` draws what is true of them in every session, `session` their betas in one.
    """

    def __init__(
        self,
        n_sites: int,
        n_trials: int,
        *,
        sites: np.random.Generator,
        session: np.random.Generator,
    ) -> None:
        self._scale = (1.0 * sites.lognormal(0, 0.35, n_sites)).astype(np.float32)
        self._mean = sites.normal(0.1, 0.4, n_sites).astype(np.float32)
        self._n_trials = n_trials
        self._generator = session
        self._done = 0

    def next_voxels(self, count: int) -> NDArray[np.int16]:
        """Simulate the next voxels: (count, n_trials) int16, percent signal change times 300."""
        return _as_int16(self._simulated(count, _PER_PERCENT))

    def next_vertices(self, count: int) -> NDArray[np.float32]:
        """Simulate the next vertices: (count, n_trials) float32, percent signal change."""
        return self._simulated(count, 1)

    def _simulated(self, count: int, per_percent: float) -> NDArray[np.float32]:
        part = slice(self._done, self._done + count)
        self._done += count
        betas = self._generator.standard_normal((count, self._n_trials), dtype=np.float32)
        betas *= per_percent * self._scale[part, np.newaxis]
        betas += per_percent * self._mean[part, np.newaxis]
        return betas


def _as_int16(betas: NDArray[np.float32]) -> NDArray[np.int16]:
    np.rint(betas, out=betas)
    np.clip(betas, _LOWEST, _HIGHEST, out=betas)
    return betas.astype("<i2")


class NoiseCeilingSNR:
    """The ncsnr of a subject's voxels by the NSD authors' procedure, a session at a time.

    Each voxel is z-scored within each session (sample SD); of the images that were seen exactly
    three times, v^2 is the mean over images of the variance over the three trials (N - 1), and
    ncsnr = sqrt(max(0, 1 - v^2)) / v. A session in which a voxel has no variance gives it no
    z-scores, and the mean is over the images that have all three. (Allen et al. 2022, Methods,
    "Noise ceiling estimation".)

    Only sums over an image's trials are kept, not the trials.

    Parameters
    ----------
    image_numbers : (n_sessions, n_trials) array of int64
        Which of the subject's images each trial shows.
    has_data : (n_voxels, n_sessions) array of bool
        Which voxels have data in which session.
    split : int, optional
        Use only the half of the images whose numbers are even (0) or odd (1).
    """

    def __init__(
        self,
        image_numbers: NDArray[np.int64],
        has_data: NDArray[np.bool_],
        split: int | None = None,
    ) -> None:
        numbers, inverse, shown = np.unique(image_numbers, return_inverse=True, return_counts=True)
        complete = shown == REPETITIONS
        if split is not None:
            complete &= numbers % 2 == split
        row_of_number = np.where(complete, np.cumsum(complete) - 1, -1)
        self._rows = row_of_number[inverse.reshape(image_numbers.shape)]
        self._sums = np.zeros((int(complete.sum()), len(has_data)), dtype=np.float32)
        self._squares = np.zeros(len(has_data))
        self._partly = np.flatnonzero(has_data.any(axis=1) & ~has_data.all(axis=1))
        self._partly_z = np.full((len(self._partly), *image_numbers.shape), np.nan)
        self._has_data = has_data

    def add(self, session: int, betas: NDArray[np.int16], voxels: slice = slice(None)) -> None:
        """Add the betas, (n_voxels, n_trials), of a session (1-based) for a run of voxels."""
        z = betas.astype(np.float32)
        z -= z.mean(axis=1, keepdims=True)
        squares = np.einsum("ij,ij->i", z, z)
        sd = np.sqrt(squares / (z.shape[1] - 1))
        z /= np.where(sd > 0, sd, 1)[:, np.newaxis]
        rows = self._rows[session - 1]
        used = np.flatnonzero(rows >= 0)
        shared = np.ascontiguousarray(z.T)[used]
        self._squares[voxels] += np.einsum("ij,ij->j", shared, shared)
        for trials in _without_repetition(rows[used]):
            self._sums[rows[used][trials], voxels] += shared[trials]
        first = voxels.start or 0
        inside = (self._partly >= first) & (self._partly < first + len(betas))
        inside &= self._has_data[self._partly, session - 1]
        self._partly_z[inside, session - 1] = z[self._partly[inside] - first]

    def result(self) -> NDArray[np.float32]:
        """Give the ncsnr: (n_voxels,) float32, NaN where a voxel has no data in any session."""
        return self.pooled()

    def pooled(self, *others: "NoiseCeilingSNR") -> NDArray[np.float32]:
        """Give the ncsnr over the images of this and of other halves of the same data."""
        sums, weights = self._noise_variance()
        for other in others:
            sums, weights = (
                mine + theirs
                for mine, theirs in zip((sums, weights), other._noise_variance(), strict=True)
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = sums / weights
            ncsnr = np.sqrt(np.maximum(0, 1 - variance) / variance)
        ncsnr[~self._has_data.any(axis=1)] = np.nan
        return ncsnr.astype(np.float32)

    def _noise_variance(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give v^2 as a sum over images and its weight, each (n_voxels,)."""
        n_images = len(self._sums)
        of_means = np.zeros(len(self._squares))
        for start in range(0, n_images, 256):
            part = self._sums[start : start + 256].astype(np.float64)
            of_means += np.einsum("ij,ij->j", part, part) / REPETITIONS
        sums = self._squares - of_means
        weights = np.full(len(sums), float((REPETITIONS - 1) * n_images))
        sums[self._partly], weights[self._partly] = self._partly_variance()
        return sums, weights

    def _partly_variance(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the same for voxels that lack data in some session, over the remaining images."""
        order = np.argsort(self._rows, axis=None, kind="stable")
        order = order[self._rows.ravel()[order] >= 0].reshape(-1, REPETITIONS)
        z = self._partly_z.reshape(len(self._partly), self._rows.size)[:, order]
        variance = z.var(axis=2, ddof=1)
        remaining = ~np.isnan(variance)
        return np.where(remaining, variance, 0).sum(axis=1), remaining.sum(axis=1).astype(float)


def _without_repetition(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split trials into groups within which no image comes twice."""
    order = np.argsort(rows, kind="stable")
    first = np.ones(len(rows), dtype=bool)
    first[1:] = rows[order][1:] != rows[order][:-1]
    start = np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    occurrence = np.arange(len(rows)) - start
    return [order[occurrence == turn] for turn in range(REPETITIONS)]
