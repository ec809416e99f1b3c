"""Extraction: all sessions of a run, divided among workers."""

from nsd_prep.extraction import sessions
from nsd_prep.extraction.request import SessionRequest
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.extraction.store import Store


def extract_chunk(
    requests: list[SessionRequest],
    store: Store,  # noqa: ARG001 (where the files of the result are)
) -> list[SessionRecord]:
    """Read, z-score and store the responses of some sessions of a subject."""
    return sessions.extract_sessions(requests)
