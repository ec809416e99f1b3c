"""What a run will fetch is known before it does."""

from pathlib import Path

import numpy as np
import pytest
from range_server import RangeServer
from remote_files import random_betas, write_in_order

from nsd_prep.sources.client import Client
from nsd_prep.sources.estimate import SessionsToFetch, estimate, model_seconds
from nsd_prep.sources.sessions import SessionReader


def test_what_was_estimated_is_what_is_fetched(tmp_path: Path) -> None:
    grid = (8, 10, 31)
    write_in_order(tmp_path / "session.hdf5", random_betas(0, grid, 750))
    voxels = np.r_[5:30, 400, 900:990, 2400]
    expected = estimate([SessionsToFetch(1, voxels, grid, 750)])
    with RangeServer(tmp_path) as server:
        client = Client(server.url)
        SessionReader(client).read_voxels(client.identity("session.hdf5"), voxels, grid, 750)
        client.close()
    assert sum(client.transfer.requests.values()) == expected.requests
    assert sum(client.transfer.bytes.values()) == expected.bytes


def test_sessions_add_up() -> None:
    one = SessionsToFetch(1, np.arange(500), (8, 10, 31), 750)
    many = [one._replace(n_sessions=3), one]
    assert estimate(many).bytes == 4 * estimate([one]).bytes
    assert estimate(many).requests == 4 * estimate([one]).requests
    assert estimate([]).seconds == {"100 Mbit/s": 0, "1 Gbit/s": 0}


def test_the_model_of_the_link() -> None:
    assert model_seconds(1000, 1000, 1e9, latency=0.1, concurrency=10) == pytest.approx(10)
    assert model_seconds(10, 1_000_000, 1e5, latency=0.1, concurrency=10) == pytest.approx(10)
