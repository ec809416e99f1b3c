"""The store of extracted responses: nothing is read twice, nothing false is believed."""

import ast
import errno
import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reference
from library_stages import request_for, trials_of
from small_nsd import SmallNSD, write_betas

import nsd_prep.extraction
from nsd_prep.betas import read_voxels
from nsd_prep.dataset import Dataset, open_dataset
from nsd_prep.errors import InputFileError, OutputError
from nsd_prep.extraction import (
    SessionRequest,
    extract_session,
    stored_part,
)
from nsd_prep.masks import select_voxels
from nsd_prep.regions import BUILT_IN_REGIONS, VoxelSelection

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

    def counting(path: Path, voxels: np.ndarray, *rest: object) -> np.ndarray:
        counted.extend(voxels.tolist())
        return read_voxels(path, voxels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(nsd_prep.extraction, "read_voxels", counting)
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
        record = extract_session(request_of())
        assert (record.subject, record.session) == (1, 2)
        assert list(record.parts) == ["V1", "V4", "IT"]
        for region, part in record.parts.items():
            responses = part.read()
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
        record = extract_session(request_for(dataset, 1, session, selection, store))
        of_region = selection.regions["V1"][list(record.parts["V1"].constant_voxels)].tolist()
        assert {(v % n_x, v // n_x % n_y, v // n_x // n_y) for v in of_region} == special
        assert (record.parts["V1"].read()[:, list(record.parts["V1"].constant_voxels)] == 0).all()

    def test_a_voxel_of_two_regions_is_read_once(
        self, selection: VoxelSelection, request_of, voxels_read: list[int]
    ) -> None:
        record = extract_session(request_of())
        union = set().union(*(of.tolist() for of in selection.regions.values()))
        assert sum(len(of) for of in selection.regions.values()) > len(union)
        assert voxels_read == sorted(union)
        assert record.voxels_read == len(union)

    def test_a_session_without_shared_trials_gives_no_rows(self, request_of) -> None:
        request = request_of("V1").model_copy(update={"trials": ()})
        record = extract_session(request)
        assert record.parts["V1"].read().shape[0] == 0


class TestReuse:
    def test_the_same_again_reads_nothing(self, request_of, voxels_read: list[int]) -> None:
        first = extract_session(request_of())
        voxels_read.clear()
        second = extract_session(request_of())
        assert voxels_read == []
        assert second.voxels_read == 0
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
        record = extract_session(request_of("IT", "V1"))
        assert voxels_read == selection.regions["IT"].tolist()
        assert list(record.parts) == ["IT", "V1"]
        for region in ("V1", "IT"):
            assert np.array_equal(record.parts[region].read(), expected(official, region))

    def test_another_session_is_another_part(
        self, dataset: Dataset, selection: VoxelSelection, store: Path, request_of
    ) -> None:
        extract_session(request_of("V1"))
        other = request_for(dataset, 1, 3, selection, store, ["V1"])
        assert extract_session(other).voxels_read == len(selection.regions["V1"])

    def test_a_store_that_was_moved_is_used(
        self, request_of, tmp_path: Path, voxels_read: list[int]
    ) -> None:
        request = request_of()
        before = {region: part.read() for region, part in extract_session(request).parts.items()}
        voxels_read.clear()
        shutil.move(request.store, tmp_path / "elsewhere")
        voxels_file = tmp_path / "elsewhere" / Path(request.voxels_file).name
        moved = request.model_copy(
            update={"store": str(tmp_path / "elsewhere"), "voxels_file": str(voxels_file)}
        )
        record = extract_session(moved)
        assert voxels_read == []
        for region, part in record.parts.items():
            assert Path(part.file).is_relative_to(tmp_path / "elsewhere")
            assert np.array_equal(part.read(), before[region])


class TestReading:
    def test_garbage_collection_that_parses_does_not_break_a_read(self, request_of) -> None:
        """CPython gh-106905: a parse inside another one makes the outer one fail."""
        part = extract_session(request_of()).parts["V1"]
        expected = np.load(part.file)

        def parse(phase: str, info: dict[str, int]) -> None:
            ast.parse("{'shape': (1, 2)}")

        thresholds = gc.get_threshold()
        gc.callbacks.append(parse)
        gc.set_threshold(1)
        try:
            read = [part.read() for _ in range(20)]
        finally:
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(parse)
        for values in read:
            np.testing.assert_array_equal(values, expected)


class TestKeys:
    def test_each_thing_that_determines_the_responses_changes_the_key(self, request_of) -> None:
        request = request_of("V1")
        betas_file = request.betas_file
        changes: list[dict[str, object]] = [
            {"dataset": "other"},
            {"preparation": "betas_assumehrf"},
            {"subject": 2},
            {"session": 3},
            {"trials": request.trials[:-1]},
            {"regions": {"V1": "0" * 64}},
            {"betas_file": betas_file.model_copy(update={"bytes": betas_file.bytes + 1})},
            {"betas_file": betas_file.model_copy(update={"modified": betas_file.modified + 1})},
            {"betas_file": betas_file.model_copy(update={"path": "/elsewhere"})},
        ]
        keys = {request.part_key("V1")}
        keys |= {request.model_copy(update=change).part_key("V1") for change in changes}
        assert len(keys) == len(changes) + 1
        of_request = {request.key()} | {request.model_copy(update=of).key() for of in changes}
        assert len(of_request) == len(changes) + 1

    def test_where_the_store_lies_is_no_part_of_the_key(self, request_of) -> None:
        request = request_of("V1")
        moved = request.model_copy(update={"store": "/elsewhere", "voxels_file": "/else.npz"})
        assert moved.key() == request.key()

    def test_other_regions_change_the_requests_key_and_not_the_parts(self, request_of) -> None:
        one, two = request_of("V1"), request_of("V1", "IT")
        assert one.key() != two.key()
        assert one.part_key("V1") == two.part_key("V1")

    def test_the_name_of_a_region_is_no_part_of_a_parts_key(self, request_of) -> None:
        request = request_of("IT")
        renamed = request.model_copy(update={"regions": {"ventral": request.regions["IT"]}})
        assert renamed.part_key("ventral") == request.part_key("IT")

    def test_a_file_that_changed_is_extracted_again(
        self, damageable: SmallNSD, store: Path, voxels_read: list[int]
    ) -> None:
        dataset = open_dataset(damageable.root)
        selection = select_voxels(dataset, 1, REGIONS)
        before = extract_session(request_for(dataset, 1, 2, selection, store, ["V1"]))
        path = damageable.betas_path(1, 2)
        write_betas(path, -damageable.betas[1, 2] // 2)
        os.utime(path, ns=(1, 1))
        voxels_read.clear()
        after = extract_session(request_for(dataset, 1, 2, selection, store, ["V1"]))
        assert voxels_read == selection.regions["V1"].tolist()
        assert not np.array_equal(after.parts["V1"].read(), before.parts["V1"].read())


class TestDamage:
    """Whatever happens to the store, the next run gives the right responses."""

    def recovers(self, small: SmallNSD, request: SessionRequest, n_voxels: int) -> None:
        record = extract_session(request)
        assert record.voxels_read == n_voxels
        assert np.array_equal(record.parts["V4"].read(), expected(small, "V4"))
        assert extract_session(request).voxels_read == 0

    @pytest.fixture
    def stored(self, request_of) -> tuple[SessionRequest, Path, int]:
        request = request_of("V4")
        record = extract_session(request)
        return request, Path(record.parts["V4"].file), record.voxels_read

    @pytest.mark.parametrize("at", [5, 100, -1])
    def test_an_altered_byte(self, official: SmallNSD, stored, at: int) -> None:
        request, path, n_voxels = stored
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        part = stored_part(request, "V4")
        assert part is not None
        assert not part.is_whole()
        with pytest.raises(InputFileError, match=r"gone or altered.*run the same command again"):
            part.read()
        self.recovers(official, request, n_voxels)

    @pytest.mark.parametrize("kept", [0, 50, 200])
    def test_a_truncated_file(self, official: SmallNSD, stored, kept: int) -> None:
        request, path, n_voxels = stored
        path.write_bytes(path.read_bytes()[:kept])
        self.recovers(official, request, n_voxels)

    def test_a_missing_file(self, official: SmallNSD, stored) -> None:
        request, path, n_voxels = stored
        path.unlink()
        self.recovers(official, request, n_voxels)

    @pytest.mark.parametrize("content", [None, "", "{", "{}", '{"key": "x"}'])
    def test_a_damaged_record(self, official: SmallNSD, stored, content: str | None) -> None:
        request, path, n_voxels = stored
        record = path.with_suffix(".json")
        record.unlink()
        if content is not None:
            record.write_text(content)
        assert stored_part(request, "V4") is None
        self.recovers(official, request, n_voxels)

    def test_a_record_of_something_else(self, official: SmallNSD, stored) -> None:
        request, path, n_voxels = stored
        record = path.with_suffix(".json")
        record.write_text(record.read_text().replace(request.part_key("V4"), "0" * 64))
        assert stored_part(request, "V4") is None
        self.recovers(official, request, n_voxels)

    def test_nothing_stored_can_run_code(self, stored, snapshot) -> None:
        request, _, _ = stored
        endings = {Path(name).suffix for name in snapshot(Path(request.store))}
        assert endings <= {"", ".npy", ".npz", ".json"}


class TestInterruptedWrites:
    def final_names(self, request: SessionRequest) -> set[str]:
        folder = Path(request.store) / "subj01-session02"
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
            assert request.store in str(raised.value)
        assert self.final_names(request) == set()
        record = extract_session(request)
        assert np.array_equal(record.parts["V1"].read(), expected(official, "V1"))

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
        with pytest.raises(OutputError, match="what the disk gives back differs"):
            extract_session(request)
        assert self.final_names(request) == set()

    def test_a_store_that_cannot_be_a_folder(self, request_of, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        request = request_of("V1").model_copy(update={"store": str(tmp_path / "file")})
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
