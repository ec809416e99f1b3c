"""Sessions of surfaces from a server of ranges: few bytes beside those that are wanted."""

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from range_server import RangeServer
from small_surfaces import write_mgh

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.betas import read_voxels
from nsd_prep.dataset.hdf5.places import ChunkPlaces
from nsd_prep.dataset.hdf5.ranges import Ranges
from nsd_prep.sources import sessions
from nsd_prep.sources.client import Client
from nsd_prep.sources.estimate import SessionsToFetch, estimate
from nsd_prep.sources.sessions import SessionReader, predicted_parts
from nsd_prep.sources.sparse_file import SparseFile

N_VERTICES, N_TRIALS = 3000, 750
#: Two vertices of three, as fsaverage takes them from a larger surface; and some far away.
VERTICES = np.unique(np.r_[np.flatnonzero(np.arange(900) % 3 != 1), 1500:1530:2, 2990, 2999])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("surfaces")
    values = np.random.default_rng(5).integers(-999, 999, (N_VERTICES, N_TRIALS), dtype=np.int16)
    np.save(folder / "values.npy", values)
    with h5py.File(folder / "lh.hdf5", "w", libver="earliest") as file:
        chunks = (N_TRIALS, 1)
        dataset = file.create_dataset("betas", (N_TRIALS, N_VERTICES), "<i2", chunks=chunks)
        for vertex in range(N_VERTICES):
            dataset.id.write_direct_chunk((0, vertex), values[vertex])
    write_mgh(folder / "lh.mgh", values[:, np.newaxis, np.newaxis] / 8)
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    with RangeServer(folder) as server:
        yield server


@pytest.fixture
def client(server: RangeServer) -> Iterator[Client]:
    client = Client(server.url)
    yield client
    client.close()


def truth(folder: Path, name: str) -> np.ndarray:
    values = np.load(folder / "values.npy")
    return values if name.endswith("hdf5") else (values / 8).astype(np.float32)


@pytest.mark.parametrize("name", ["lh.hdf5", "lh.mgh"])
@pytest.mark.parametrize("part_bytes", [30_000_000, 200_000])
class TestFiles:
    @pytest.fixture(autouse=True)
    def parts_of_these_bytes(self, part_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "PART_BYTES", part_bytes)
        monkeypatch.setattr(SparseFile, "bytes_at_once", part_bytes)

    def test_the_values_are_those_of_the_file(
        self, client: Client, folder: Path, name: str
    ) -> None:
        identity = client.identity(name)
        for vertices in (VERTICES, np.arange(N_VERTICES), np.zeros(0, np.int64)):
            found = SessionReader(client).read_voxels(identity, vertices, (N_VERTICES,), N_TRIALS)
            np.testing.assert_array_equal(found, truth(folder, name)[vertices])
            assert found.dtype == truth(folder, name).dtype

    def test_what_was_estimated_is_what_is_fetched(self, client: Client, name: str) -> None:
        shape = (N_VERTICES,)
        expected = estimate([SessionsToFetch(1, VERTICES, shape, N_TRIALS, name.endswith(".mgh"))])
        SessionReader(client).read_voxels(client.identity(name), VERTICES, shape, N_TRIALS)
        assert sum(client.transfer.requests.values()) == expected.requests
        assert sum(client.transfer.bytes.values()) == expected.bytes


@pytest.mark.parametrize("name", ["lh.hdf5", "lh.mgh"])
def test_it_is_fetched_before_it_is_read_and_once(
    server: RangeServer, client: Client, folder: Path, name: str
) -> None:
    identity = client.identity(name)
    reader = SessionReader(client)
    assert reader.prefetch(identity, VERTICES, (N_VERTICES,), N_TRIALS)
    reader._prefetched[identity].first.pieces()
    assert server.ranges
    reader.cancel()
    server.reset_counters()
    assert reader.prefetch(identity, VERTICES, (N_VERTICES,), N_TRIALS)
    found = reader.read_voxels(identity, VERTICES, (N_VERTICES,), N_TRIALS)
    np.testing.assert_array_equal(found, truth(folder, name)[VERTICES])
    assert len({(start, stop) for _, start, stop in server.ranges}) == len(server.ranges)


def test_few_bytes_are_fetched_beside_those_that_are_wanted() -> None:
    shape = (198_000,)
    generator = np.random.default_rng(0)
    vertices = np.flatnonzero(generator.random(60_000) < 0.7)  # scattered gaps of a vertex or two
    places = ChunkPlaces.predict(shape, N_TRIALS)
    parts = predicted_parts(shape, N_TRIALS, vertices)
    needed = [places.ranges(vertices[part.voxels], 0) for part in parts]
    assert len(parts) == 3
    for part, alone in zip(parts, needed, strict=True):
        assert alone.n_bytes < part.ranges.n_bytes <= 1.04 * alone.n_bytes
        assert len(part.ranges) < 0.9 * len(alone)
        # Another gap would be too much.
        assert part.ranges.n_bytes + places.chunk_bytes > 1.04 * alone.n_bytes
        _is_covered(alone, part.ranges)


def _is_covered(inner: Ranges, outer: Ranges) -> None:
    held_in = np.searchsorted(outer.starts, inner.starts, side="right") - 1
    assert (inner.stops <= outer.stops[held_in]).all()


def test_a_file_of_frames_that_is_too_short_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lh.mgh").write_bytes((folder / "lh.mgh").read_bytes()[:-5000])
    with RangeServer(tmp_path) as server:
        client = Client(server.url)
        identity, reader = client.identity("lh.mgh"), SessionReader(client)
        assert not reader.prefetch(identity, VERTICES, (N_VERTICES,), N_TRIALS)
        with pytest.raises(InputFileError, match=r"lh\.mgh is truncated"):
            reader.read_voxels(identity, VERTICES, (N_VERTICES,), N_TRIALS)
        client.close()


@pytest.mark.parametrize(
    ("trials", "wrong"),
    [(700, np.nan), (0, -np.inf), (slice(None), np.inf), (700, 1e30), (0, -1e7)],
)
def test_values_that_are_no_responses_are_said(
    tmp_path: Path, trials: int | slice, wrong: float
) -> None:
    values = np.ones((40, 1, 1, N_TRIALS), dtype=np.float32)
    values[5] = np.nan  # a vertex without data
    values[7, ..., trials] = wrong
    path = write_mgh(tmp_path / "lh.mgh", values)
    trial = 0 if isinstance(trials, slice) else trials
    said = re.escape(f"value {np.float32(wrong)} in trial {trial} (0-based) at the vertex 7 ")
    with pytest.raises(InputFileError, match=said):
        read_voxels(path, np.arange(40), (40,), N_TRIALS)
    with RangeServer(tmp_path) as server:
        client = Client(server.url)
        with pytest.raises(InputFileError, match=said):
            SessionReader(client).read_voxels(
                client.identity("lh.mgh"), np.arange(40), (40,), N_TRIALS
            )
        client.close()
