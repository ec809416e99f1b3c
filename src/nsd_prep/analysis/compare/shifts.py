"""Images and voxels of two assemblies found by their values, where ids or coordinates differ."""

from collections.abc import Iterator
from itertools import permutations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nsd_prep.analysis.compare.sides import SIDES, Side, rows_of_voxels
from nsd_prep.dataset.space import SurfaceSpace, VolumeSpace

#: Voxels or images that are matched by their values at most, and correlation of a match.
_MATCHED_AT_MOST: Final = 1500
#: Voxels that are looked for among another subject's.
_MATCHED_WITH_OTHERS: Final = 100
_MATCH: Final = 0.999
FEWEST_MATCHES: Final = 3
FEWEST_IMAGES_MATCHED: Final = 8
_SHARE_OF_MATCHES: Final = 0.9
#: What the coordinates of volumes and of surfaces are, by their number.
_AXES: Final = {3: VolumeSpace.coordinates, 2: SurfaceSpace.coordinates}


def other_ids(first: Side, second: Side) -> list[str]:
    """Find images by their values where the ids do not."""
    rows = _matches(first.values.T, second.values.T)
    if rows is None or len(rows) < FEWEST_MATCHES:
        return []
    of_first, of_second = rows.T
    step = second.nsd_id[of_second] - first.nsd_id[of_first]
    if (step == 0).mean() > 1 - _SHARE_OF_MATCHES:
        return []
    for offset in (1, -1):
        if (step == offset).mean() >= _SHARE_OF_MATCHES:
            return [f"the ids of {SIDES[offset > 0]} are off by one: 1-based ids taken as 0-based"]
    shift = of_second - of_first
    for offset in (1, -1):
        if (shift == offset).mean() >= _SHARE_OF_MATCHES:
            return ["the ids are off by one: each row bears its neighbour's id"]
    return ["the rows of one side bear other images' ids"]


def other_places(first: Side, second: Side) -> list[str]:
    """Find voxels by their values, and by their noise ceilings, where the coordinates do not."""
    _, rows, rows_of_second = np.intersect1d(first.nsd_id, second.nsd_id, return_indices=True)
    same = _matches(first.values[rows], second.values[rows_of_second])
    if same is not None and len(same):
        moved = _moved(first.coordinates[same[:, 0]], second.coordinates[same[:, 1]])
        if moved:
            return [f"the responses lie in a {moved[0]} {_kind_of_space(first)}: {moved[1]}"]
        exchanged = _exchanged(first, second, rows, rows_of_second, same)
        if exchanged:
            return [f"the responses of {exchanged} voxels stand under other voxels' coordinates"]
    unique = [np.unique(side.noise_ceiling, return_index=True) for side in (first, second)]
    ceiling, of_first, of_second = np.intersect1d(unique[0][0], unique[1][0], return_indices=True)
    of_first = unique[0][1][of_first[ceiling > 0]]
    of_second = unique[1][1][of_second[ceiling > 0]]
    moved = _moved(first.coordinates[of_first], second.coordinates[of_second])
    if moved:
        return [f"the noise ceilings lie in a {moved[0]} {_kind_of_space(first)}: {moved[1]}"]
    if len(first.coordinates) == len(second.coordinates):
        moved = _moved_set(first.coordinates, second.coordinates)
        if moved:
            return [f"the region's mask is {moved[0]}: {moved[1]}"]
    return []


def _kind_of_space(side: Side) -> str:
    return "volume" if side.coordinates.shape[1] == len(VolumeSpace.coordinates) else "surface"


def are_those_of(other: Side, first: Side, second: Side, tolerance: float) -> bool:
    """Return whether a subject's responses in the second are another's in the first.

    `other` is the other subject in the first, `first` and `second` the subject in both: of the
    voxels that differ between these, most have their responses in the other.
    """
    _, rows, rows_of_second = np.intersect1d(other.nsd_id, second.nsd_id, return_indices=True)
    columns, columns_of_second = rows_of_voxels(first.coordinates, second.coordinates)
    wrong = columns_of_second
    if np.array_equal(first.nsd_id, other.nsd_id):
        x = first.values[np.ix_(rows, columns)]
        y = second.values[np.ix_(rows_of_second, columns_of_second)]
        wrong = columns_of_second[(np.abs(x - y) > tolerance).any(axis=0)]
    if len(wrong) < FEWEST_MATCHES:
        return False
    some = wrong[:: -(-len(wrong) // _MATCHED_WITH_OTHERS)]
    same = _matches(other.values[rows], second.values[np.ix_(rows_of_second, some)])
    return same is not None and len(same) >= max(FEWEST_MATCHES, 0.5 * len(some))


def _exchanged(
    first: Side,
    second: Side,
    rows: NDArray[np.int64],
    rows_of_second: NDArray[np.int64],
    same: NDArray[np.int64],
) -> int:
    """Return how many matched voxels lie elsewhere, where what stands in their place differs."""
    elsewhere = (first.coordinates[same[:, 0]] != second.coordinates[same[:, 1]]).any(axis=1)
    columns, columns_of_second = rows_of_voxels(first.coordinates, second.coordinates)
    x = first.values[np.ix_(rows, columns)]
    y = second.values[np.ix_(rows_of_second, columns_of_second)]
    in_place = (_unit(x) * _unit(y)).sum(axis=0) > _MATCH
    agrees = columns_of_second[in_place]
    number = int((elsewhere & ~np.isin(same[:, 1], agrees)).sum())
    return number if number > 1 else 0


def _matches(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.int64] | None:
    """Match columns by correlation; (n_matches, 2), None where there are too few rows to tell."""
    if len(first) != len(second) or len(first) < FEWEST_IMAGES_MATCHED:
        return None
    if first.shape[1] == 0 or second.shape[1] == 0:
        return None
    step = max(1, -(-second.shape[1] // _MATCHED_AT_MOST))
    columns = np.arange(0, second.shape[1], step)
    r = _unit(first).T @ _unit(second[:, columns])
    best = r.argmax(axis=0)
    sure = r[best, np.arange(len(columns))] > _MATCH
    return np.stack([best[sure], columns[sure]], axis=1)


def _unit(values: NDArray[np.floating]) -> NDArray[np.float32]:
    centred = np.nan_to_num(values - values.mean(axis=0))
    length = np.linalg.norm(centred, axis=0)
    return np.asarray(centred / np.where(length > 0, length, 1), dtype=np.float32)


def _turns(n_axes: int) -> Iterator[tuple[tuple[int, ...], NDArray[np.int64], str]]:
    """Give all orders and signs of the axes, no turn first.

    Surfaces have no axes to be turned; their hemispheres may be exchanged.
    """
    axes = _AXES[n_axes]
    if axes == SurfaceSpace.coordinates:
        yield (0, 1), np.array([1, 1]), "nothing"
        yield (0, 1), np.array([-1, 1]), "left and right hemisphere are exchanged"
        return
    for order in permutations(range(n_axes)):
        for signs in product((1, -1), repeat=n_axes):
            name = ", ".join(
                ("-" if sign < 0 else "") + axes[axis]
                for axis, sign in zip(order, signs, strict=True)
            )
            yield order, np.array(signs), f"({', '.join(axes)}) became ({name})"


def _described(name: str, turned: bool, shift: NDArray[np.int64]) -> tuple[str, str]:
    """Return how voxels are moved, in a word and in numbers."""
    axes = _AXES[len(shift)]
    if turned:
        return "transposed or flipped", name
    counted = shift[1:] if axes == SurfaceSpace.coordinates else shift
    if (counted == 1).all() or (counted == -1).all():
        return "shifted", f"the coordinates of {SIDES[int(counted[0] == 1)]} are counted from 1"
    steps = (f"{step:+d} along {axis}" for axis, step in zip(axes, shift, strict=True) if step)
    return "shifted", f"{', '.join(steps)} in the second"


def _moved(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[str, str] | None:
    """Return how matched voxels are moved; None where they are not, or not all alike."""
    if len(first) < FEWEST_MATCHES:
        return None
    # Where they lie as they should, a turn that would do as well says nothing.
    if (first == second).all(axis=1).mean() >= 0.5:
        return None
    for number, (order, signs, name) in enumerate(_turns(first.shape[1])):
        steps, count = np.unique(second - signs * first[:, list(order)], axis=0, return_counts=True)
        if count.max() >= max(FEWEST_MATCHES, _SHARE_OF_MATCHES * len(first)):
            return _described(name, number > 0, steps[count.argmax()])
    return None


def _moved_set(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[str, str] | None:
    """Return how a whole set of voxels is moved; None where it is not."""
    ordered = np.unique(second, axis=0)
    if len(first) < FEWEST_MATCHES or np.array_equal(np.unique(first, axis=0), ordered):
        return None
    for number, (order, signs, name) in enumerate(_turns(first.shape[1])):
        turned = signs * first[:, list(order)]
        shift = second.min(axis=0) - turned.min(axis=0)
        if np.array_equal(np.unique(turned + shift, axis=0), ordered):
            return _described(name, number > 0, shift)
    return None
