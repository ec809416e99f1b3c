"""Single trials with a known truth: what the checks' thresholds were chosen from.

Arrays only; `nsd_prep.synthetic` writes whole datasets. A voxel's response to a trial is its tuning
times the image's features plus noise, of which a part is common to many voxels, as in real data.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.checks import SingleTrials
from nsd_prep.checks.probes import choose_probes
from nsd_prep.dataset.published import REPETITIONS

#: Features of images, and of the noise that voxels have in common.
_FEATURES: Final = 24
_COMMON_NOISE: Final = 12
#: Standard deviation over voxels of the logarithm of the ncsnr.
_SPREAD: Final = 0.7
_HIGHEST_NOISE_CEILING: Final = 83.0


@dataclass(frozen=True)
class SimulatedSubject:
    """A subject's trials in one region, session by session.

    Attributes
    ----------
    trials : ndarray of float32, shape (n_sessions, n_trials, n_voxels)
        Responses before any z-score.
    image : ndarray of int64, shape (n_sessions, n_trials)
        Which image (0-based) each trial shows.
    ncsnr : ndarray of float32, shape (n_voxels,)
        As it would be stored: estimated from more images than these.
    signal : ndarray of float32, shape (n_images, n_voxels)
        Responses without noise, on the scale of a session of gain 1.
    gain : ndarray of float32, shape (n_sessions,)
        What a session's responses are multiplied by.
    """

    trials: NDArray[np.float32]
    image: NDArray[np.int64]
    ncsnr: NDArray[np.float32]
    signal: NDArray[np.float32]
    gain: NDArray[np.float32]

    def single_trials(
        self,
        image: NDArray[np.int64] | None = None,
        ncsnr: NDArray[np.float32] | None = None,
        trials_per_session: int | None = None,
    ) -> SingleTrials:
        """Z-score the sessions and sort their trials into images and repetitions.

        Parameters
        ----------
        image : ndarray of int64, shape (n_sessions, n_trials), optional
            Which image each trial is taken to show, each of them three times; the true one where
            none is given.
        ncsnr : ndarray of float32, shape (n_voxels,), optional
            What is taken to be stored.
        trials_per_session : int, optional
            Trials of a session among which these lie, evenly spaced; these alone where none is
            given.

        Returns
        -------
        SingleTrials
            As the checks take them.
        """
        deviation = self.trials.std(axis=1, keepdims=True)
        zscores = self.trials - self.trials.mean(axis=1, keepdims=True)
        zscores /= np.where(deviation > 0, deviation, 1)
        shown = self.image if image is None else image
        n_sessions, n_trials = shown.shape
        order = np.argsort(shown, axis=None, kind="stable").reshape(-1, REPETITIONS)
        every = trials_per_session or n_trials
        return SingleTrials(
            responses=zscores.reshape(-1, zscores.shape[2])[order],
            ncsnr=self.ncsnr if ncsnr is None else ncsnr,
            session=order // n_trials + 1,
            trial=(order % n_trials) * every // n_trials,
            trials_per_session=every,
            sessions=np.arange(1, n_sessions + 1),
            without_data=deviation[:, 0] == 0,
        )


def simulated_ncsnr(
    generator: np.random.Generator, n_voxels: int, noise_ceiling: float
) -> NDArray[np.float64]:
    """Draw the true ncsnr of voxels with a given median noise ceiling.

    Parameters
    ----------
    generator : numpy.random.Generator
        Where the numbers come from.
    n_voxels : int
        How many.
    noise_ceiling : float
        Median, percent, of three repetitions.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Log-normal, up to a noise ceiling of 83 %, NSD's highest.
    """
    ceiling = np.array([noise_ceiling, _HIGHEST_NOISE_CEILING])
    median, highest = np.sqrt(ceiling / (100 - ceiling) / REPETITIONS)
    drawn = median * np.exp(_SPREAD * generator.standard_normal(n_voxels))
    return np.minimum(drawn, highest)


def simulate_subject(
    generator: np.random.Generator,
    *,
    n_images: int,
    n_voxels: int,
    n_sessions: int,
    noise_ceiling: float,
    common_noise: float = 0.1,
    images_of_ncsnr: int = 10,
) -> SimulatedSubject:
    """Simulate a subject's trials.

    Parameters
    ----------
    generator : numpy.random.Generator
        Where the numbers come from.
    n_images : int
        Each is shown three times; three times as many must fill the sessions evenly.
    n_voxels, n_sessions : int
        How many.
    noise_ceiling : float
        Median over voxels, percent.
    common_noise : float
        Share of the noise's variance that voxels have in common.
    images_of_ncsnr : int
        The stored ncsnr rests on so many times the images simulated.

    Returns
    -------
    SimulatedSubject
        With gains and offsets that change from session to session.
    """
    ncsnr = simulated_ncsnr(generator, n_voxels, noise_ceiling)
    features = _normal(generator, n_images, _FEATURES)
    tuning = _normal(generator, _FEATURES, n_voxels)
    tuning *= (ncsnr / np.linalg.norm(tuning, axis=0)).astype(np.float32)
    signal = features @ tuning
    image = generator.permutation(np.repeat(np.arange(n_images), REPETITIONS))
    trials = _normal(generator, len(image), n_voxels) * np.float32(np.sqrt(1 - common_noise))
    loading = _normal(generator, _COMMON_NOISE, n_voxels)
    loading *= (np.sqrt(common_noise) / np.linalg.norm(loading, axis=0)).astype(np.float32)
    trials += _normal(generator, len(image), _COMMON_NOISE) @ loading
    stored = _stored_ncsnr(generator, trials, image, ncsnr, images_of_ncsnr)
    trials += signal[image]
    sessions = trials.reshape(n_sessions, -1, n_voxels)
    gain = generator.uniform(0.8, 1.25, n_sessions).astype(np.float32)
    sessions *= gain[:, np.newaxis, np.newaxis]
    sessions += _normal(generator, n_sessions, 1, n_voxels)
    return SimulatedSubject(sessions, image.reshape(n_sessions, -1), stored, signal, gain)


@dataclass(frozen=True)
class Condition:
    """How sound sessions, repetitions and ncsnr differ.

    Attributes
    ----------
    signal, noise, gain : float
        Standard deviation over sessions of the logarithm of each.
    suppression : float
        Share of the signal that the second and third presentation lack.
    ncsnr : float
        What the stored ncsnr is multiplied by.
    autocorrelation : float
        Of the noise that voxels have in common, from trial to trial.
    """

    signal: float = 0.0
    noise: float = 0.0
    gain: float = 0.0
    suppression: float = 0.0
    ncsnr: float = 1.0
    autocorrelation: float = 0.0


def simulate_condition(
    generator: np.random.Generator,
    condition: Condition,
    *,
    n_voxels: int,
    noise_ceiling: float,
    common_noise: float,
    n_images: int = 515,
    n_sessions: int = 30,
) -> tuple[SingleTrials, SingleTrials, NDArray[np.int16]]:
    """Simulate a subject's shared images among three times as many, and all raw trials.

    The stored ncsnr is that of all z-scored trials, as NSD's is: it holds what the condition does.

    Returns
    -------
    trials : SingleTrials
        Of the shared images.
    repeated : SingleTrials
        Of all images, in the probes.
    raw : ndarray of int16, shape (n_sessions, n_voxels, n_trials)
        All trials, in betas' units.
    """
    ncsnr = simulated_ncsnr(generator, n_voxels, noise_ceiling)
    n_all = 3 * n_images - 3 * n_images % n_sessions
    tuning = _normal(generator, _FEATURES, n_voxels)
    tuning *= (ncsnr / np.linalg.norm(tuning, axis=0)).astype(np.float32)
    signal = _normal(generator, n_all, _FEATURES) @ tuning
    image = generator.permutation(np.repeat(np.arange(n_all), REPETITIONS))
    order = np.argsort(image, kind="stable")
    repetition = np.empty(len(image), dtype=np.int64)
    repetition[order] = np.tile(np.arange(REPETITIONS), n_all)
    noise = _normal(generator, len(image), n_voxels) * np.float32(np.sqrt(1 - common_noise))
    loading = _normal(generator, _COMMON_NOISE, n_voxels)
    loading *= (np.sqrt(common_noise) / np.linalg.norm(loading, axis=0)).astype(np.float32)
    common = _normal(generator, len(image), _COMMON_NOISE)
    autocorrelation = condition.autocorrelation
    for trial in range(1, len(common) if autocorrelation else 0):
        common[trial] = (
            autocorrelation * common[trial - 1] + np.sqrt(1 - autocorrelation**2) * common[trial]
        )
    noise += common @ loading

    def by_session(spread: float) -> NDArray[np.float32]:
        drawn = np.exp(spread * generator.standard_normal((n_sessions, 1, 1)))
        return drawn.astype(np.float32)

    suppressed = np.where(repetition > 0, 1 - condition.suppression, 1).astype(np.float32)
    evoked = (signal[image] * suppressed[:, np.newaxis]).reshape(n_sessions, -1, n_voxels)
    trials = evoked * by_session(condition.signal)
    trials += noise.reshape(trials.shape) * by_session(condition.noise)
    trials *= by_session(condition.gain)
    zscores = (trials - trials.mean(axis=1, keepdims=True)) / trials.std(axis=1, keepdims=True)
    order = order.reshape(-1, REPETITIONS)
    responses = zscores.reshape(-1, n_voxels)[order]
    variance = responses.var(axis=1, ddof=1).mean(axis=0)
    stored = np.sqrt(np.maximum(0, 1 - variance) / variance) * condition.ncsnr
    n_trials = trials.shape[1]
    every = 750

    def of_images(images: slice, voxels: NDArray[np.int64]) -> SingleTrials:
        positions = order[images]
        return SingleTrials(
            responses=responses[images][:, :, voxels],
            ncsnr=stored[voxels].astype(np.float32),
            session=positions // n_trials + 1,
            trial=(positions % n_trials) * every // n_trials,
            trials_per_session=every,
            sessions=np.arange(1, n_sessions + 1),
            without_data=np.zeros((n_sessions, len(voxels)), dtype=np.bool_),
        )

    single = of_images(slice(n_images), np.arange(n_voxels))
    repeated = of_images(slice(None), choose_probes(stored))
    scale = 400 * generator.lognormal(0, 0.4, n_voxels)
    raw = np.clip(trials * scale + 150, -32768, 32767).astype(np.int16)
    return single, repeated, raw.swapaxes(1, 2)


def _stored_ncsnr(
    generator: np.random.Generator,
    noise: NDArray[np.float32],
    image: NDArray[np.int64],
    ncsnr: NDArray[np.float64],
    times_images: int,
) -> NDArray[np.float32]:
    """Estimate the ncsnr from the images simulated and further ones."""
    order = np.argsort(image, kind="stable").reshape(-1, REPETITIONS)
    here = np.mean([noise[rows].var(axis=0, ddof=1) for rows in order], axis=0)
    shape = len(order) * (times_images - 1)
    elsewhere = generator.gamma(shape, 1 / shape, len(ncsnr)) if shape else 0
    variance = (here + (times_images - 1) * elsewhere) / times_images / (1 + ncsnr**2)
    return np.sqrt(np.maximum(0, 1 - variance) / variance).astype(np.float32)


def _normal(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return generator.standard_normal(shape, dtype=np.float32)
