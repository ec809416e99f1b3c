"""Sessions of a remote dataset are requested while the ones before them are computed."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from nsd_prep.core.counts import counted
from nsd_prep.dataset.beta_files import read_of_files
from nsd_prep.extraction.request import SessionRequest
from nsd_prep.extraction.sessions import voxels_to_read

#: Sessions whose ranges are requested before they are read.
AHEAD: Final = 3


class Prefetch:
    """Requests the ranges of sessions, in order, a few ahead of those that are done.

    Parameters
    ----------
    requests : sequence of SessionRequest
        In the order in which they are extracted. Of a folder nothing is prefetched, nor what the
        store holds.
    """

    def __init__(self, requests: Sequence[SessionRequest]) -> None:
        self._waiting = deque(requests)
        self._total = len(requests)
        self._source = requests[0].source if requests else None
        self._started = time.monotonic()

    def advance(self, n_sessions: int) -> None:
        """Request the ranges of some more sessions."""
        for _ in range(min(n_sessions, len(self._waiting))):
            request = self._waiting.popleft()
            if request.source.transfer is None:
                continue
            if len(sites := voxels_to_read(request)):
                for file, own in read_of_files(request.files, sites):
                    request.source.prefetch(file.path, own, file.shape, request.n_trials)

    def traffic(self, n_done: int) -> str:
        """Return what was transferred so far, how fast, and the time left; "" of a folder.

        Parameters
        ----------
        n_done : int
            Sessions that are extracted.
        """
        transfer = self._source.transfer if self._source else None
        if transfer is None:
            return ""
        megabytes = sum(transfer.bytes.values()) / 1e6
        seconds = max(time.monotonic() - self._started, 1e-3)
        requests = sum(transfer.requests.values())
        text = f"{counted(requests, 'request')}, {megabytes:.1f} MB, {megabytes / seconds:.1f} MB/s"
        if not 0 < n_done < self._total:
            return text
        return f"{text}, {seconds / n_done * (self._total - n_done):.0f} s left"
