"""How alike a voxel responds to two presentations of an image, from a file of single trials."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks.decision import (
    CONDITIONS_OF_SHARE,
    FEWEST_IMAGES_OF_SHARE,
    FEWEST_VOXELS_OF_SHARE,
    HIGHEST_SHARE,
    LOWEST_SOUND_SHARE,
    NO_SHARE,
    THRESHOLDS_OF_SHARE,
    Share,
    margin_of,
    meanings_of_share,
    reason_of_share,
    share_of,
    signal_share,
    unless_partly_wrong,
    verdict_of_share,
)
from nsd_prep.core.check import Check, Kind, Threshold, Verdict
from nsd_prep.core.counts import counted
from nsd_prep.core.errors import ParameterError
from nsd_prep.single_trials.reading import TrialReader

#: Images read at once: 2 x 64 rows of nsdgeneral are 8 MB, and ten times that while summed.
_IMAGES_AT_ONCE = 64
#: Voxels that tell whether trials belong to their images: those of the highest ncsnr, where the
#: signal is at least this share of a trial's variance.
_VOXELS_THAT_TELL = 200
_LEAST_SIGNAL = 0.1
#: Parts of the images, in the order in which they were first seen. Where rows are under other
#: images, one has surely less than this of the whole's share, and not where the ncsnr is too high.
_PARTS: Final = 10
_SHARE_OF_PART: Final = 0.5
#: Images seen twice from which noise alone reaches that share in no voxel of thousands.
_ENOUGH_IMAGES = 500

SINGLE_TRIALS_OF_IMAGES: Final = Kind(
    name="single trials belong to their images",
    scope="subject, with single trials",
    measures=f"mean product of the first two presentations, over the {_VOXELS_THAT_TELL} voxels "
    "of the highest ncsnr (0.33 or more), as a share of what the ncsnr predicts",
    draws=("images", "trials"),
    conditions={
        **CONDITIONS_OF_SHARE,
        "failed": f"{CONDITIONS_OF_SHARE['failed']}, from {_ENOUGH_IMAGES} images seen twice",
        "suspicious": f"{CONDITIONS_OF_SHARE['suspicious']}, or failed with fewer images; or "
        f"surely below {_SHARE_OF_PART:g} of it in one of {_PARTS} parts of the images, as first "
        "seen",
        "not decidable": f"it, or 1 where it is more, is not above {LOWEST_SOUND_SHARE:g} by two "
        "errors, as with half of the rows under other images",
    },
    value="{share}",
    expectation="about 1: two presentations are as alike as the ncsnr predicts",
    lower=LOWEST_SOUND_SHARE,
    upper=HIGHEST_SHARE,
    unit="share of the prediction",
    meanings=meanings_of_share(
        sound="Rows of the file and images belong together.",
        weak="Some trials belong to other images, or some sessions are weak: look at the session "
        "records.",
        none="Rows and images do not belong together: compare the design with the sessions.",
        high="Two presentations are more alike than real data can be: repetitions are copies.",
    ),
    thresholds=(
        *THRESHOLDS_OF_SHARE,
        Threshold("voxels of the highest ncsnr", _VOXELS_THAT_TELL, "those with most signal"),
        Threshold("least signal of a voxel", _LEAST_SIGNAL, "a tenth of a trial's variance"),
        Threshold("share of a part of the images", _SHARE_OF_PART, "half of the whole"),
        Threshold("images for *failed*", _ENOUGH_IMAGES, "the ncsnr is estimated from them too"),
    ),
)


def rows_of_presentations(trials: pd.DataFrame, number: int) -> NDArray[np.int64]:
    """Return the rows of the first presentations of each image that has so many.

    Parameters
    ----------
    trials : DataFrame
        Rows of `nsd_prep.dataset.trials.trial_table`, in the order of the file.
    number : int
        How many presentations.

    Returns
    -------
    ndarray of int64, shape (n_images, number)
        Rows (0-based) of the repetitions 0, 1 and so on, in the order of the first.
    """
    keys = pd.MultiIndex.from_frame(trials[["nsd_id", "repetition"]])
    rows = pd.Series(np.arange(len(trials)), index=keys).unstack("repetition")
    complete = rows.reindex(columns=range(number)).dropna().sort_values(0)
    return complete.to_numpy(dtype=np.int64)


@dataclass(frozen=True)
class PresentationShare(Share):
    """How alike two presentations are, as a share of what the ncsnr predicts.

    Attributes
    ----------
    lowest : Share
        That of the part of the images, in their order, in which it is lowest.
    """

    lowest: Share = NO_SHARE


class PresentationPairs(NamedTuple):
    """Responses to the first presentation of images against those to the second.

    Attributes
    ----------
    correlation : ndarray of float64, shape (n_voxels,)
        Pearson's r over images; NaN where a voxel is constant.
    share : Share
        How alike they are in the voxels of the highest ncsnr, as a share of what it predicts; NaN
        where too few voxels have signal, or too few images were seen twice.
    telling : ndarray of float32, shape (2, n_images, n_telling)
        The responses of `telling_voxels` to both, the images as `rows_of_presentations` has them.
    """

    correlation: NDArray[np.float64]
    share: Share
    telling: NDArray[np.float32]


def compare_presentations(
    path: Path | str, trials: pd.DataFrame, ncsnr: NDArray[np.floating]
) -> PresentationPairs:
    """Compare each voxel's responses to the first and to the second presentation of images.

    Parameters
    ----------
    path : Path or str
        A file or a Zarr store of single trials, which is read once.
    trials : DataFrame
        Its table.
    ncsnr : ndarray of float, shape (n_voxels,)
        Of its voxels; NaN where one has no data.

    Returns
    -------
    PresentationPairs
        Of all voxels, and of those that tell whether rows and images belong together.

    Raises
    ------
    ParameterError
        Fewer than three images were seen twice.
    """
    pairs = rows_of_presentations(trials, 2)
    if len(pairs) < 3:
        raise ParameterError(
            f"The table has {counted(len(pairs), 'image')} with two presentations: expected at "
            'least three for a correlation; take more sessions, or images="all".'
        )
    telling = telling_voxels(ncsnr)
    reader = TrialReader(path)
    sums = np.zeros((5, reader.shape[1]))
    chosen = []
    for first, second in _blocks(reader, pairs):
        chosen.append(np.stack([first[:, telling], second[:, telling]]).astype(np.float32))
        for total, product in zip(
            sums, (first, second, first**2, second**2, first * second), strict=True
        ):
            total += product.sum(axis=0)
    mean_1, mean_2, square_1, square_2, product = sums / len(pairs)
    variance = (square_1 - mean_1**2) * (square_2 - mean_2**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = (product - mean_1 * mean_2) / np.sqrt(variance)
    both = np.concatenate(chosen, axis=1)
    share = share_of_presentations(both[0], both[1], ncsnr[telling])
    return PresentationPairs(np.where(variance > 0, correlation, np.nan), share, both)


def telling_voxels(ncsnr: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return which voxels tell whether rows and images belong together: those of the highest ncsnr.

    Parameters
    ----------
    ncsnr : ndarray of float, shape (n_voxels,)
        NaN where a voxel has no data.

    Returns
    -------
    ndarray of int64
        Ascending, 200 at most; none where every voxel has too little signal.
    """
    predicted = signal_share(ncsnr)
    order = np.argsort(-np.nan_to_num(predicted), kind="stable")[:_VOXELS_THAT_TELL]
    return np.sort(order[predicted[order] >= _LEAST_SIGNAL])


def share_of_presentations(
    first: NDArray[np.floating], second: NDArray[np.floating], ncsnr: NDArray[np.floating]
) -> PresentationShare:
    """Return how alike two presentations are, as a share of what the ncsnr predicts.

    Parameters
    ----------
    first, second : ndarray of float, shape (n_images, n_voxels)
        Responses of `telling_voxels`; images in the order in which they were first seen.
    ncsnr : ndarray of float, shape (n_voxels,)
        Theirs.

    Returns
    -------
    PresentationShare
        Of fewer than 5 voxels NaN.
    """
    if len(ncsnr) < FEWEST_VOXELS_OF_SHARE:
        return PresentationShare(**vars(NO_SHARE))
    products = (_standardised(first) * _standardised(second)).mean(axis=1, dtype=np.float64)
    scores = products / signal_share(ncsnr).mean()
    n_parts = max(min(_PARTS, len(scores) // FEWEST_IMAGES_OF_SHARE), 1)
    parts = [share_of(part) for part in np.array_split(scores, n_parts)]
    return PresentationShare(
        **vars(share_of(scores)), lowest=min(parts, key=lambda part: part.value)
    )


def verdict_of_presentations(share: Share) -> Verdict:
    """Return the verdict on the share of a `PresentationPairs`.

    Suspicious where the images of one part do not agree as the others do: an ncsnr that is too
    high does not depend on rows. Not decidable where half of the rows may be others'; of few images
    suspicious at most: the ncsnr is estimated from them too, and the voxels that seem best are so
    by chance in part.
    """
    verdict = unless_partly_wrong(verdict_of_share(share), share)
    if verdict in ("passed", "not decidable") and isinstance(share, PresentationShare):
        lowest = share.lowest
        if lowest.value + margin_of(lowest) < _SHARE_OF_PART * share.value:
            return "suspicious"
    return "suspicious" if verdict == "failed" and share.n_images < _ENOUGH_IMAGES else verdict


def check_presentations(subject: str, share: Share) -> Check:
    """Check the share of a `PresentationPairs`."""
    verdict = verdict_of_presentations(share)
    return SINGLE_TRIALS_OF_IMAGES.check(
        verdict,
        subject=subject,
        measured=share.value,
        reason=reason_of_share(share, verdict),
        share=share,
    )


def _standardised(responses: NDArray[np.floating]) -> NDArray[np.floating]:
    deviation = responses.std(axis=0)
    scaled: NDArray[np.floating] = responses - responses.mean(axis=0)
    scaled /= np.where(deviation > 0, deviation, 1)
    return scaled


def _blocks(
    reader: TrialReader, pairs: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    for start in range(0, len(pairs), _IMAGES_AT_ONCE):
        first, second = pairs[start : start + _IMAGES_AT_ONCE].T
        yield reader[first].astype(np.float64), reader[second].astype(np.float64)
