"""Why two assemblies may differ: guesses from the values themselves, the simplest first."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.analysis.compare.shifts import (
    FEWEST_IMAGES_MATCHED,
    FEWEST_MATCHES,
    other_ids,
    other_places,
)
from nsd_prep.analysis.compare.sides import SIDES, Side, in_common, rows_of_voxels
from nsd_prep.core.counts import counted as in_words
from nsd_prep.dataset.published import BETA_SCALE, REPETITIONS

#: What is looked at where no reason fits, in words.
LOOKED_AT: Final = (
    "order of rows and voxels",
    "ids and coordinates that are off by one, turned or of other images",
    "sign, scale, rounding and saturation",
    "trials that z-scores were taken over",
    "number of repetitions averaged, and medians",
    "sessions and voxels without data",
    "form of the noise ceilings",
)
#: Variance of the difference to the mean of three trials, in variances of a trial's noise, of one
#: trial, the mean of two, and the median of three (of normal noise: 0.4487 - 1/3).
_DIFFERENCES: Final = (
    (2 / 3, "does not average the repetitions: single trials stand in for their mean"),
    (1 / 6, "averages two of the three repetitions"),
    (0.1154, "takes the median of the repetitions instead of their mean"),
)
_DIFFERENCE_TOLERANCE: Final = 0.12
#: Share of what is left after regression in a quarter of its dimensions, where groups of trials
#: differ by offsets; noise has about two thirds.
_FEW_DIMENSIONS: Final = 0.85
#: Values at a bound, below which it is the largest value and no bound.
_FEWEST_CLIPPED: Final = 3
#: Images of a voxel from which on a factor is no coincidence.
_FEWEST_OF_FACTOR: Final = 3
#: Images that a voxel without data in a session lacks at least.
_FEWEST_WITHOUT_DATA: Final = 2
_WRAPPED: Final = 2**16 / BETA_SCALE / REPETITIONS

Values = NDArray[np.float64]


def guess_reasons(
    first: Side, second: Side, tolerance: float, trials: pd.DataFrame | None = None
) -> list[str]:
    """Guess why a subject's responses in a region differ: phrases, the simplest first.

    With `trials`, the subject's nsd_id (0-based) and session (1-based), sessions are named.
    """
    x, y = in_common(first, second)
    sure = [
        *other_places(first, second),
        *other_ids(first, second),
        *_ceilings(first, second, tolerance),
    ]
    if x.size:
        differs = ~close(x, y, tolerance)
        if not differs.any():
            return sure + _other_rows(first, second, x.shape[0])
        without_data = _without_data(x, y, differs, tolerance)
        if without_data:
            return sure + without_data
        sure += _exact(first, second, x, y, tolerance)
        some = _some_images(first, second, differs, trials)
        if not sure:
            some += _some_voxels(x, y, differs, tolerance)
        if sure or some:
            return [*sure, *some, *_outside(first, second)]
    return sure or _outside(first, second) or _likely(first, second, x, y)


def close(
    first: NDArray[np.floating], second: NDArray[np.floating], tolerance: float
) -> NDArray[np.bool_]:
    """Return which values agree within the tolerance, absolutely; NaN agrees with NaN."""
    near = np.abs(first - second) <= tolerance
    return np.asarray(near | (np.isnan(first) & np.isnan(second)))


def _other_rows(first: Side, second: Side, n_common: int) -> list[str]:
    """Explain rows that one side has more, where what is common agrees."""
    reasons = []
    if first.rows_of_image != second.rows_of_image:
        more = first.rows_of_image > second.rows_of_image
        reasons.append(
            f"{SIDES[not more]} does not average the repetitions: their mean is the other's row"
        )
    if len(first.nsd_id) != n_common or len(second.nsd_id) != n_common:
        reasons.append(
            "another set of sessions or subjects: the images in common agree, but the images seen "
            "three times differ"
        )
    return reasons


def _ceilings(first: Side, second: Side, tolerance: float) -> list[str]:
    """Find in which form the noise ceilings of the voxels in common differ."""
    columns = rows_of_voxels(first.coordinates, second.coordinates)
    x, y = first.noise_ceiling[columns[0]], second.noise_ceiling[columns[1]]
    used = (x > 0) & (y > 0) & (x < 100) & (y < 100)
    if used.sum() < FEWEST_MATCHES or np.allclose(x, y, tolerance, tolerance):
        return []
    x, y = x[used], y[used]
    for side, (own, other) in enumerate(((y, x), (x, y))):
        squared = own / (100 - own) / REPETITIONS
        if np.allclose(other * 100, own, rtol=1e-4):
            return [f"the noise ceilings of {SIDES[side]} are fractions, not percent"]
        if np.allclose(other, np.sqrt(squared), rtol=1e-4):
            return [f"{SIDES[side]} has the ncsnr in place of noise ceilings"]
        n_trials = other / (100 - other) / squared
        if np.ptp(n_trials) < 1e-3 * n_trials.mean() and n_trials.mean() < REPETITIONS:
            number = f"{n_trials.mean():.3g}"
            averaged = "single trials" if number == "1" else f"{number} trials averaged"
            return [
                f"the noise ceilings of {SIDES[side]} are those of {averaged}, where the other's "
                f"are of {REPETITIONS}"
            ]
    return []


def _without_data(x: Values, y: Values, differs: NDArray[np.bool_], tolerance: float) -> list[str]:
    """Find trials without data that count as 0 in one side, and are left out in the other."""
    missing = np.isnan(x) | np.isnan(y)
    for side, (counted, left_out) in enumerate(((y, x), (x, y))):
        nan = np.isnan(left_out) & ~np.isnan(counted)
        # A session without data is one without many images.
        if np.array_equal(nan, differs) and nan.sum(axis=0).max() < _FEWEST_WITHOUT_DATA:
            verb = "is" if nan.sum() == 1 else "are"
            found = in_words(int(nan.sum()), "value")
            return [f"{found} of {SIDES[side]} {verb} NaN, where the other has responses"]
        ratios = [close(counted * ratio, left_out, 3 * tolerance) for ratio in (1.5, 3.0)]
        explained = np.isnan(left_out) | ((ratios[0] | ratios[1]) & (left_out != 0))
        whole = explained[differs].all()
        scaled = differs & ~missing
        few = scaled.any(axis=0).mean() <= 0.5 and scaled.any(axis=1).mean() <= 0.9
        if whole and few:
            how = "are NaN" if np.isnan(left_out).any() else "are left out of the average"
            return [
                f"in {SIDES[side]}, trials of voxels without data {how}, where they count as 0 in "
                "the other"
            ]
    return []


def _exact(first: Side, second: Side, x: Values, y: Values, tolerance: float) -> list[str]:
    """Find what turns one side into the other without remainder."""
    reasons = []
    for side, (values, rounded) in enumerate(((y, x), (x, y))):
        # The mean of float16 rows is not a float16.
        if (first, second)[side].rows_of_image == 1 and _is_float16_of(values, rounded):
            reasons.append(f"{SIDES[side]} was stored as float16")
    if reasons:
        return reasons
    for name, values in zip(SIDES, (x, y), strict=True):
        if (values == 0).all():
            return [f"{name} has 0 everywhere, as without data"]
    factor = float((x * y).sum() / max((x * x).sum(), 1e-300))
    if abs(factor - 1) > 1e-6 and _relatively_close(factor * x, y, tolerance):
        return [_factor(factor)]
    for side, (values, clipped) in enumerate(((y, x), (x, y))):
        low, high = clipped.min(), clipped.max()
        bounds = [
            f"{bound:.6g}"
            for bound, beyond in ((low, values < low), (high, values > high))
            if np.count_nonzero(beyond) >= _FEWEST_CLIPPED
        ]
        if bounds and _relatively_close(np.clip(values, low, high), clipped, tolerance):
            reasons.append(f"the values of {SIDES[side]} are clipped at {' and '.join(bounds)}")
    for side, (values, scaled) in enumerate(((y, x), (x, y))):
        deviation = values.std(axis=0)
        varies = deviation > 0
        again = (values - values.mean(axis=0))[:, varies] / deviation[varies]
        if varies.any() and _relatively_close(again, scaled[:, varies], 10 * tolerance):
            reasons.append(f"{SIDES[side]} was z-scored a second time, over its images")
    return reasons


def _factor(factor: float) -> str:
    if abs(factor + 1) < 1e-6:
        return "the sign of one side is flipped"
    smaller = min(factor**2, factor**-2)
    n_trials = 1 / (1 - smaller) if smaller < 1 else float("inf")
    if factor > 0 and 10 < n_trials < 1e6 and abs(n_trials - round(n_trials)) < 0.02 * n_trials:
        return (
            f"{SIDES[factor < 1]} was z-scored with the sample's standard deviation (N - 1, "
            f"N about {n_trials:.0f}) instead of the population's"
        )
    if abs(factor - REPETITIONS) < 1e-3 or abs(1 / factor - REPETITIONS) < 1e-3:
        return f"{SIDES[factor > 1]} sums the repetitions instead of averaging them"
    return f"the second is {factor:.6g} times the first"


def _is_float16_of(values: Values, rounded: Values) -> bool:
    with np.errstate(over="ignore"):
        return bool(
            np.array_equal(rounded, rounded.astype(np.float16))
            and not np.array_equal(values, values.astype(np.float16))
            and np.allclose(values, rounded, rtol=2**-10, atol=1e-6)
        )


def _relatively_close(first: Values, second: Values, tolerance: float) -> bool:
    return bool((np.abs(first - second) <= tolerance * (1 + np.abs(second))).all())


def _some_images(
    first: Side, second: Side, differs: NDArray[np.bool_], trials: pd.DataFrame | None
) -> list[str]:
    """Explain images that differ where the others agree, by sessions where trials are known."""
    wrong: NDArray[np.bool_] = np.asarray(differs.any(axis=1))
    if wrong.mean() > 0.5 and trials is None:
        return []
    images = np.intersect1d(first.nsd_id, second.nsd_id)
    if trials is not None:
        of_sessions = trials[trials["nsd_id"].isin(images)].groupby("session")["nsd_id"]
        named = [session for session, seen in of_sessions if np.isin(seen, images[wrong]).all()]
        covered = trials.loc[trials["session"].isin(named), "nsd_id"]
        if named and len(named) < of_sessions.ngroups and np.isin(images[wrong], covered).all():
            sessions = " and ".join(str(session) for session in named)
            return [
                f"the images that differ are those seen in session{'s'[: len(named) > 1]} "
                f"{sessions}: exchanged, or another file"
            ]
    if wrong.mean() > 0.5:
        return []
    return [
        f"another set of sessions: {wrong.sum()} of {len(wrong)} images differ and the others "
        "agree, so trials of some sessions are others or missing"
    ]


def _some_voxels(x: Values, y: Values, differs: NDArray[np.bool_], tolerance: float) -> list[str]:
    """Explain voxels that differ where the others agree."""
    wrong: NDArray[np.bool_] = np.asarray(differs.any(axis=0))
    steps = (x - y)[differs] / _WRAPPED
    whole = np.round(steps)
    if np.isfinite(steps).all() and (whole != 0).all() and (np.abs(steps - whole) < 1e-2).all():
        return ["the differences are multiples of 65536 raw units: int16 wrapped around"]
    if wrong.mean() > 0.5:
        return []
    found = f"{wrong.sum()} of {len(wrong)} voxels differ and the others agree"
    x, y = x[:, wrong], y[:, wrong]
    for name, values in zip(SIDES, (x, y), strict=True):
        if (values == 0).all():
            return [f"{found}: {name} has 0 in these, as for voxels without data"]
    x, y = np.nan_to_num(x), np.nan_to_num(y)  # NaN on both sides, or they would differ by it
    factor = (x * y).sum(axis=0) / np.maximum((x * x).sum(axis=0), 1e-300)
    if len(x) >= _FEWEST_OF_FACTOR and _relatively_close(factor * x, y, tolerance):
        if np.abs(factor + 1).max() < 1e-6:
            return [f"{found}: the sign of these is flipped on one side"]
        if np.ptp(factor) < 1e-5 * np.abs(factor).max():
            return [f"{found}: in these the second is {factor.mean():.6g} times the first"]
        return [f"{found}: in these the second is a multiple of the first, a different one in each"]
    return [
        f"{found}: large values of these were clipped, or wrapped around int16, on one side, or "
        "they are of other voxels or other trials there"
    ]


def _outside(first: Side, second: Side) -> list[str]:
    if first.values.size == 0 or second.values.size == 0:
        return []
    shares = [float((np.ptp(side.values, axis=0) == 0).mean()) for side in (first, second)]
    return [
        f"{name} has {share:.0%} of its voxels outside the brain: a transposed or flipped volume"
        for name, share, other in zip(SIDES, shares, reversed(shares), strict=True)
        if share > 0.1 and other < 0.1
    ]


def _likely(first: Side, second: Side, x: Values, y: Values) -> list[str]:
    """Judge by correlations, means and deviations over images, voxel by voxel."""
    if len(x) < FEWEST_IMAGES_MATCHED or x.shape[1] < FEWEST_MATCHES:
        return []
    varies = (x.std(axis=0) > 0) & (y.std(axis=0) > 0)
    if varies.sum() < FEWEST_MATCHES:
        return []
    columns, _ = rows_of_voxels(first.coordinates, second.coordinates)
    ceiling = first.noise_ceiling[columns][varies]
    x, y = x[:, varies], y[:, varies]
    mean = np.stack([x.mean(axis=0), y.mean(axis=0)])
    deviation = np.stack([x.std(axis=0), y.std(axis=0)])
    covariance = ((x - mean[0]) * (y - mean[1])).mean(axis=0)
    if float(np.median(covariance / deviation.prod(axis=0))) < 0.3:
        return _unrelated(first, second)
    # Averaged z-scores have means near 0, and deviations between sqrt(1/3) and 1.
    odd = ((np.abs(mean) > 0.5) | (deviation < 0.4) | (deviation > 1.3)).mean(axis=1)
    side = int(np.argmax(odd))
    if odd[side] > 0.2 and odd[1 - side] < 0.1:
        return [f"{SIDES[side]} was not z-scored within sessions"]
    return [*_fewer_repetitions(x, y, ceiling), *_other_trials(x, y)]


def _fewer_repetitions(x: Values, y: Values, ceiling: Values) -> list[str]:
    """Compare the noise that one side has more with that of single trials by the ceilings."""
    known = (ceiling > 0) & (ceiling < 100)
    if known.sum() < 2 * FEWEST_MATCHES:
        return []
    x, y, ceiling = x[:, known], y[:, known], ceiling[known]
    variances = x.var(axis=0), y.var(axis=0)
    side = int(variances[1].sum() > variances[0].sum())
    difference = (x - y).var(axis=0)
    # The further noise is independent of what is averaged: it adds to the variance.
    added = float((variances[side] - variances[1 - side]).sum() / difference.sum())
    noise = 1 / (1 + ceiling / (100 - ceiling) / REPETITIONS)
    # In noisier and less noisy voxels alike: it is the trials' own noise, not some other.
    noisier = noise > np.median(noise)
    ratios = [
        float(difference[voxels].sum() / noise[voxels].sum()) for voxels in (noisier, ~noisier)
    ]
    for expected, what in _DIFFERENCES:
        if abs(added - 1) < 0.5 and np.allclose(ratios, expected, rtol=_DIFFERENCE_TOLERANCE):
            return [f"{SIDES[side]} {what}"]
    return []


def _other_trials(x: Values, y: Values) -> list[str]:
    """Tell over which trials z-scores were taken, as far as averages show it.

    With c over larger groups of trials than f, c = b f + offsets of the smaller groups. Images
    share these, so that what is left when f is taken from c has no more dimensions than there are
    groups, whereas noise has one for each image. A trial's variance of 1 is b^2 and that of the
    offsets, of which a third is left in the mean of three: it tells which side is c.
    """
    n_images = len(x)
    centred = [values - values.mean(axis=0) for values in (x, y)]
    variance = [(values**2).mean(axis=0) for values in centred]
    covariance = (centred[0] * centred[1]).mean(axis=0)
    if float(np.median(covariance / np.sqrt(variance[0] * variance[1]))) < 0.8:
        return []
    size = [float(np.abs(values.mean(axis=0)).mean()) for values in (x, y)]
    side = int(np.argmin(size))
    # Further noise of the other side would make its means differ from 0 by no more than this.
    noise = float(np.sqrt((variance[0] + variance[1] - 2 * covariance).mean() / n_images))
    if size[side] < 0.5 * size[1 - side] and size[1 - side] > 2 * noise:
        return [
            f"{SIDES[side]} was z-scored over the trials of the shared images alone: its means "
            "are 0"
        ]
    left = centred[1] - covariance / variance[0] * centred[0]
    energy = np.linalg.eigvalsh(left @ left.T)[::-1]
    if energy[: n_images // 4].sum() < _FEW_DIMENSIONS * energy.sum():
        return []
    fits = []
    for coarse, fine in (variance, variance[::-1]):
        slope = covariance / fine
        rest = (coarse - slope**2 * fine).mean()
        # A slope's own error makes its square larger.
        expected = ((1 - slope**2).mean() + rest / fine.mean() / n_images) / REPETITIONS
        fits.append(float(abs(np.log(rest / max(expected, 1e-12)))))
    return [
        f"{SIDES[int(np.argmin(fits))]} was z-scored over larger groups of trials: all sessions "
        "together instead of each, or sessions instead of runs"
    ]


def _unrelated(first: Side, second: Side) -> list[str]:
    """Tell trials of other images from voxels of other places, where nothing agrees."""
    reasons = []
    for name, side in zip(SIDES, (first, second), strict=True):
        known = side.noise_ceiling > 0
        if known.sum() < 10:
            continue
        variance = side.values[:, known].var(axis=0, dtype=np.float64)
        share = side.noise_ceiling[known] / 100
        # With p the signal's share of a trial's variance, NC = p / (p + (1 - p) / 3).
        signal = share / (REPETITIONS - (REPETITIONS - 1) * share)
        predicted = signal + (1 - signal) / REPETITIONS
        if np.ptp(predicted) == 0:
            continue
        centred = predicted - predicted.mean()
        slope = float(centred @ variance / (centred @ centred))
        if slope < 0.5 and variance.mean() < (predicted.mean() + 1 / REPETITIONS) / 2:
            reasons.append(f"{name} assigns trials to wrong images: their average holds no signal")
        elif slope < 0.5:
            reasons.append(
                f"{name} has the responses of other voxels than its noise ceilings: a transposed "
                "or flipped volume"
            )
    return reasons
