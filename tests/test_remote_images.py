"""Images of a remote dataset: the same pixels from PNG files and from the file of all."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from range_server import RangeServer

from nsd_prep.core.errors import InputFileError, MissingFilesError, RemoteFaultError
from nsd_prep.sources import retry as attempts
from nsd_prep.sources.client import Client
from nsd_prep.sources.images import SHARED_FOLDER, STIMULI_FILE, fetch_images

PICTURES = np.random.default_rng(0).integers(0, 256, (60, 40, 30, 3), dtype=np.uint8)
IDS = np.array([3, 59, 0, 17, 18])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    (tmp_path / STIMULI_FILE).parent.mkdir(parents=True)
    with RangeServer(tmp_path) as server:
        yield server


@pytest.fixture
def client(server: RangeServer) -> Iterator[Client]:
    client = Client(server.url)
    yield client
    client.close()


def write_stimuli(server: RangeServer, **options: object) -> Path:
    path = server.folder / STIMULI_FILE
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=PICTURES, **options)
    return path


def check(client: Client, ids: np.ndarray = IDS) -> None:
    read = list(fetch_images(client, ids))
    assert [nsd_id for nsd_id, _ in read] == sorted(ids.tolist())
    for nsd_id, pixels in read:
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, PICTURES[nsd_id])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (1, 40, 30, 3)},
        {"chunks": (7, 10, 30, 3)},
        {"chunks": (1, 40, 30, 3), "compression": "gzip"},
    ],
)
def test_from_the_file_of_all_in_any_form(
    server: RangeServer, client: Client, options: dict[str, object]
) -> None:
    write_stimuli(server, **options)
    check(client)
    check(client, np.arange(60))
    check(client, np.zeros(0, dtype=np.int64))
    assert client.transfer.bytes["images"] > 0


def test_of_a_file_in_one_block_little_else_is_fetched(server: RangeServer, client: Client) -> None:
    path = server.folder / STIMULI_FILE
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=np.repeat(PICTURES, 40, axis=0))
    found = list(fetch_images(client, np.array([1000, 2000])))
    assert np.array_equal(found[0][1], PICTURES[1000 // 40])
    assert client.transfer.bytes["images"] < 200_000 < path.stat().st_size


def test_faults(server: RangeServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(attempts, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(attempts, "OUTAGE_SECONDS", 0.3)
    monkeypatch.setattr(attempts, "PROBE_SECONDS", 0.0)
    with pytest.raises(MissingFilesError, match=r"nsd_stimuli\.hdf5 is missing"):
        list(fetch_images(client, IDS))
    path = write_stimuli(server)
    server.fail("503", times=3, method="GET")
    check(client)
    server.fail("503", times=1000, method="GET")
    with pytest.raises(RemoteFaultError):
        list(fetch_images(client, IDS))
    server._faults.clear()
    with pytest.raises(InputFileError, match="expected images up to nsd_id 60"):
        list(fetch_images(client, np.array([60])))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputFileError, match="truncated"):
        list(fetch_images(client, IDS))


class TestSharedFiles:
    """A server that lists folders is imitated: most web servers do not."""

    @pytest.fixture(autouse=True)
    def files(self, server: RangeServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = server.folder / SHARED_FOLDER
        folder.mkdir(parents=True)
        for rank, nsd_id in enumerate(np.sort(IDS), start=1):
            content = io.BytesIO()
            Image.fromarray(PICTURES[nsd_id]).save(content, "PNG")
            name = f"shared{rank:04d}_nsd{nsd_id + 1:05d}.png"  # the 73k id is 1-based
            (folder / name).write_bytes(content.getvalue())

        def names(folder: str) -> list[str]:
            paths = sorted((server.folder / folder).iterdir())
            return [path.relative_to(server.folder).as_posix() for path in paths]

        monkeypatch.setattr(client, "names", names)

    def test_from_the_files(self, client: Client) -> None:
        check(client)
        assert client.transfer.requests == {"images": len(IDS)}

    def test_a_hidden_file_beside_them_is_no_image(
        self, server: RangeServer, client: Client
    ) -> None:
        write_stimuli(server)
        path = next((server.folder / SHARED_FOLDER).glob("*.png"))
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
        path.unlink()
        check(client)

    def test_an_image_that_has_no_file_comes_from_the_file_of_all(
        self, server: RangeServer, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_stimuli(server)
        with caplog.at_level(logging.WARNING):
            check(client, np.array([0, 1]))
        assert "does not hold all of the images" in caplog.text

    def test_a_file_that_is_no_image(self, server: RangeServer, client: Client) -> None:
        next((server.folder / SHARED_FOLDER).glob("*.png")).write_bytes(b"no image")
        with pytest.raises(InputFileError, match="is not an image"):
            list(fetch_images(client, IDS))
