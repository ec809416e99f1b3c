"""An address that does not answer: how long it is tried, and what is said in the end."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from range_server import RangeServer
from remote_files import GRID, N_TRIALS, random_betas, whole_volume, write_in_order

from nsd_prep.core.errors import (
    ChangedFileError,
    InputFileError,
    MissingFilesError,
    NotRequestedError,
    RemoteFaultError,
)
from nsd_prep.core.problems import Problems
from nsd_prep.sources import retry
from nsd_prep.sources.bucket import BucketSource
from nsd_prep.sources.client import Client
from nsd_prep.sources.opening import open_dataset
from nsd_prep.sources.sessions import SessionReader

VOXELS = np.arange(0, 2600, 13)
NAMES = [f"session{number:02d}.hdf5" for number in range(1, 14)]
BUDGET = 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_in_order(folder / NAMES[0], random_betas(1, GRID, N_TRIALS))
    for name in NAMES[1:]:
        (folder / name).symlink_to(folder / NAMES[0])
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


@pytest.fixture(autouse=True)
def short_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(retry, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(retry, "FIRST_CONTACT_SECONDS", BUDGET)
    monkeypatch.setattr(retry, "OUTAGE_SECONDS", BUDGET)


def read(client: Client, name: str) -> np.ndarray:
    identity = client.identity(name)
    return SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)


class TestAServerThatIsGone:
    def test_one_budget_for_all_sessions(self, server: RangeServer, client: Client) -> None:
        identities = [client.identity(name) for name in NAMES]
        server.down()
        began = time.monotonic()
        errors = []
        for identity in identities:
            with pytest.raises(RemoteFaultError, match="extracted sessions are kept") as raised:
                SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)
            errors.append(raised.value)
        assert time.monotonic() - began < 2 * BUDGET + 1
        assert all(isinstance(error, NotRequestedError) for error in errors[2:])
        assert "has not responded for" in str(errors[-1])

    def test_it_is_tried_for_the_whole_budget(self, server: RangeServer, client: Client) -> None:
        identity = client.identity(NAMES[0])
        server.down()
        began = time.monotonic()
        with pytest.raises(RemoteFaultError):
            SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)
        assert time.monotonic() - began > 0.9 * BUDGET

    def test_one_request_finds_out_that_it_is_back(
        self, server: RangeServer, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read(client, NAMES[0])
        server.down()
        for name in NAMES[:2]:
            with pytest.raises(RemoteFaultError):
                read(client, name)
        server.up()
        with pytest.raises(NotRequestedError):
            read(client, NAMES[0])
        monkeypatch.setattr(retry, "PROBE_SECONDS", 0.0)
        assert np.array_equal(read(client, NAMES[0]), whole_volume(folder / NAMES[0])[VOXELS])

    def test_it_is_said_once_for_all_that_follows(
        self, server: RangeServer, client: Client
    ) -> None:
        server.down()
        problems = Problems()
        for name in NAMES:
            problems.collect(client.identity, name)
        assert len(problems.found) <= 3
        assert "and the files after it were not requested" in problems.found[-1]

    def test_one_that_comes_back_in_time_costs_nothing_but_the_wait(
        self, server: RangeServer, folder: Path, tmp_path: Path
    ) -> None:
        """Copies of small files stand for a server only when it does not come back."""
        (folder / "small.txt").write_text("as it was")
        for content in ("as it was", "as it is"):
            source = BucketSource(server.url, tmp_path / "mirror")
            (folder / "small.txt").write_text(content)
            if content == "as it is":
                server.fail("reset", times=3)
            assert source.read(source.root / "small.txt") == content.encode()
            source.close()


class TestRequestsThatFail:
    @pytest.mark.parametrize("share", [0.1, 0.3])
    @pytest.mark.parametrize("kind", ["reset", "cut", "503"])
    def test_a_share_of_them_costs_a_pause_each(
        self, server: RangeServer, client: Client, folder: Path, share: float, kind: str
    ) -> None:
        expected = whole_volume(folder / NAMES[0])[VOXELS]
        server.fail(kind, times=10**6, share=share)
        began = time.monotonic()
        for name in NAMES[:4]:
            assert np.array_equal(read(client, name), expected)
        assert time.monotonic() - began < 5
        requests = sum(client.transfer.requests.values())
        failures = sum(client.transfer.failures.values())
        assert failures < 2 * share * requests + 5

    def test_one_file_that_always_fails_does_not_stop_the_others(
        self, server: RangeServer, client: Client, folder: Path
    ) -> None:
        expected = whole_volume(folder / NAMES[0])[VOXELS]
        server.fail("reset", times=10**6, where=NAMES[1])
        with pytest.raises(RemoteFaultError, match=r"session02\.hdf5 could not be read in"):
            read(client, NAMES[1])
        for name in NAMES[2:4]:
            assert np.array_equal(read(client, name), expected)

    def test_the_time_of_a_session_is_said(
        self, server: RangeServer, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nsd_prep.sources.sessions.SESSION_SECONDS", 0.1)
        monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.3)
        identity = client.identity(NAMES[0])
        server.fail("503", times=10**6, method="GET")
        with pytest.raises(RemoteFaultError, match=r"of 0 s that it may take \(503"):
            SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)


class Error(retry.BaseError):
    """An error of obstore's, whose text holds its source's."""


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ('kind: Connect ... "dns error"', RemoteFaultError, "the name host is not known"),
        ('kind: Connect ... "tcp connect error"', RemoteFaultError, "host accepts no connection"),
        (
            "kind: Connect ... invalid peer certificate: UnknownIssuer",
            InputFileError,
            r"no valid certificate for this name \(UnknownIssuer\)",
        ),
        ("source: TimedOut", RemoteFaultError, "no answer in time"),
        ("HTTP error: error sending request", RemoteFaultError, "closed without an answer"),
        ("x - status code: 407 Proxy Authentication Required: ", MissingFilesError, "407 Proxy"),
        ("x - status code: 429 Too Many Requests: ", RemoteFaultError, "429 Too Many"),
        ("x - status code: 503 Slow Down: ", RemoteFaultError, "503 Slow Down"),
        ("x - status code: 511 Network Authentication: ", MissingFilesError, "511 Network"),
    ],
)
def test_each_fault_has_its_sentence(
    text: str, kind: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(retry, "FIRST_CONTACT_SECONDS", 0.0)

    def request() -> None:
        raise Error(text)

    def attempt() -> None:
        url = "https://host/file"
        retry.attempt(url, request, deadline=retry.Deadline(1), budget=retry.Budget())

    with pytest.raises(kind, match=says):
        attempt()
    if "tcp connect" in text:
        monkeypatch.setenv("https_proxy", "http://user:secret@proxy:3128")
        with pytest.raises(kind, match="the proxy proxy:3128 cannot be reached") as raised:
            attempt()
        assert "secret" not in str(raised.value)
        monkeypatch.setenv("no_proxy", "host")
        with pytest.raises(kind, match="host accepts no connection"):
            attempt()


def test_a_login_page_in_place_of_a_file_is_named(
    server: RangeServer, folder: Path, tmp_path: Path
) -> None:
    (folder / "table.csv").write_text("\n<!DOCTYPE html><title>Log in</title>")
    source = BucketSource(server.url, tmp_path)
    with pytest.raises(InputFileError, match=rf"{server.url}/table.csv returns a web page"):
        source.read(tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()
    source.close()


def test_a_description_that_is_none_is_named_by_its_address(
    server: RangeServer, folder: Path, tmp_path: Path
) -> None:
    (folder / "dataset.json").write_text("Please log in.")
    with pytest.raises(InputFileError, match=rf"^{server.url}/dataset.json does not describe"):
        open_dataset(server.url, mirror_folder=tmp_path)


def test_a_file_that_changes_is_not_tried_again(server: RangeServer, client: Client) -> None:
    identity = client.identity(NAMES[0])
    server.change_etag(NAMES[0])
    with pytest.raises(ChangedFileError):
        SessionReader(client).read_voxels(identity, VOXELS, GRID, N_TRIALS)
    assert not client.transfer.failures
