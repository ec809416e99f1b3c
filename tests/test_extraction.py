"""The store of extracted responses: nothing is read twice, nothing false is believed."""

import ast
import errno
import gc
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import reference
from earlier_versions import stating_sha256
from library_stages import request_for, trials_of
from small_nsd import SmallNSD, write_betas

from nsd_prep.core import records
from nsd_prep.core.digests import (
    digest_of_bytes,
    sampled_sha256,
    sha256_of_array,
    sha256_of_json,
)
from nsd_prep.core.errors import InputFileError, OutputError
from nsd_prep.core.records import FileIdentity, FileSample
from nsd_prep.dataset import betas
from nsd_prep.dataset.beta_files import BetaFile
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.regions import BUILT_IN_REGIONS, VoxelSelection
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.extraction.request import KEPT, SessionRequest
from nsd_prep.extraction.sessions import extract_session, voxels_to_read
from nsd_prep.extraction.store import Store
from nsd_prep.sources.folder import FolderSource
from nsd_prep.sources.opening import open_dataset

REGIONS = {name: BUILT_IN_REGIONS[name] for name in ("V1", "V4", "IT")}
LABELS = {"V1": ("prf-visualrois", (1, 2)), "V4": ("prf-visualrois", (7,)), "IT": ("streams", (5,))}


@pytest.fixture
def dataset(official: SmallNSD) -> Dataset:
    return open_dataset(official.root)


@pytest.fixture
def selection(dataset: Dataset) -> VoxelSelection:
    return select_voxels(dataset, 1, REGIONS)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def voxels_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the voxels of each reading of a beta file."""
    counted: list[int] = []

    read_voxels = betas.read_voxels

    def counting(path: Path, voxels: np.ndarray, *rest: Any) -> np.ndarray:
        counted.extend(voxels.tolist())
        return read_voxels(path, voxels, *rest)

    monkeypatch.setattr(betas, "read_voxels", counting)
    return counted


@pytest.fixture
def request_of(
    dataset: Dataset, selection: VoxelSelection, store: Path
) -> Callable[..., SessionRequest]:
    """Return a function that makes a request for some regions of session 2 of subject 1."""
    return lambda *regions: request_for(dataset, 1, 2, selection, store, regions or None)


def expected(small: SmallNSD, region: str, session: int = 2) -> np.ndarray:
    """Return the reference's z-scores of all shared-image trials (n_trials, n_voxels)."""
    volume, labels = LABELS[region]
    mask = reference.region_mask(small.roi_path(1, volume), labels)
    rows = reference.shared_trials(*reference.design(small.design_path), 1, 4, 24)
    trials = [row["trial_in_session"] for row in rows if row["session"] == session]
    return reference.session_zscores(small.betas_path(1, session), mask)[trials]


class TestResponses:
    def test_bits_are_the_references(self, official: SmallNSD, request_of) -> None:
        request = request_of()
        record = extract_session(request)
        assert (record.subject, record.session) == (1, 2)
        assert list(record.parts) == ["V1", "V4", "IT"]
        for region, part in record.parts.items():
            responses = request.store.read(part)
            assert responses.dtype == np.float32
            assert responses.shape == part.shape
            assert np.array_equal(responses, expected(official, region)), region

    def test_every_shared_trial_is_kept_whoever_is_chosen(
        self, dataset: Dataset, request_of
    ) -> None:
        trials = trials_of(dataset, 1)
        n_trials = int((trials["session"] == 2).sum())
        assert n_trials > 0
        assert extract_session(request_of()).parts["V1"].shape[0] == n_trials

    @pytest.mark.parametrize("session", [1, 2, 3])
    def test_voxels_without_data_are_counted(
        self, official: SmallNSD, dataset: Dataset, selection: VoxelSelection, store, session: int
    ) -> None:
        n_x, n_y, _ = 5, 8, 6
        special = {official.dead[1]}
        special |= {official.constant[1]} if session == 1 else set()
        special |= {official.invalid[1]} if session == 2 else set()
        request = request_for(dataset, 1, session, selection, store)
        part = extract_session(request).parts["V1"]
        constant = list(part.constant_voxels)
        found = selection.regions["V1"][constant].tolist()
        assert {(v % n_x, v // n_x % n_y, v // n_x // n_y) for v in found} == special
        assert (request.store.read(part)[:, constant] == 0).all()

    def test_a_voxel_of_two_regions_is_read_once(
        self, selection: VoxelSelection, request_of, voxels_read: list[int]
    ) -> None:
        extract_session(request_of())
        union = set().union(*(voxels.tolist() for voxels in selection.regions.values()))
        assert sum(len(voxels) for voxels in selection.regions.values()) > len(union)
        assert voxels_read == sorted(union)

    def test_a_session_without_shared_trials_gives_no_rows(self, request_of) -> None:
        request = replace(request_of("V1"), trials=())
        record = extract_session(request)
        assert request.store.read(record.parts["V1"]).shape[0] == 0


class TestReuse:
    def test_the_same_again_reads_nothing(self, request_of, voxels_read: list[int]) -> None:
        first = extract_session(request_of())
        voxels_read.clear()
        second = extract_session(request_of())
        assert voxels_read == []
        assert second.parts == first.parts

    def test_fewer_regions_read_nothing(self, request_of, voxels_read: list[int]) -> None:
        first = extract_session(request_of())
        voxels_read.clear()
        second = extract_session(request_of("IT"))
        assert voxels_read == []
        assert second.parts == {"IT": first.parts["IT"]}

    def test_a_new_region_reads_only_its_own_voxels(
        self, official: SmallNSD, selection, request_of, voxels_read: list[int]
    ) -> None:
        extract_session(request_of("V1"))
        voxels_read.clear()
        request = request_of("IT", "V1")
        record = extract_session(request)
        assert voxels_read == selection.regions["IT"].tolist()
        assert list(record.parts) == ["IT", "V1"]
        for region in ("V1", "IT"):
            found = request.store.read(record.parts[region])
            assert np.array_equal(found, expected(official, region))

    def test_another_session_is_another_part(
        self, dataset: Dataset, selection: VoxelSelection, store: Path, request_of, voxels_read
    ) -> None:
        extract_session(request_of("V1"))
        voxels_read.clear()
        extract_session(request_for(dataset, 1, 3, selection, store, ["V1"]))
        assert voxels_read == selection.regions["V1"].tolist()

    def test_a_store_that_was_moved_is_used(
        self, request_of, tmp_path: Path, voxels_read: list[int]
    ) -> None:
        request = request_of()
        before = {
            region: request.store.read(part)
            for region, part in extract_session(request).parts.items()
        }
        voxels_read.clear()
        shutil.move(request.store.path, tmp_path / "elsewhere")
        moved = replace(request, store=Store(path=tmp_path / "elsewhere"))
        record = extract_session(moved)
        assert voxels_read == []
        for region, part in record.parts.items():
            assert np.array_equal(moved.store.read(part), before[region])


class TestReading:
    def test_garbage_collection_that_parses_does_not_break_a_read(self, request_of) -> None:
        """CPython gh-106905: a parse inside another one makes the outer one fail."""
        request = request_of()
        part = extract_session(request).parts["V1"]
        expected = np.load(request.store.path / part.file)

        def parse(_phase: str, _info: dict[str, int]) -> None:
            ast.parse("{'shape': (1, 2)}")

        thresholds = gc.get_threshold()
        gc.callbacks.append(parse)
        gc.set_threshold(1)
        try:
            read = [request.store.read(part) for _ in range(20)]
        finally:
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(parse)
        for values in read:
            np.testing.assert_array_equal(values, expected)


class TestKeys:
    def test_each_thing_that_determines_the_responses_changes_the_key(self, request_of) -> None:
        request = request_of("V1")
        (identity,) = request.betas
        changes: list[dict[str, object]] = [
            {"trials": request.trials[:-1]},
            {"n_trials": 23},
            {"space": replace(request.space, grid=request.space.grid[::-1])},
            {"regions": {"V1": request.regions["V1"][1:]}},
            {"betas": (identity.model_copy(update={"bytes": identity.bytes + 1}),)},
            {"betas": (identity.model_copy(update={"modified": identity.modified + 1}),)},
            {"betas": (identity.model_copy(update={"path": "/elsewhere"}),)},
        ]
        changed = [replace(request, **change) for change in changes]
        keys = {one.part_keys["shared", "V1"] for one in (request, *changed)}
        assert len(keys) == len(changes) + 1
        changed += [replace(request, subject=2), replace(request, session=3)]
        assert len({one.digest for one in (request, *changed)}) == len(changed) + 1

    def test_a_store_that_version_0_4_filled_is_used(self) -> None:
        """Keys as 0.4.0 computed them: another value would extract every session again."""
        path = "/data/nsd/betas_session02.hdf5"
        request = SessionRequest(
            subject=1,
            session=2,
            source=FolderSource(Path("/data/nsd")),
            files=(BetaFile(Path(path), (4, 5, 6), 0, 120),),
            betas=(FileIdentity(path=path, bytes=123_456, modified=1_700_000_000_000_000_000),),
            n_trials=24,
            trials=(0, 5, 7),
            space=VolumeSpace((4, 5, 6), np.diag([1.8, 1.8, 1.8, 1])),
            regions={"V1": np.array([3, 17, 59])},
            store=Store(path=Path("store")),
            kinds=("shared", "all"),
            keep=np.array([3, 4, 17, 59, 100]),
        )
        assert request.part_keys == {
            ("shared", "V1"): "50c7d6db7aa6af66d2f82af08c7cdb24f1687f29ab3365bee235204647546cd9",
            ("all", "V1"): "b8056c6e7c127a09033bafcc6bb716790df50da74cd6c7b8ede0f0187e668960",
            ("all", KEPT): "5e00dd6b3fc09c2e97ead1f9b7743d9ee2220b2b618f9c5f27886fa4b7774a36",
        }
        assert request.digest == "9eeb5df127f661a39f6165a937536617bf9ab68683560828d308c4ed583d897c"
        name = "subj01-session02/50c7d6db7aa6af66d2f82af0"
        assert request.part_name("shared", "V1") == name

    def test_where_the_store_lies_is_no_part_of_the_key(self, request_of) -> None:
        request = request_of("V1")
        moved = replace(request, store=Store(path=Path("/elsewhere")))
        assert moved.digest == request.digest

    def test_other_regions_change_the_requests_key_and_not_the_parts(self, request_of) -> None:
        one, two = request_of("V1"), request_of("V1", "IT")
        assert one.digest != two.digest
        assert one.part_keys["shared", "V1"] == two.part_keys["shared", "V1"]

    def test_the_name_of_a_region_is_no_part_of_a_parts_key(self, request_of) -> None:
        request = request_of("IT")
        renamed = replace(request, regions={"ventral": request.regions["IT"]})
        assert renamed.part_keys["shared", "ventral"] == request.part_keys["shared", "IT"]

    def test_a_file_that_changed_is_extracted_again(
        self, damageable: SmallNSD, store: Path, voxels_read: list[int]
    ) -> None:
        dataset = open_dataset(damageable.root)
        selection = select_voxels(dataset, 1, REGIONS)
        request = request_for(dataset, 1, 2, selection, store, ["V1"])
        before = request.store.read(extract_session(request).parts["V1"])
        path = damageable.betas_path(1, 2)
        write_betas(path, -damageable.betas[1, 2] // 2)
        os.utime(path, ns=(1, 1))
        voxels_read.clear()
        after = extract_session(request_for(dataset, 1, 2, selection, store, ["V1"]))
        assert voxels_read == selection.regions["V1"].tolist()
        assert not np.array_equal(request.store.read(after.parts["V1"]), before)


class TestDamage:
    """Whatever happens to the store, the next run gives the right responses."""

    def recovers(self, small: SmallNSD, request: SessionRequest, voxels_read: list[int]) -> None:
        record = extract_session(request)
        assert voxels_read == request.regions["V4"].tolist()
        assert np.array_equal(request.store.read(record.parts["V4"]), expected(small, "V4"))
        voxels_read.clear()
        extract_session(request)
        assert voxels_read == []

    @pytest.fixture
    def stored(self, request_of, voxels_read: list[int]) -> tuple[SessionRequest, Path, list[int]]:
        request = request_of("V4")
        record = extract_session(request)
        voxels_read.clear()
        return request, request.store.path / record.parts["V4"].file, voxels_read

    @pytest.mark.parametrize("at", [5, 100, -1])
    def test_an_altered_byte(self, official: SmallNSD, stored, at: int) -> None:
        request, path, voxels_read = stored
        part = request.find("shared", "V4")
        assert part is not None
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        assert request.find("shared", "V4") is None
        with pytest.raises(InputFileError, match="are missing or have changed"):
            request.store.read(part)
        self.recovers(official, request, voxels_read)

    @pytest.mark.parametrize("kept", [0, 50, 200])
    def test_a_truncated_file(self, official: SmallNSD, stored, kept: int) -> None:
        request, path, voxels_read = stored
        path.write_bytes(path.read_bytes()[:kept])
        self.recovers(official, request, voxels_read)

    def test_a_missing_file(self, official: SmallNSD, stored) -> None:
        request, path, voxels_read = stored
        path.unlink()
        self.recovers(official, request, voxels_read)

    @pytest.mark.parametrize("content", [None, "", "{", "{}", '{"key": "x"}'])
    def test_a_damaged_record(self, official: SmallNSD, stored, content: str | None) -> None:
        request, path, voxels_read = stored
        record = path.with_suffix(".json")
        record.unlink()
        if content is not None:
            record.write_text(content)
        assert request.find("shared", "V4") is None
        self.recovers(official, request, voxels_read)

    def test_a_record_of_something_else(self, official: SmallNSD, stored) -> None:
        request, path, voxels_read = stored
        record = path.with_suffix(".json")
        record.write_text(record.read_text().replace(request.part_keys["shared", "V4"], "0" * 64))
        assert request.find("shared", "V4") is None
        self.recovers(official, request, voxels_read)

    def test_nothing_stored_can_run_code(self, stored, snapshot) -> None:
        request, _, _ = stored
        endings = {Path(name).suffix for name in snapshot(request.store.path)}
        assert endings <= {"", ".npy", ".npz", ".json"}


class TestInterruptedWrites:
    def final_names(self, request: SessionRequest) -> set[str]:
        folder = request.store.path / "subj01-session02"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
    def test_a_write_that_stops_half_way_leaves_nothing(
        self,
        official: SmallNSD,
        request_of,
        monkeypatch: pytest.MonkeyPatch,
        error: BaseException,
    ) -> None:
        request = request_of("V1")
        original = Path.write_bytes

        def half(path: Path, content: bytes) -> int:
            original(path, bytes(content)[:100])
            raise error

        with monkeypatch.context() as context:
            context.setattr(Path, "write_bytes", half)
            with pytest.raises((OutputError, KeyboardInterrupt)) as raised:
                extract_session(request)
        if isinstance(error, OSError):
            assert "the disk is full; free some space" in str(raised.value)
            assert str(request.store.path) in str(raised.value)
        assert self.final_names(request) == set()
        record = extract_session(request)
        assert np.array_equal(request.store.read(record.parts["V1"]), expected(official, "V1"))

    def test_what_was_stored_before_the_disk_was_full_is_kept(
        self, request_of, monkeypatch: pytest.MonkeyPatch, voxels_read: list[int], selection
    ) -> None:
        request = request_of("V4", "IT")
        original = Path.write_bytes
        calls = []

        def full_at_the_second(path: Path, content: bytes) -> int:
            calls.append(path)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(path, content)

        with monkeypatch.context() as context:
            context.setattr(Path, "write_bytes", full_at_the_second)
            with pytest.raises(OutputError, match="the disk is full"):
                extract_session(request)
        voxels_read.clear()
        extract_session(request)
        assert voxels_read == selection.regions["IT"].tolist()

    def test_a_disk_that_gives_back_something_else(
        self, request_of, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = request_of("V1")
        original = Path.write_bytes
        monkeypatch.setattr(
            Path, "write_bytes", lambda path, content: original(path, bytes(content)[:-4] + b"abcd")
        )
        with pytest.raises(OutputError, match="reading it back gives different bytes"):
            extract_session(request)
        assert self.final_names(request) == set()

    def test_a_store_that_cannot_be_a_folder(self, request_of, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        request = replace(request_of("V1"), store=Store(path=tmp_path / "file"))
        with pytest.raises(OutputError) as raised:
            extract_session(request)
        assert "a part of its path is a file; choose another folder" in str(raised.value)

    def test_a_bad_session_file_stores_nothing(self, damageable: SmallNSD, store: Path) -> None:
        dataset = open_dataset(damageable.root)
        selection = select_voxels(dataset, 1, REGIONS)
        path = damageable.betas_path(1, 2)
        path.write_bytes(path.read_bytes()[:1000])
        request = request_for(dataset, 1, 2, selection, store)
        with pytest.raises(InputFileError) as raised:
            extract_session(request)
        assert str(path) in str(raised.value)
        assert self.final_names(request) == set()


class TestKeptVoxels:
    """All trials of some voxels are kept: regions inside them are not read again."""

    @pytest.fixture
    def kept(self, request_of, selection: VoxelSelection) -> SessionRequest:
        """Return a request for V4 that keeps V4 and IT."""
        keep = np.union1d(selection.regions["V4"], selection.regions["IT"])
        return replace(request_of("V4"), keep=keep)

    def test_a_region_inside_them_is_not_read(
        self, official: SmallNSD, request_of, kept: SessionRequest, voxels_read: list[int]
    ) -> None:
        record = extract_session(kept)
        assert voxels_read == kept.keep.tolist()
        voxels_read.clear()
        request = request_of("IT")
        assert len(voxels_to_read(request)) == 0
        found = extract_session(request).parts["IT"]
        assert voxels_read == []
        assert np.array_equal(request.store.read(found), expected(official, "IT"))
        assert set(record.parts) == {"V4"}
        assert record.all_trials == {}
        assert record.kept.file in record.files

    def test_what_reaches_beyond_them_is_read(
        self, selection: VoxelSelection, request_of, kept: SessionRequest, voxels_read: list[int]
    ) -> None:
        extract_session(kept)
        voxels_read.clear()
        extract_session(request_of("IT", "V1"))
        assert voxels_read == selection.regions["V1"].tolist()
        assert not np.isin(selection.regions["V1"], kept.keep).all()

    def test_they_are_read_when_only_they_are_missing(
        self, request_of, kept: SessionRequest, voxels_read: list[int]
    ) -> None:
        before = extract_session(request_of("V4"))
        voxels_read.clear()
        assert voxels_to_read(kept).tolist() == kept.keep.tolist()
        after = extract_session(kept)
        assert voxels_read == kept.keep.tolist()
        assert after.parts == before.parts

    def test_of_another_session_or_another_file_they_are_not_taken(
        self, request_of, kept: SessionRequest
    ) -> None:
        extract_session(kept)
        request = request_of("IT")
        (betas,) = request.betas
        other = betas.model_copy(update={"bytes": betas.bytes + 1})
        for changed in (replace(request, session=3), replace(request, betas=(other,))):
            assert voxels_to_read(changed).tolist() == request.regions["IT"].tolist()

    def test_refresh_does_not_take_them(self, request_of, kept: SessionRequest) -> None:
        extract_session(kept)
        request = request_of("IT")
        request.invalidate()
        assert voxels_to_read(request).tolist() == request.regions["IT"].tolist()

    @pytest.mark.parametrize("what", ["responses", "voxels"])
    @pytest.mark.parametrize("damage", [b"", b"\0", b"12345678", None])
    def test_damaged_ones_are_not_believed(
        self,
        official: SmallNSD,
        request_of,
        kept: SessionRequest,
        what: str,
        damage: bytes | None,
    ) -> None:
        record = extract_session(kept)
        (voxels,) = (kept.store.path / "voxels" / "subj01").iterdir()
        path = voxels if what == "voxels" else kept.store.path / record.kept.file
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        request = request_of("IT")
        found = extract_session(request).parts["IT"]
        assert np.array_equal(request.store.read(found), expected(official, "IT"))


def replace_as_download(path: Path, damage: Callable[[bytearray], None]) -> None:
    """Replace a file by another of the same size and modification time, as `aws s3 cp` does."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    damage(content)
    other = path.with_name("download")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert FileIdentity.from_path(path) == FileIdentity(
        path=str(path.resolve()), bytes=status.st_size, modified=status.st_mtime_ns
    )


def empty_end(content: bytearray) -> None:
    """Damage a file as a download does that stops and leaves the size."""
    content[-4000:] = bytes(4000)


class TestReplacedSessions:
    """Size and modification time of a file that was downloaded again are the same."""

    @pytest.fixture
    def requested(self, damageable: SmallNSD, store: Path) -> Callable[[], SessionRequest]:
        dataset = open_dataset(damageable.root)
        selection = select_voxels(dataset, 1, REGIONS)
        return lambda: request_for(dataset, 1, 2, selection, store, ["V1"])

    def test_a_damaged_session_that_was_downloaded_again(
        self, damageable: SmallNSD, requested: Callable[[], SessionRequest], voxels_read: list[int]
    ) -> None:
        path = damageable.betas_path(1, 2)
        whole = path.read_bytes()
        write_betas(path, damageable.betas[1, 2][::-1])
        damaged = extract_session(requested())
        before = requested().digest

        def repair(content: bytearray) -> None:
            content[:] = whole

        assert path.stat().st_size == len(whole)
        replace_as_download(path, repair)
        assert requested().digest != before
        voxels_read.clear()
        request = requested()
        repaired = extract_session(request)
        assert voxels_read == request.regions["V1"].tolist()
        found = request.store.read(repaired.parts["V1"])
        assert np.array_equal(found, expected(damageable, "V1"))
        assert repaired.parts["V1"].digest != damaged.parts["V1"].digest

    @pytest.mark.parametrize("kept", [True, False])
    def test_a_part_that_holds_more_voxels(
        self,
        damageable: SmallNSD,
        requested: Callable[[], SessionRequest],
        kept: bool,
    ) -> None:
        request = requested()
        keep = request.regions["V1"] if kept else None
        extract_session(replace(request, kinds=("all",), keep=keep))
        path = damageable.betas_path(1, 2)
        replace_as_download(path, empty_end)
        assert voxels_to_read(requested()).tolist() == request.regions["V1"].tolist()

    def test_a_part_of_version_0_4_is_used_and_stays_as_it_is(
        self,
        damageable: SmallNSD,
        requested: Callable[[], SessionRequest],
        voxels_read: list[int],
    ) -> None:
        request = requested()
        array = request.store.path / extract_session(request).parts["V1"].file
        record = array.with_suffix(".json")
        resealed(record, stating_sha256(json.loads(record.read_text()), array))
        before = record.read_bytes()
        assert b"blake3" not in before
        voxels_read.clear()
        part = extract_session(requested()).parts["V1"]
        assert voxels_read == []
        assert np.array_equal(request.store.read(part), expected(damageable, "V1"))
        assert record.read_bytes() == before
        # Bytes that were altered are noticed by it.
        array.write_bytes(array.read_bytes()[:-1] + b"x")
        again = extract_session(requested())
        assert voxels_read == request.regions["V1"].tolist()
        assert np.array_equal(request.store.read(again.parts["V1"]), expected(damageable, "V1"))

    @pytest.mark.parametrize("touch", ["moved", "permissions", "copied", "legacy"])
    def test_a_file_that_only_changed_its_inode_is_not_read_again(
        self,
        damageable: SmallNSD,
        requested: Callable[[], SessionRequest],
        voxels_read: list[int],
        touch: str,
    ) -> None:
        path = damageable.betas_path(1, 2)
        request = requested()
        part = extract_session(request).parts["V1"]
        record = request.store.path / part.file.replace(".npy", ".json")
        if touch == "moved":
            path.rename(path.with_name("elsewhere"))
            path.with_name("elsewhere").rename(path)
        elif touch == "permissions":
            path.chmod(0o600)
        elif touch == "copied":
            replace_as_download(path, lambda _content: None)
        else:  # a record as it was before there were samples
            record.write_text(part.with_sample(None).model_dump_json())
            assert '"sample"' not in record.read_text()
        voxels_read.clear()
        for _ in range(2):
            again = extract_session(requested()).parts["V1"]
            assert voxels_read == []
            assert again.sample == FileSample.from_paths(path)
            assert again.digest == part.digest
        # And from here on a replacement is noticed.
        replace_as_download(path, empty_end)
        assert len(voxels_to_read(requested())) > 0

    def test_blocks_are_not_read_where_nothing_changed(
        self, requested: Callable[[], SessionRequest], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extract_session(requested())
        monkeypatch.setattr(records, "sampled_sha256", None)
        extract_session(requested())

    def test_a_file_that_is_replaced_while_it_is_read(
        self, requested: Callable[[], SessionRequest], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read_voxels = betas.read_voxels

        def replaced_meanwhile(path: Path, *rest: Any) -> np.ndarray:
            values = read_voxels(path, *rest)
            replace_as_download(path, empty_end)
            return values

        monkeypatch.setattr(betas, "read_voxels", replaced_meanwhile)
        with pytest.raises(InputFileError, match="changed during the run"):
            extract_session(requested())

    @pytest.mark.parametrize("n_bytes", [0, 1, 5000, 30 << 20])
    def test_a_sample_sees_four_missing_mebibytes(self, tmp_path: Path, n_bytes: int) -> None:
        path = tmp_path / "file"
        content = np.random.default_rng(0).bytes(n_bytes)
        path.write_bytes(content)
        before = sampled_sha256(path)
        assert sampled_sha256(path) == before
        hole = 4 << 20
        for start in range(0, n_bytes, 3 << 20):
            with path.open("rb+") as file:
                file.seek(start)
                file.write(bytes(min(hole, n_bytes - start)))
            assert sampled_sha256(path) != before
            path.write_bytes(content)
        path.write_bytes(content + b"x")
        assert sampled_sha256(path) != before


def resealed(record: Path, fields: dict[str, object] | None = None, **changes: object) -> None:
    """Change a record as somebody would who knows how it is sealed."""
    fields = (fields or json.loads(record.read_text())) | changes
    fields.pop("seal")
    fields["seal"] = sha256_of_json(fields)
    record.write_text(json.dumps(fields))


class TestHostileStore:
    """Parts that somebody else wrote: what this code would not write is dropped."""

    @pytest.fixture
    def stored(self, request_of, voxels_read: list[int]) -> tuple[SessionRequest, Path]:
        request = request_of("V4")
        record = extract_session(request)
        voxels_read.clear()
        return request, (request.store.path / record.parts["V4"].file).with_suffix(".json")

    def recovers(self, small: SmallNSD, request: SessionRequest, voxels_read: list[int]) -> None:
        assert voxels_to_read(request).tolist() == request.regions["V4"].tolist()
        record = extract_session(request)
        assert voxels_read == request.regions["V4"].tolist()
        assert np.array_equal(request.store.read(record.parts["V4"]), expected(small, "V4"))
        assert len(voxels_to_read(request)) == 0

    def test_a_resealed_record_that_says_the_same_is_used(self, stored) -> None:
        request, record = stored
        resealed(record)
        assert len(voxels_to_read(request)) == 0

    @pytest.mark.parametrize("kind", ["absolute", "above", "link", "linked folder"])
    def test_a_part_that_lies_elsewhere(
        self, official: SmallNSD, stored, voxels_read: list[int], tmp_path: Path, kind: str
    ) -> None:
        request, record = stored
        array = record.with_suffix(".npy")
        elsewhere = tmp_path / "elsewhere"
        if kind == "linked folder":
            record.parent.rename(elsewhere)
            record.parent.symlink_to(elsewhere)
        else:
            array.rename(elsewhere)
            if kind == "link":
                array.symlink_to(elsewhere)
            else:
                resealed(record, file=str(elsewhere if kind == "absolute" else "../elsewhere"))
        before = {path: path.read_bytes() for path in tmp_path.glob("elsewhere*/*")}
        self.recovers(official, request, voxels_read)
        assert {path: path.read_bytes() for path in before} == before

    @pytest.mark.parametrize(
        "change",
        [
            {"shape": [-1, 5]},
            {"shape": [10**30, 10**30]},
            {"shape": [0, 0]},
            {"shape": [1, 1]},
            {"shape": "big"},
            {"dtype": "<f8"},
            {"dtype": "|O"},
            {"dtype": "<i2"},
            {"constant_voxels": [-1]},
            {"constant_voxels": [10**6]},
            {"constant_voxels": [1, 1]},
            {"statistics": {}},
            {"statistics": []},
            {"sample": {"changed": 0, "sha256": ""}},
            {"file": "\0"},
            {"blake3": "0"},
            {"blake3": None},
            {"sha256": "0"},
            {"key": "0" * 64},
        ],
        ids=str,
    )
    def test_an_impossible_record(
        self, official: SmallNSD, stored, voxels_read: list[int], change: dict[str, object]
    ) -> None:
        request, record = stored
        resealed(record, **change)
        self.recovers(official, request, voxels_read)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("n_voxels", 3),
            ("n_voxels", -1),
            ("constant_voxels", 99),
            ("saturated", 1.5),
            ("saturated", float("nan")),
            ("voxel_mean", []),
            ("voxel_deviation", ["x"]),
            ("runs", []),
            ("session", None),
            ("other", 1),
        ],
    )
    def test_impossible_statistics(
        self, official: SmallNSD, stored, voxels_read: list[int], field: str, value: object
    ) -> None:
        request, record = stored
        statistics = json.loads(record.read_text())["statistics"]
        resealed(record, statistics=statistics | {field: value})
        self.recovers(official, request, voxels_read)

    @pytest.mark.parametrize(
        "changed",
        [
            lambda content: content.replace(b"<f4", b"<i4"),
            lambda content: content.replace(b"False", b"True "),
            lambda content: content.replace(b"(", b"[", 1),
            lambda content: content[:40],
            lambda content: b"PK" + content[2:],
            lambda content: content + bytes(64),
        ],
    )
    def test_an_altered_header(
        self,
        official: SmallNSD,
        stored,
        voxels_read: list[int],
        changed: Callable[[bytes], bytes],
    ) -> None:
        request, record = stored
        array = record.with_suffix(".npy")
        content = changed(array.read_bytes())
        array.write_bytes(content)
        resealed(record, blake3=digest_of_bytes(content))
        self.recovers(official, request, voxels_read)

    @pytest.mark.parametrize("name", ["record", "array"])
    @pytest.mark.parametrize("kind", ["pipe", "folder"])
    def test_something_else_in_the_place_of_a_file(
        self, official: SmallNSD, stored, voxels_read: list[int], name: str, kind: str
    ) -> None:
        request, record = stored
        path = record if name == "record" else record.with_suffix(".npy")
        path.unlink()
        if kind == "folder":
            path.mkdir()
            assert voxels_to_read(request).tolist() == request.regions["V4"].tolist()
            with pytest.raises(OutputError, match="a folder stands in its place"):
                extract_session(request)
        else:
            os.mkfifo(path)
            self.recovers(official, request, voxels_read)

    @pytest.mark.parametrize("voxels", [[], [3, 1, 2], [-5, 1], [1, 10**9], [2, 2]], ids=str)
    def test_sets_of_impossible_voxels(
        self, official: SmallNSD, stored, voxels_read: list[int], voxels: list[int]
    ) -> None:
        request, record = stored
        record.unlink()
        numbers = np.array(voxels, dtype=np.int64)
        request.store.write_voxels("subj01", np.union1d(numbers, request.regions["V4"]))
        folder = request.store.path / "voxels" / "subj01"
        (folder / sha256_of_array(numbers)).write_bytes(numbers.tobytes())
        (folder / "link").symlink_to("/dev/zero")
        (folder / "folder").mkdir()
        os.mkfifo(folder / "pipe")
        self.recovers(official, request, voxels_read)


class TestProbes:
    """All trials of a few voxels of a region are kept for checks, beside the region's part."""

    @pytest.fixture
    def probed(self, request_of, selection: VoxelSelection) -> SessionRequest:
        """Return a request for V4 and IT that keeps a few voxels of each."""
        probes = {name: selection.regions[name][1:9:3] for name in ("V4", "IT")}
        return replace(request_of("V4", "IT"), probes=probes)

    def test_all_their_trials_are_stored(
        self, probed: SessionRequest, voxels_read: list[int]
    ) -> None:
        record = extract_session(probed)
        assert len(voxels_read) == len(set(voxels_read))
        assert set(record.parts) == set(record.probes) == {"V4", "IT"}
        for region, sites in probed.probes.items():
            part = record.probes[region]
            stored = probed.store.read(part)
            assert part.file in record.files
            with h5py.File(probed.paths[0]) as file:
                volumes = file["betas"][:]
            assert np.array_equal(stored, volumes.reshape(probed.n_trials, -1)[:, sites].T)
        assert probed.accepts(record)
        assert not replace(probed, probes={}).accepts(record)

    def test_of_a_store_without_them_nothing_else_is_read(
        self, request_of, probed: SessionRequest, voxels_read: list[int]
    ) -> None:
        before = extract_session(request_of("V4", "IT"))
        voxels_read.clear()
        sites = np.unique(np.concatenate([*probed.probes.values()])).tolist()
        assert voxels_to_read(probed).tolist() == sites
        after = extract_session(probed)
        assert voxels_read == sites
        assert after.parts == before.parts

    def test_inside_voxels_that_are_kept_they_are_not_read(
        self, request_of, probed: SessionRequest, voxels_read: list[int]
    ) -> None:
        extract_session(replace(request_of("V4", "IT"), kinds=("all",)))
        voxels_read.clear()
        extract_session(probed)
        assert voxels_read == []
