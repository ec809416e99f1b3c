"""Sources: a bucket's files are read as a folder's are, and copies of small ones are kept."""

import json
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from earlier_versions import stating_sha256
from range_server import RangeServer
from remote_files import random_betas, write_in_order
from small_nsd import GRIDS, TRIALS_PER_SESSION, SmallNSD

from nsd_prep.core.errors import (
    ChangedFileError,
    InputFileError,
    MissingFilesError,
    NSDPrepError,
    OutputError,
    ParameterError,
    RemoteFaultError,
)
from nsd_prep.core.records import FileIdentity
from nsd_prep.dataset import betas
from nsd_prep.dataset.source import naming_addresses
from nsd_prep.notebook import NSD, open_nsd
from nsd_prep.sources import retry as attempts
from nsd_prep.sources.bucket import BucketSource
from nsd_prep.sources.folder import FolderSource
from nsd_prep.sources.opening import open_source

GRID = GRIDS[1][::-1]
VOXELS = np.arange(3, 90, 2)
LABELS = "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz"
LEFT_LABELS = "nsddata/ppdata/subj01/func1pt8mm/roi/lh.streams.nii.gz"
TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(attempts, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(attempts, "FIRST_CONTACT_SECONDS", 0.3)
    monkeypatch.setattr(attempts, "OUTAGE_SECONDS", 0.3)


@pytest.fixture
def server(damageable: SmallNSD) -> Iterator[RangeServer]:
    with RangeServer(damageable.root) as server:
        yield server


def session(source: BucketSource, number: int = 1) -> Path:
    folder = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    return source.root / folder / f"betas_session{number:02d}.hdf5"


@pytest.fixture
def opened(server: RangeServer, tmp_path: Path) -> Iterator[Callable[[], BucketSource]]:
    """Return a function that opens the source anew, as another run would."""
    sources = []

    def open_() -> BucketSource:
        sources.append(BucketSource(server.url, tmp_path / "mirror"))
        return sources[-1]

    yield open_
    for source in sources:
        source.close()


class TestSmallFiles:
    def test_they_are_copied_whole_in_the_official_layout(
        self, opened: Callable[[], BucketSource], damageable: SmallNSD
    ) -> None:
        source = opened()
        for name in (LABELS, TABLE):
            content = (damageable.root / name).read_bytes()
            assert source.exists(source.root / name)
            assert source.read(source.root / name) == content
            assert (source.root / name).read_bytes() == content

    def test_a_second_run_makes_one_request_a_file(
        self, opened: Callable[[], BucketSource], server: RangeServer
    ) -> None:
        source = opened()
        first = source.read(source.root / LABELS)
        server.reset_counters()
        source = opened()
        assert source.exists(source.root / LABELS)
        assert source.read(source.root / LABELS) == first
        assert source.read(source.root / LABELS) == first
        assert server.counters["requests"] == 1
        assert server.counters["bytes"] == 0

    def test_a_changed_file_is_fetched_again(
        self, opened: Callable[[], BucketSource], damageable: SmallNSD
    ) -> None:
        source = opened()
        source.read(source.root / TABLE)
        (damageable.root / TABLE).write_text("another")
        source = opened()
        assert source.read(source.root / TABLE) == b"another"

    def test_an_altered_copy_is_fetched_again(
        self, opened: Callable[[], BucketSource], damageable: SmallNSD
    ) -> None:
        source = opened()
        source.read(source.root / TABLE)
        (source.root / TABLE).write_text("altered")
        assert opened().read(source.root / TABLE) == (damageable.root / TABLE).read_bytes()

    def test_a_copy_of_version_0_4_is_used_where_it_was_not_altered(
        self, opened: Callable[[], BucketSource], server: RangeServer
    ) -> None:
        source = opened()
        content = source.read(source.root / TABLE)
        record = source.root / ".remote" / f"{TABLE}.json"
        fields = stating_sha256(json.loads(record.read_text()), source.root / TABLE)
        record.write_text(json.dumps(fields))
        sent = server.counters["bytes"]
        assert opened().read(source.root / TABLE) == content
        assert server.counters["bytes"] == sent
        (source.root / TABLE).write_text("altered")
        assert opened().read(source.root / TABLE) == content
        assert server.counters["bytes"] > sent

    def test_without_a_network_the_copies_are_used_and_that_is_said(
        self,
        opened: Callable[[], BucketSource],
        server: RangeServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        source = opened()
        content = source.read(source.root / LABELS)
        server.down()
        source = opened()
        with caplog.at_level(logging.WARNING):
            assert source.exists(source.root / LABELS)
            assert source.read(source.root / LABELS) == content
        assert caplog.text.count("the copies in") == 1
        with pytest.raises(RemoteFaultError):
            source.read(source.root / TABLE)
        server.up()

    def test_files_that_are_not_there(self, opened: Callable[[], BucketSource]) -> None:
        source = opened()
        path = source.root / "nsddata/nothing.csv"
        assert not source.exists(path)
        with pytest.raises(MissingFilesError, match=f"{source.where(path)} is missing"):
            source.read(path)
        with pytest.raises(MissingFilesError, match="is missing"):
            source.identity(path)

    def test_files_fetched_together(
        self, opened: Callable[[], BucketSource], server: RangeServer
    ) -> None:
        source = opened()
        source.fetch_files([source.root / name for name in (LABELS, TABLE, "nothing")])
        requests = server.counters["requests"]
        source.read(source.root / LABELS)
        source.read(source.root / TABLE)
        assert not source.exists(source.root / "nothing")
        assert server.counters["requests"] == requests

    def test_a_cut_answer_leaves_no_copy(
        self, opened: Callable[[], BucketSource], server: RangeServer
    ) -> None:
        server.fail("cut", times=10_000, method="GET")
        source = opened()
        with pytest.raises(RemoteFaultError):
            source.read(source.root / TABLE)
        assert not list(source.root.rglob("*.csv"))


class TestSessions:
    def test_the_same_values_as_from_the_folder(
        self, opened: Callable[[], BucketSource], damageable: SmallNSD
    ) -> None:
        source, folder = opened(), FolderSource(damageable.root)
        local = damageable.betas_path(1, 1)
        values = source.read_voxels(session(source), VOXELS, GRID, TRIALS_PER_SESSION)
        expected = folder.read_voxels(local, VOXELS, GRID, TRIALS_PER_SESSION)
        assert np.array_equal(values, expected)
        assert isinstance(folder.identity(local), FileIdentity)

    def test_nothing_of_a_session_lies_in_the_mirror(
        self, opened: Callable[[], BucketSource]
    ) -> None:
        source = opened()
        source.read_voxels(session(source), VOXELS, GRID, TRIALS_PER_SESSION)
        assert not list(source.root.rglob("*.hdf5"))

    def test_a_second_run_looks_up_no_session(
        self, opened: Callable[[], BucketSource], server: RangeServer
    ) -> None:
        source = opened()
        paths = [session(source, number) for number in (1, 2, 3, 4)]
        first = source.identities(paths)
        server.reset_counters()
        source = opened()
        assert source.identities(paths) == first
        assert source.identity(paths[0]) == first[paths[0]]
        assert source.exists(paths[0])
        assert server.counters["requests"] == 0

    def test_missing_sessions_are_said_together(
        self, opened: Callable[[], BucketSource], damageable: SmallNSD, server: RangeServer
    ) -> None:
        damageable.betas_path(1, 2).unlink()
        server.fail("403", times=1, where="session04")
        source = opened()
        with pytest.raises(MissingFilesError, match="2 files cannot be read") as raised:
            source.identities([session(source, number) for number in (1, 2, 3, 4)])
        assert "session02.hdf5 is missing (404" in str(raised.value)
        assert "session04.hdf5 cannot be read (403" in str(raised.value)

    def test_a_file_that_changed_since_the_last_run(
        self,
        opened: Callable[[], BucketSource],
        damageable: SmallNSD,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        source = opened()
        before = source.identity(session(source))
        damageable.betas_path(1, 1).write_bytes(damageable.betas_path(1, 2).read_bytes())
        source = opened()
        values = source.read_voxels(session(source), VOXELS, GRID, TRIALS_PER_SESSION)
        expected = betas.read_voxels(damageable.betas_path(1, 2), VOXELS, GRID, TRIALS_PER_SESSION)
        assert np.array_equal(values, expected)
        assert source.identity(session(source)) != before
        assert "reading it again from the beginning" in caplog.text

    def test_a_file_that_changes_all_the_time(
        self, opened: Callable[[], BucketSource], server: RangeServer
    ) -> None:
        source = opened()
        for after in range(100):
            server.change_etag("session01", after=after)
        with pytest.raises(ChangedFileError):
            source.read_voxels(session(source), VOXELS, GRID, TRIALS_PER_SESSION)

    def test_the_form_of_a_session_is_checked(self, opened: Callable[[], BucketSource]) -> None:
        source = opened()
        source.check_session(session(source), GRID, TRIALS_PER_SESSION)
        with pytest.raises(InputFileError, match="betas of the shape"):
            source.check_session(session(source), GRID, TRIALS_PER_SESSION + 1)

    def test_a_session_of_the_predicted_size_is_not_looked_into(
        self, opened: Callable[[], BucketSource], server: RangeServer, damageable: SmallNSD
    ) -> None:
        write_in_order(damageable.betas_path(1, 1), random_betas(0, GRID, 750))
        source = opened()
        source.check_session(session(source), GRID, 750)
        assert server.counters["requests"] == 1

    @pytest.mark.parametrize("etags", ["weak", "none"])
    def test_servers_without_a_strong_etag(
        self,
        opened: Callable[[], BucketSource],
        server: RangeServer,
        damageable: SmallNSD,
        etags: str,
    ) -> None:
        server.etags = etags
        source = opened()
        path, local = session(source), damageable.betas_path(1, 1)
        values = source.read_voxels(path, VOXELS, GRID, TRIALS_PER_SESSION)
        assert np.array_equal(values, betas.read_voxels(local, VOXELS, GRID, TRIALS_PER_SESSION))
        os.utime(local, (0, 1_000_000_000))
        with pytest.raises(ChangedFileError):
            source._reader.read_voxels(source.identity(path), VOXELS, GRID, TRIALS_PER_SESSION)

    def test_prefetched(
        self, opened: Callable[[], BucketSource], server: RangeServer, damageable: SmallNSD
    ) -> None:
        write_in_order(damageable.betas_path(1, 1), random_betas(0, GRID, 750))
        source = opened()
        assert source.prefetch(session(source), VOXELS, GRID, 750)
        values = source.read_voxels(session(source), VOXELS, GRID, 750)
        assert np.array_equal(
            values, betas.read_voxels(damageable.betas_path(1, 1), VOXELS, GRID, 750)
        )
        server.down()
        assert not source.prefetch(source.root / "nowhere.hdf5", VOXELS, GRID, 750)
        server.up()

    def test_a_pickled_source(self, opened: Callable[[], BucketSource]) -> None:
        source = opened()
        copy = pickle.loads(pickle.dumps(source))
        for either in (source, copy):
            assert either.read_voxels(session(source), VOXELS, GRID, TRIALS_PER_SESSION).any()
        copy.close()


class TestErrors:
    @pytest.mark.parametrize(
        ("damaged", "ask", "named"),
        [
            (DESIGN, lambda nsd: nsd.trials(1), DESIGN),
            (DESIGN, lambda nsd: nsd.images(), DESIGN),
            (TABLE, lambda nsd: nsd.trials(1), TABLE),
            (TABLE, lambda nsd: nsd.images(), TABLE),
            (LABELS, lambda nsd: nsd.voxels(1, "IT"), LABELS),
            (LEFT_LABELS, lambda nsd: nsd.atlases(), LEFT_LABELS),
            ("", lambda nsd: nsd.experiment("imagery", 1, "V1"), "betas_nsdimagery.hdf5"),
        ],
    )
    def test_files_are_named_by_their_addresses(
        self,
        damageable: SmallNSD,
        server: RangeServer,
        tmp_path: Path,
        damaged: str,
        ask: Callable[[NSD], object],
        named: str,
    ) -> None:
        if damaged:
            (damageable.root / damaged).write_bytes(b"no such file")
        nsd = open_nsd(server.url, cache_dir=tmp_path / "cache")
        with pytest.raises(NSDPrepError) as raised:
            ask(nsd)
        nsd.close()
        assert f"{server.url}/" in str(raised.value)
        assert named in str(raised.value)
        assert str(tmp_path) not in str(raised.value)
        assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)

    def test_so_is_the_root(
        self, damageable: SmallNSD, server: RangeServer, tmp_path: Path
    ) -> None:
        with pytest.raises(ParameterError, match=f"not in the dataset .* at {server.url}: give"):
            open_nsd(server.url, subjects=[7], cache_dir=tmp_path)
        for path in damageable.root.rglob("roi/*.nii.gz"):
            path.unlink()
        nsd = open_nsd(server.url, cache_dir=tmp_path)
        with pytest.raises(MissingFilesError, match=f"The dataset {server.url} has no region lab"):
            nsd.atlases()
        nsd.close()

    def test_a_copy_that_cannot_be_written_is_named_itself(self, tmp_path: Path) -> None:
        source = BucketSource("http://localhost:1/nsd", tmp_path / "mirror")
        with pytest.raises(OutputError, match=str(tmp_path)), naming_addresses(source):
            raise OutputError(f"{tmp_path}/mirror/nsddata/x cannot be written: the disk is full.")


class TestFolder:
    def test_a_root_is_a_folder_or_an_address(self, official: SmallNSD, tmp_path: Path) -> None:
        assert isinstance(open_source(official.root, tmp_path), FolderSource)
        assert open_source(str(official.root), tmp_path).root == official.root
        source = open_source("http://localhost:1/nsd/", tmp_path)
        assert isinstance(source, BucketSource)
        assert source.where(tmp_path / "nsddata" / "x") == "http://localhost:1/nsd/nsddata/x"
        with pytest.raises(ParameterError, match="not an address"):
            open_source("ftp://host/nsd", tmp_path)

    def test_missing_files_are_listed(self, official: SmallNSD) -> None:
        source = FolderSource(official.root)
        gone = official.root / "gone.hdf5"
        with pytest.raises(MissingFilesError, match="1 file is missing and must be downloaded"):
            source.identities([official.betas_path(1, 1), gone])
        assert not source.exists(gone)
        assert source.where(gone) == str(gone)
        assert source.read(official.table_path) == official.table_path.read_bytes()
