"""What a run will fetch, and how long that takes: known before any betas are read."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nsd_prep.sources.client import CONCURRENCY
from nsd_prep.sources.sessions import frames_to_fetch, predicted_parts

#: Seconds from a request to the first byte of its answer that the estimates take.
LATENCY: Final = 0.030
LINKS: Final = {"100 Mbit/s": 100e6 / 8, "1 Gbit/s": 1e9 / 8}


class SessionsToFetch(NamedTuple):
    """Sessions of one subject; on surfaces, a hemisphere's files of these.

    Attributes
    ----------
    n_sessions : int
        How many.
    voxels : ndarray of int64, shape (n_voxels,)
        What is wanted of each: sites (0-based), ascending.
    shape : tuple of int
        Of all sites: `nsd_prep.dataset.space.Space.shape`.
    n_trials : int
        750 in NSD.
    in_frames : bool
        Whether the file is one of MGH.
    """

    n_sessions: int
    voxels: NDArray[np.int64]
    shape: tuple[int, ...]
    n_trials: int
    in_frames: bool = False


class FetchEstimate(NamedTuple):
    """What is going to be fetched.

    Attributes
    ----------
    requests, bytes : int
        In all.
    seconds : dict of str to float
        For each link, by the model max(requests x latency / concurrency, bytes / bandwidth).
    """

    requests: int
    bytes: int
    seconds: dict[str, float]


def estimate(sessions: Iterable[SessionsToFetch]) -> FetchEstimate:
    """Estimate what sessions that are not in the store, and lie as NSD's do, will cost.

    Nothing is read. There is one request more a session, for its size and ETag.
    """
    n_requests = n_bytes = 0
    for subject in sessions:
        if subject.in_frames:
            parts = frames_to_fetch(subject.shape[0], subject.n_trials, subject.voxels)
        else:
            parts = predicted_parts(subject.shape, subject.n_trials, subject.voxels)
        n_requests += subject.n_sessions * (1 + sum(len(part.ranges.pieces()) for part in parts))
        n_bytes += subject.n_sessions * sum(part.ranges.n_bytes for part in parts)
    return FetchEstimate(
        requests=n_requests,
        bytes=n_bytes,
        seconds={
            name: model_seconds(n_requests, n_bytes, bandwidth) for name, bandwidth in LINKS.items()
        },
    )


def model_seconds(
    n_requests: int,
    n_bytes: int,
    bandwidth: float,
    *,
    latency: float = LATENCY,
    concurrency: int = CONCURRENCY,
) -> float:
    """Return the seconds that requests take, where either latency or bandwidth is the limit.

    Latency in seconds, bandwidth in bytes per second, concurrency in requests under way at once.
    """
    return max(n_requests * latency / concurrency, n_bytes / bandwidth)
