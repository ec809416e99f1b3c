"""How fast a link is, and what follows for the size and number of requests."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: A gap that is bridged before anything is known of the link, and the bounds of what is chosen
#: later: above, what NSD's host pays for grows faster than the time falls.
START_GAP: Final = 32 * 1024
SMALLEST_GAP: Final = 16 * 1024
LARGEST_GAP: Final = 32 * 1024
#: Requests under way at once, in the same way.
START_CONCURRENCY: Final = 64
LOWEST_CONCURRENCY: Final = 4
HIGHEST_CONCURRENCY: Final = 128
#: Requests that must have been timed before anything is concluded from them.
_FEWEST_SAMPLES: Final = 50
#: Steps of the concurrency, down where requests queue and up where none does.
_DOWN, _UP = 0.75, 1.5
#: Requests queue where one without bytes would take so many times as long as the fastest did.
_QUEUEING: Final = 2.0


@dataclass(frozen=True)
class Link:
    """What is chosen for a link: the gap that is bridged, and the requests under way at once.

    Attributes
    ----------
    gap : int
        Bytes.
    concurrency : int
        Requests.
    """

    gap: int = START_GAP
    concurrency: int = START_CONCURRENCY

    def adapted(self, n_bytes: NDArray[np.int64], seconds: NDArray[np.float64]) -> "Link":
        """Return what suits the link better, by how long requests took.

        A line through their bytes and seconds tells the seconds of a request and those of a byte:
        a gap is worth bridging while its bytes cost less than a request does.

        Parameters
        ----------
        n_bytes : ndarray of int64, shape (n_requests,)
            What each gave.
        seconds : ndarray of float64, shape (n_requests,)
            How long each took, from when it was sent.

        Returns
        -------
        Link
            Within fixed bounds; the same where the requests tell nothing.
        """
        if len(n_bytes) < _FEWEST_SAMPLES or np.ptp(n_bytes) == 0:
            return self
        per_byte, per_request = np.polyfit(n_bytes, seconds, 1)
        if per_request <= 0:
            return Link(SMALLEST_GAP, self.concurrency)
        worth = per_request / per_byte if per_byte > 0 else np.inf
        is_queueing = per_request > _QUEUEING * seconds.min() or worth < n_bytes.mean()
        concurrency = self.concurrency * (_DOWN if is_queueing else _UP)
        return Link(
            gap=int(np.clip(worth, SMALLEST_GAP, LARGEST_GAP)),
            concurrency=int(np.clip(concurrency, START_CONCURRENCY // 2, HIGHEST_CONCURRENCY)),
        )
