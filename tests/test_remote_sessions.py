"""Sessions read from a server of ranges: the same values as h5py reads from the whole file."""

import logging
import pickle
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from range_server import RangeServer
from remote_files import (
    GRID,
    N_TRIALS,
    ORDERS,
    chunk_places,
    random_betas,
    whole_volume,
    write_in_order,
)
from small_nsd import STORAGE_FORMS, write_betas

from nsd_prep.core.errors import (
    ChangedFileError,
    InputFileError,
    MissingFilesError,
    RemoteFaultError,
)
from nsd_prep.dataset import betas
from nsd_prep.sources import retry as attempts
from nsd_prep.sources import sessions
from nsd_prep.sources.client import CONCURRENCY, Client
from nsd_prep.sources.sessions import SessionReader
from nsd_prep.sources.sparse_file import SparseFile
from nsd_prep.sources.traffic import Gate

#: Runs and single voxels, from the first to the last.
VOXELS = np.unique(np.r_[0, 30:60, 300:330:4, 1500:1560, 2000, 2639:2646])
SMALL_GRID, SMALL_TRIALS = (6, 4, 5), 12


@pytest.fixture(scope="module", params=ORDERS)
def ordered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of betas in each order of its chunks."""
    path = tmp_path_factory.mktemp("ordered") / "session.hdf5"
    write_in_order(path, random_betas(1, GRID, N_TRIALS), request.param)
    return path


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in-order") / "session.hdf5"
    write_in_order(path, random_betas(1, GRID, N_TRIALS))
    return path


@pytest.fixture
def server(in_order: Path) -> Iterator[RangeServer]:
    with RangeServer(in_order.parent) as server:
        yield server


@pytest.fixture
def client(server: RangeServer) -> Iterator[Client]:
    client = Client(server.url)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(attempts, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(attempts, "FIRST_CONTACT_SECONDS", 0.3)
    monkeypatch.setattr(attempts, "OUTAGE_SECONDS", 0.3)


def write_of_predicted_size(path: Path) -> None:
    """Write a file in order, and then let its index name the chunks in another order."""
    write_in_order(path, random_betas(1, GRID, N_TRIALS))
    content = bytearray(path.read_bytes())
    places = chunk_places(path)
    renamed = dict(zip(places.tolist(), np.roll(places, 700).tolist(), strict=True))
    at = content.find(b"TREE\x01\x00")
    while at >= 0:
        (used,) = struct.unpack_from("<H", content, at + 6)
        for entry in range(used):
            child = at + 24 + 56 * entry + 48
            struct.pack_into(
                "<Q", content, child, renamed[struct.unpack_from("<Q", content, child)[0]]
            )
        at = content.find(b"TREE\x01\x00", at + 1)
    path.write_bytes(content)


def read(client: Client, voxels: np.ndarray = VOXELS) -> np.ndarray:
    identity = client.identity("session.hdf5")
    return SessionReader(client).read_voxels(identity, voxels, GRID, N_TRIALS)


class TestOrdersOfChunks:
    def test_the_values_are_those_of_the_whole_file(self, ordered: Path) -> None:
        with RangeServer(ordered.parent) as server:
            client = Client(server.url)
            for voxels in (VOXELS, VOXELS[:1], np.array([2645]), np.arange(np.prod(GRID))):
                values = read(client, voxels)
                assert values.dtype == np.int16
                assert values.dtype.isnative
                assert np.array_equal(values, whole_volume(ordered)[voxels])
            client.close()

    def test_a_file_in_order_is_read_without_a_miss(
        self, server: RangeServer, client: Client, in_order: Path
    ) -> None:
        read(client, np.array([5, 900]))
        assert client.transfer.requests.keys() == {"sizes", "betas"}
        fetched = [(start, stop) for _, start, stop in server.ranges]
        for place in chunk_places(in_order)[[5, 900]]:
            assert any(start <= place and place + 1500 <= stop for start, stop in fetched)
        assert client.transfer.bytes["betas"] < 60_000

    def test_ranges_do_not_overlap(self, server: RangeServer, client: Client) -> None:
        read(client)
        ranges = sorted((start, stop) for _, start, stop in server.ranges)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(ranges))

    def test_a_file_in_another_order_is_read_by_its_index(self, tmp_path: Path) -> None:
        write_in_order(tmp_path / "session.hdf5", random_betas(1, GRID, N_TRIALS), "shuffled")
        with RangeServer(tmp_path) as server:
            client = Client(server.url)
            voxels = np.arange(40, 80)
            assert np.array_equal(
                read(client, voxels), whole_volume(tmp_path / "session.hdf5")[voxels]
            )
            size = (tmp_path / "session.hdf5").stat().st_size
            assert sum(client.transfer.bytes.values()) < size / 2
            client.close()

    def test_a_file_in_another_order_that_has_the_predicted_size(
        self,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write_of_predicted_size(tmp_path / "session.hdf5")
        expected = whole_volume(tmp_path / "session.hdf5")
        with RangeServer(tmp_path) as server:
            client = Client(server.url)
            # Some holes are filled without a word.
            assert np.array_equal(read(client), expected[VOXELS])
            assert caplog.text == ""
            monkeypatch.setattr(sessions, "_ALLOWED_MISSES", 3)
            assert np.array_equal(read(client), expected[VOXELS])
            assert "reading its index" in caplog.text
            client.close()

    def test_sessions_larger_than_memory_allows_are_read_in_parts(
        self, client: Client, in_order: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "PART_BYTES", 50_000)
        assert np.array_equal(read(client), whole_volume(in_order)[VOXELS])
        assert client.transfer.requests.keys() == {"sizes", "betas"}

    def test_no_voxels(self, client: Client) -> None:
        assert read(client, np.zeros(0, dtype=np.int64)).shape == (0, N_TRIALS)


class TestStorageForms:
    @pytest.mark.parametrize("storage", STORAGE_FORMS)
    def test_any_form_is_read_rightly(
        self, tmp_path: Path, storage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        rng = np.random.default_rng(3)
        volume = rng.integers(-32768, 32768, (SMALL_TRIALS, *SMALL_GRID[::-1]), dtype=np.int16)
        volume[:, rng.random(SMALL_GRID[::-1]) < 0.3] = 0
        write_betas(tmp_path / "session.hdf5", volume, storage)
        expected = whole_volume(tmp_path / "session.hdf5")
        with RangeServer(tmp_path) as server:
            client = Client(server.url)
            identity = client.identity("session.hdf5")
            reader = SessionReader(client)
            reader.check(identity, SMALL_GRID, SMALL_TRIALS)
            for voxels in (np.arange(120), np.array([3, 4, 77]), np.zeros(0, np.int64)):
                values = reader.read_voxels(identity, voxels, SMALL_GRID, SMALL_TRIALS)
                assert np.array_equal(values, expected[voxels])
            client.close()
        alone = storage.startswith("voxel chunks") or storage == "resizable"
        assert ("cannot be fetched alone" in caplog.text) == (not alone)

    @pytest.mark.parametrize("options", [{"chunks": (300, 1)}, {"chunks": (7, 30)}, {}], ids=str)
    def test_sites_along_one_axis(self, tmp_path: Path, options: dict[str, Any]) -> None:
        values = np.random.default_rng(2).integers(-999, 999, (300, 200), dtype=np.int16)
        with h5py.File(tmp_path / "session.hdf5", "w") as file:
            file.create_dataset("betas", data=values, **options)
        sites = np.array([0, 1, 2, 29, 30, 77, 199])
        with RangeServer(tmp_path) as server:
            client = Client(server.url)
            identity = client.identity("session.hdf5")
            read = SessionReader(client).read_voxels(identity, sites, (200,), 300)
            client.close()
        assert np.array_equal(read, values[:, sites].T)

    def test_blocks_that_do_not_fit_into_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SparseFile, "bytes_at_once", 300_000)
        betas = random_betas(4, (5, 6, 7), N_TRIALS)
        write_betas(tmp_path / "session.hdf5", betas.transpose(0, 3, 2, 1), "contiguous")
        with RangeServer(tmp_path) as server:
            client = Client(server.url)
            identity = client.identity("session.hdf5")
            values = SessionReader(client).read_voxels(
                identity, np.arange(50, 90), (5, 6, 7), N_TRIALS
            )
            client.close()
        assert np.array_equal(values, whole_volume(tmp_path / "session.hdf5")[50:90])


class TestBadFiles:
    """What is wrong with a file is said as of a local one."""

    @pytest.mark.parametrize("kept", [0.0, 0.001, 0.05, 0.5, 0.99])
    def test_a_truncated_file(self, in_order: Path, tmp_path: Path, kept: float) -> None:
        content = in_order.read_bytes()
        path = tmp_path / "session.hdf5"
        path.write_bytes(content[: int(kept * len(content))])
        self.refused(path, "truncated, empty or not HDF5")

    def test_a_file_that_is_not_hdf5(self, in_order: Path, tmp_path: Path) -> None:
        path = tmp_path / "session.hdf5"
        path.write_bytes(b"<html>" * 10_000)
        self.refused(path, "truncated, empty or not HDF5")
        path.write_bytes(b"\0" * in_order.stat().st_size)
        self.refused(path, "truncated, empty or not HDF5")

    def test_another_shape(self, tmp_path: Path) -> None:
        path = tmp_path / "session.hdf5"
        write_in_order(path, random_betas(1, GRID[::-1], N_TRIALS))
        self.refused(path, "betas of the shape")

    def refused(self, path: Path, says: str) -> None:
        with pytest.raises(InputFileError, match=says) as local:
            betas.read_voxels(path, VOXELS, GRID, N_TRIALS)
        with RangeServer(path.parent) as server:
            client = Client(server.url)
            identity = client.identity(path.name)
            for action in (
                lambda: SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS),
                lambda: SessionReader(client).check(identity, GRID, N_TRIALS),
            ):
                with pytest.raises(InputFileError, match=says) as remote:
                    action()
                assert identity.path in str(remote.value)
            client.close()
        assert type(local.value) is type(remote.value)


class TestFaults:
    @pytest.mark.parametrize("kind", ["503", "cut", "short", "reset"])
    def test_faults_that_pass_change_nothing(
        self, server: RangeServer, client: Client, in_order: Path, kind: str
    ) -> None:
        server.fail(kind, times=5, method="GET")
        assert np.array_equal(read(client), whole_volume(in_order)[VOXELS])
        assert sum(client.transfer.failures.values()) == 5

    @pytest.mark.parametrize("kind", ["503", "cut", "short", "reset"])
    def test_faults_that_stay_are_said(
        self, server: RangeServer, client: Client, kind: str
    ) -> None:
        identity = client.identity("session.hdf5")
        server.fail(kind, times=10_000)
        with pytest.raises(
            RemoteFaultError, match=r"could not be read in|was not requested"
        ) as raised:
            SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)
        assert isinstance(raised.value, OSError)
        assert not isinstance(raised.value, InputFileError)

    def test_a_deadline_ends_the_attempts(
        self, server: RangeServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "SESSION_SECONDS", 0.02)
        monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.05)
        identity = client.identity("session.hdf5")
        server.fail("503", times=10_000)
        with pytest.raises(RemoteFaultError, match="in 1 attempts"):
            SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)

    def test_overload_lowers_the_number_of_requests_at_once(
        self, server: RangeServer, client: Client
    ) -> None:
        server.fail("503", times=3)
        read(client)
        assert client._gate.limit < CONCURRENCY

    def test_a_gate_lets_more_through_again(self) -> None:
        gate = Gate(16)
        gate.reduce()
        gate.reduce()  # of the same moment
        assert gate.limit == 8
        for _ in range(8 * 16):
            with gate.passed():
                pass
        assert gate.limit == 16

    def test_a_server_that_ignores_ranges(self, server: RangeServer, client: Client) -> None:
        server.fail("no ranges", times=10_000, method="GET")
        with pytest.raises(InputFileError, match="returns the whole file when a range"):
            read(client)

    @pytest.mark.parametrize(("kind", "says"), [("403", "403 Forbidden"), ("404", "404 Not Found")])
    def test_a_file_that_goes(
        self, server: RangeServer, client: Client, kind: str, says: str
    ) -> None:
        server.fail(kind, times=10_000, method="GET")
        with pytest.raises(MissingFilesError, match=says):
            read(client)

    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_a_file_that_changes(self, server: RangeServer, client: Client, after: int) -> None:
        identity = client.identity("session.hdf5")
        server.change_etag("session", after=after)
        with pytest.raises(ChangedFileError, match="has changed"):
            SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)

    def test_a_server_that_goes_and_comes_back(
        self,
        server: RangeServer,
        client: Client,
        in_order: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        identity = client.identity("session.hdf5")
        server.down()
        with pytest.raises(RemoteFaultError):
            SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)
        server.up()
        monkeypatch.setattr(attempts, "PROBE_SECONDS", 0.0)
        values = SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)
        assert np.array_equal(values, whole_volume(in_order)[VOXELS])

    def test_faults_in_a_file_that_is_read_by_its_index(self, tmp_path: Path) -> None:
        write_in_order(tmp_path / "session.hdf5", random_betas(1, GRID, N_TRIALS), "shuffled")
        with RangeServer(tmp_path) as server:
            client = Client(server.url)
            identity = client.identity("session.hdf5")
            for after in range(0, 30, 3):
                server.counters.clear()
                server._change_after.clear()
                server.change_etag("session", after=after)
                with pytest.raises(ChangedFileError):
                    SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)
            client.close()


class TestPrefetch:
    def test_what_was_prefetched_is_not_fetched_again(
        self, server: RangeServer, client: Client, in_order: Path
    ) -> None:
        identity = client.identity("session.hdf5")
        reader = SessionReader(client)
        assert reader.prefetch(identity, VOXELS, GRID, N_TRIALS)
        assert reader.prefetch(identity, VOXELS, GRID, N_TRIALS)
        values = reader.read_voxels(identity, VOXELS, GRID, N_TRIALS)
        assert np.array_equal(values, whole_volume(in_order)[VOXELS])
        assert len({(start, stop) for _, start, stop in server.ranges}) == len(server.ranges)

    def test_other_voxels_than_were_prefetched(self, client: Client, in_order: Path) -> None:
        identity = client.identity("session.hdf5")
        reader = SessionReader(client)
        reader.prefetch(identity, VOXELS, GRID, N_TRIALS)
        other = np.arange(1000, 1010)
        values = reader.read_voxels(identity, other, GRID, N_TRIALS)
        assert np.array_equal(values, whole_volume(in_order)[other])

    def test_no_more_sessions_than_memory_allows(self, client: Client) -> None:
        identity = client.identity("session.hdf5")
        reader = SessionReader(client)
        others = [identity.model_copy(update={"etag": str(number)}) for number in range(5)]
        taken = [reader.prefetch(other, VOXELS, GRID, N_TRIALS) for other in others]
        assert taken == [True] * sessions.MOST_PREFETCHED + [False] * 2
        reader.cancel()
        assert reader.prefetch(identity, VOXELS, GRID, N_TRIALS)

    def test_threads_that_read_at_the_same_time(self, client: Client, in_order: Path) -> None:
        identity = client.identity("session.hdf5")
        reader = SessionReader(client)
        choices = [np.arange(first, 2600, 40) for first in range(8)]

        def read_choice(voxels: np.ndarray) -> np.ndarray:
            reader.prefetch(identity, voxels, GRID, N_TRIALS)
            return reader.read_voxels(identity, voxels, GRID, N_TRIALS)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(read_choice, choices))
        for voxels, values in zip(choices, found, strict=True):
            assert np.array_equal(values, whole_volume(in_order)[voxels])

    def test_no_more_requests_at_once_than_the_client_allows(
        self, server: RangeServer, client: Client
    ) -> None:
        server.latency = 0.005
        client._gate = Gate(5)
        read(client)
        assert server.counters["most at once"] <= 5


def test_a_client_can_be_pickled(client: Client, in_order: Path) -> None:
    copy = pickle.loads(pickle.dumps(client))
    assert np.array_equal(read(copy), whole_volume(in_order)[VOXELS])
    copy.close()


def test_nothing_is_logged_of_a_file_in_order(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "nsd_prep"):
        read(client)
    assert caplog.text == ""
