"""Why two assemblies may differ: guesses from the values themselves."""

from itertools import permutations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.compare_side import Side, in_common
from nsd_prep.published import REPETITIONS

#: Voxels or images that are matched by their values at most, and correlation of a match.
_MATCHED_AT_MOST: Final = 1500
_MATCH: Final = 0.999
_FEWEST_MATCHES: Final = 3
_FEWEST_IMAGES: Final = 8
_SHARE_OF_MATCHES: Final = 0.9
_AXES: Final = ("voxel_x", "voxel_y", "voxel_z")
_SIDES: Final = ("the first", "the second")


def guess_reasons(first: Side, second: Side, tolerance: float) -> list[str]:
    """Guess why a subject's responses in a region differ between two assemblies.

    Parameters
    ----------
    first, second : Side
        Of the same subject and region.
    tolerance : float
        Largest difference of values that count as equal.

    Returns
    -------
    list of str
        A phrase each, the surest first; none where nothing fits.
    """
    x, y = in_common(first, second)
    sure = [*_turned(first, second), *_other_ids(first, second)]
    if x.size:
        difference = np.abs(x - y)
        if (difference <= tolerance).all():
            return sure + _other_rows(first, second, x.shape[0])
        sure += _exact(first, second, x, y, tolerance)
        some = _some_images(difference, tolerance)
        if sure or some:
            return sure + some
    return sure or _outside(first, second) or _likely(first, second, x, y)


def _other_rows(first: Side, second: Side, n_common: int) -> list[str]:
    """Explain rows that one side has more, where what is common agrees."""
    found = []
    if first.rows_of_image != second.rows_of_image:
        more = first.rows_of_image > second.rows_of_image
        found.append(
            f"{_SIDES[not more]} has its repetitions not averaged: their mean is the other's row"
        )
    if len(first.nsd_id) != n_common or len(second.nsd_id) != n_common:
        found.append(
            "another set of sessions or subjects: the images in common agree, and which images "
            "were seen three times differs"
        )
    return found


def _some_images(difference: NDArray[np.float64], tolerance: float) -> list[str]:
    n_wrong, n_images = int((difference > tolerance).any(axis=1).sum()), len(difference)
    if not 0 < n_wrong <= 0.5 * n_images:
        return []
    return [
        f"another set of sessions: {n_wrong} of {n_images} images differ and the others "
        "agree, so trials of some sessions are others or missing"
    ]


def _exact(
    first: Side, second: Side, x: NDArray[np.float64], y: NDArray[np.float64], tolerance: float
) -> list[str]:
    """Find what turns one side into the other without remainder."""
    found = []
    for side, (given, rounded) in enumerate(((y, x), (x, y))):
        # The mean of float16 rows is not a float16.
        if (first, second)[side].rows_of_image == 1 and _is_float16_of(given, rounded):
            found.append(f"{_SIDES[side]} was stored as float16")
    if found:
        return found
    factor = float((x * y).sum() / max((x * x).sum(), 1e-300))
    if abs(factor - 1) > 1e-6 and _close(factor * x, y, tolerance):
        smaller = min(factor**2, factor**-2)
        n_trials = 1 / (1 - smaller)
        if n_trials > 10 and abs(n_trials - round(n_trials)) < 0.02 * n_trials:
            found.append(
                f"{_SIDES[factor < 1]} was z-scored with the sample's standard deviation (N - 1, "
                f"N about {n_trials:.0f}) instead of the population's"
            )
        elif abs(factor - REPETITIONS) < 1e-3 or abs(1 / factor - REPETITIONS) < 1e-3:
            found.append(f"{_SIDES[factor > 1]} sums the repetitions instead of averaging them")
        else:
            found.append(f"the second is {factor:.6g} times the first")
        return found
    for side, (given, scaled) in enumerate(((y, x), (x, y))):
        deviation = given.std(axis=0)
        varies = deviation > 0
        again = (given - given.mean(axis=0))[:, varies] / deviation[varies]
        if varies.any() and _close(again, scaled[:, varies], 10 * tolerance):
            found.append(f"{_SIDES[side]} was z-scored once more, over its images")
    return found


def _is_float16_of(given: NDArray[np.float64], rounded: NDArray[np.float64]) -> bool:
    with np.errstate(over="ignore"):
        return bool(
            np.array_equal(rounded, rounded.astype(np.float16))
            and not np.array_equal(given, given.astype(np.float16))
            and np.allclose(given, rounded, rtol=2**-10, atol=1e-6)
        )


def _close(first: NDArray[np.float64], second: NDArray[np.float64], tolerance: float) -> bool:
    return bool((np.abs(first - second) <= tolerance * (1 + np.abs(second))).all())


def _likely(first: Side, second: Side, x: NDArray[np.float64], y: NDArray[np.float64]) -> list[str]:
    """Judge by correlations, means and deviations over images, voxel by voxel."""
    if len(x) < _FEWEST_IMAGES or x.shape[1] < _FEWEST_MATCHES:
        return []
    mean = np.stack([x.mean(axis=0), y.mean(axis=0)])
    deviation = np.stack([x.std(axis=0), y.std(axis=0)])
    varies = (deviation > 0).all(axis=0)
    if varies.sum() < _FEWEST_MATCHES:
        return []
    covariance = ((x - mean[0]) * (y - mean[1])).mean(axis=0)[varies]
    mean, deviation = mean[:, varies], deviation[:, varies]
    r = float(np.median(covariance / deviation.prod(axis=0)))
    if r < 0.3:
        return _unrelated(first, second)
    # Averaged z-scores have means near 0, and deviations between sqrt(1/3) and 1.
    odd = [
        float(((np.abs(of_mean) > 0.5) | (of_deviation < 0.4) | (of_deviation > 1.3)).mean())
        for of_mean, of_deviation in zip(mean, deviation, strict=True)
    ]
    side = int(np.argmax(odd))
    if odd[side] > 0.2 and odd[1 - side] < 0.1:
        return [f"{_SIDES[side]} was not z-scored within sessions"]
    variance = (deviation**2).sum(axis=1)
    side = int(np.argmax(variance))
    slope = float(covariance.sum() / variance[1 - side])
    if abs(slope - 1) < 0.15 and variance[side] > 1.2 * variance[1 - side]:
        return [
            f"{_SIDES[side]} has its repetitions not averaged, or fewer of them: it is the other "
            "with further noise"
        ]
    return []


def _unrelated(first: Side, second: Side) -> list[str]:
    """Tell trials of other images from voxels of other places, where nothing agrees."""
    found = []
    for name, side in zip(_SIDES, (first, second), strict=True):
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
            found.append(f"{name} assigns trials to wrong images: their average holds no signal")
        elif slope < 0.5:
            found.append(
                f"{name} has the responses of other voxels than its noise ceilings: a transposed "
                "or flipped volume"
            )
    return found


def _other_ids(first: Side, second: Side) -> list[str]:
    """Find images by their values where the ids do not."""
    rows = _matches(first.values.T, second.values.T)
    if rows is None or len(rows) < _FEWEST_MATCHES:
        return []
    of_first, of_second = rows.T
    step = second.nsd_id[of_second] - first.nsd_id[of_first]
    if (step == 0).mean() > 1 - _SHARE_OF_MATCHES:
        return []
    for offset in (1, -1):
        if (step == offset).mean() >= _SHARE_OF_MATCHES:
            return [f"the ids of {_SIDES[offset > 0]} are off by one: 1-based ids taken as 0-based"]
    place = of_second - of_first
    for offset in (1, -1):
        if (place == offset).mean() >= _SHARE_OF_MATCHES:
            return ["the ids are off by one: each row bears its neighbour's id"]
    return ["the rows of one side bear other images' ids"]


def _matches(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.int64] | None:
    """Match columns by correlation; (n_matches, 2), None where there are too few rows to tell."""
    if len(first) != len(second) or len(first) < _FEWEST_IMAGES:
        return None
    if first.shape[1] == 0 or second.shape[1] == 0:
        return None
    steps = [max(1, -(-part.shape[1] // _MATCHED_AT_MOST)) for part in (first, second)]
    columns = np.arange(0, second.shape[1], steps[1])
    r = _unit(first).T @ _unit(second[:, columns])
    best = r.argmax(axis=0)
    sure = r[best, np.arange(len(columns))] > _MATCH
    return np.stack([best[sure], columns[sure]], axis=1)


def _unit(values: NDArray[np.floating]) -> NDArray[np.float32]:
    centred = values - values.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    return np.asarray(centred / np.where(length > 0, length, 1), dtype=np.float32)


def _turned(first: Side, second: Side) -> list[str]:
    """Find voxels by their values, and by their noise ceilings, where the coordinates do not."""
    found = []
    _, rows, rows_of_second = np.intersect1d(first.nsd_id, second.nsd_id, return_indices=True)
    same = _matches(first.values[rows], second.values[rows_of_second])
    if same is not None and len(same):
        turn = _turn(first.coordinates[same[:, 0]], second.coordinates[same[:, 1]])
        if turn:
            found.append(f"the responses lie in a transposed or flipped volume: {turn}")
    unique = [np.unique(side.noise_ceiling, return_index=True) for side in (first, second)]
    ceiling, of_first, of_second = np.intersect1d(unique[0][0], unique[1][0], return_indices=True)
    of_first = unique[0][1][of_first[ceiling > 0]]
    of_second = unique[1][1][of_second[ceiling > 0]]
    turn = _turn(first.coordinates[of_first], second.coordinates[of_second])
    if turn and not found:
        found.append(f"the noise ceilings lie in a transposed or flipped volume: {turn}")
    if not found and len(first.coordinates) == len(second.coordinates):
        turn = _turn_of_sets(first.coordinates, second.coordinates)
        if turn:
            found.append(f"the region's mask is transposed or flipped: {turn}")
    return found


def _turns() -> list[tuple[tuple[int, ...], NDArray[np.int64], str]]:
    turns = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            name = ", ".join(
                ("-" if sign < 0 else "") + _AXES[axis]
                for axis, sign in zip(order, signs, strict=True)
            )
            turns.append((order, np.array(signs), f"({', '.join(_AXES)}) became ({name})"))
    # The first of all is no turn.
    return turns[1:]


def _turn(first: NDArray[np.int64], second: NDArray[np.int64]) -> str | None:
    """Return how matched voxels are turned, as words; None where they are not, or not all alike."""
    if len(first) < _FEWEST_MATCHES:
        return None
    # Where they lie as they should, a turn that would do as well says nothing.
    if (first == second).all(axis=1).mean() >= 0.5:
        return None
    for order, signs, name in _turns():
        offset = second - signs * first[:, list(order)]
        _, count = np.unique(offset, axis=0, return_counts=True)
        if count.max() >= max(_FEWEST_MATCHES, _SHARE_OF_MATCHES * len(first)):
            return name
    return None


def _turn_of_sets(first: NDArray[np.int64], second: NDArray[np.int64]) -> str | None:
    """Return how a whole set of voxels is turned; None where it is not."""
    ordered = np.unique(second, axis=0)
    if len(first) < _FEWEST_MATCHES or np.array_equal(np.unique(first, axis=0), ordered):
        return None
    for order, signs, name in _turns():
        turned = signs * first[:, list(order)]
        turned = turned - turned.min(axis=0) + second.min(axis=0)
        if np.array_equal(np.unique(turned, axis=0), ordered):
            return name
    return None


def _outside(first: Side, second: Side) -> list[str]:
    found: list[str] = []
    if first.values.size == 0 or second.values.size == 0:
        return found
    shares = [float((np.ptp(side.values, axis=0) == 0).mean()) for side in (first, second)]
    for name, share, other in zip(_SIDES, shares, reversed(shares), strict=True):
        if share > 0.1 and other < 0.1:
            found.append(
                f"{name} has {share:.0%} of its voxels outside the brain: a transposed or flipped "
                "volume"
            )
    return found
