"""Betas: some voxels of a file in any storage form, and their z-scores, against the reference."""

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nsd import STORAGE_FORMS, write_betas

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.betas import check_session_file, read_voxels, storage_form
from nsd_prep.dataset.hdf5.content import LocalContent
from nsd_prep.dataset.images import check_images_file
from nsd_prep.extraction.zscore import zscore_trials

GRID = (6, 4, 5)  # (Z, Y, X)
N_TRIALS = 12


def random_betas(seed: int, n_trials: int = N_TRIALS, grid: tuple[int, ...] = GRID) -> np.ndarray:
    """Return int16 betas (n_trials, X, Y, Z) with saturated values and voxels of zeros."""
    rng = np.random.default_rng(seed)
    betas = np.clip(rng.normal(0, 12_000, size=(n_trials, *grid[::-1])), -32768, 32767)
    betas[:, rng.random(grid[::-1]) < 0.3] = 0
    return betas.astype(np.int16)


def whole_volume(path: Path) -> np.ndarray:
    """Return all betas (n_voxels, n_trials), voxels in the order of the file."""
    with h5py.File(path, "r") as file:
        betas = file["betas"][:].astype(np.int16)
    return betas.reshape(len(betas), -1).T


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let HDF5 find a disk without locks, as NFS and exFAT may be."""
    opened = h5py.File.__init__

    def without_locks(self, name, *arguments, locking=None, **options) -> None:
        if isinstance(name, str | Path) and locking is not False:
            number, text = errno.ENOLCK, "No locks available"
            raise OSError(
                number, f"Unable to open file (unable to lock file, errno = {number}, '{text}')"
            )
        opened(self, name, *arguments, locking=locking, **options)

    monkeypatch.setattr(h5py.File, "__init__", without_locks)


class TestDiskWithoutLocks:
    def test_betas_and_images_are_read(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        path = tmp_path / "session.hdf5"
        write_betas(path, random_betas(1), STORAGE_FORMS[0])
        expected = whole_volume(path)
        with h5py.File(tmp_path / "images.hdf5", "w") as file:
            file["imgBrick"] = np.ones((3, 4, 4, 3), np.uint8)
        request.getfixturevalue("no_locks")
        voxels = np.arange(np.prod(GRID))
        assert np.array_equal(read_voxels(path, voxels, GRID, N_TRIALS), expected)
        check_images_file(tmp_path / "images.hdf5")

    def test_a_file_that_is_being_written_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "session.hdf5"
        write_betas(path, random_betas(1), STORAGE_FORMS[0])
        with path.open("rb+") as writer:
            fcntl.flock(writer, fcntl.LOCK_EX)
            with pytest.raises(BlockingIOError):
                check_session_file(path, GRID, N_TRIALS)


class TestReading:
    @settings(max_examples=80)
    @given(
        dimensions=st.permutations([2, 3, 4, 5, 6, 7]),
        n_trials=st.integers(1, 16),
        storage=st.sampled_from(STORAGE_FORMS),
        seed=st.integers(0, 1000),
        share=st.sampled_from([0.02, 0.2, 0.6, 1.0]),
    )
    def test_any_voxels_of_any_storage_form(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        dimensions: list[int],
        n_trials: int,
        storage: str,
        seed: int,
        share: float,
    ) -> None:
        z, y, x = dimensions[:3]
        path = tmp_path_factory.mktemp("betas") / "session.hdf5"
        write_betas(path, random_betas(seed, n_trials, (z, y, x)), storage)
        chosen = np.random.default_rng(seed).random(z * y * x) < share
        voxels = np.flatnonzero(chosen).astype(np.int64)
        values = read_voxels(path, voxels, (z, y, x), n_trials)
        assert values.dtype == np.int16
        assert values.dtype.isnative
        assert np.array_equal(values, whole_volume(path)[voxels])
        path.unlink()

    @pytest.mark.parametrize("storage", STORAGE_FORMS)
    def test_a_voxel_is_where_its_nifti_indices_say(self, tmp_path: Path, storage: str) -> None:
        betas = random_betas(1)
        path = tmp_path / "session.hdf5"
        write_betas(path, betas, storage)
        voxels = np.arange(0, 120, 7)
        values = read_voxels(path, voxels, GRID, N_TRIALS)
        for row, voxel in enumerate(voxels.tolist()):
            i, j, k = voxel % 5, voxel // 5 % 4, voxel // 20
            assert values[row].tolist() == betas[:, i, j, k].tolist()

    @pytest.mark.parametrize(
        "options",
        [
            {"chunks": (300, 1)},
            {"chunks": (300, 1), "compression": "gzip"},
            {"chunks": (7, 30)},
            {"chunks": (1, 200)},
            {},
        ],
        ids=str,
    )
    def test_sites_along_one_axis(self, tmp_path: Path, options: dict[str, Any]) -> None:
        betas = np.random.default_rng(2).integers(-999, 999, (300, 200), dtype=np.int16)
        path = tmp_path / "session.hdf5"
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", data=betas, **options)
        sites = np.array([0, 1, 2, 29, 30, 77, 199])
        assert np.array_equal(read_voxels(path, sites, (200,), 300), betas[:, sites].T)
        with LocalContent(path) as content:
            form = storage_form(path, (200,), 300, content)
            assert (form.chunk_index is not None) == (options.get("chunks") == (300, 1))
            assert form.is_plain == (options == {"chunks": (300, 1)})

    @pytest.mark.parametrize("storage", STORAGE_FORMS)
    def test_no_voxels(self, tmp_path: Path, storage: str) -> None:
        write_betas(tmp_path / "session.hdf5", random_betas(2), storage)
        none = np.zeros(0, dtype=np.int64)
        assert read_voxels(tmp_path / "session.hdf5", none, GRID, N_TRIALS).shape == (0, N_TRIALS)

    def test_the_ends_of_the_range_are_kept(self, tmp_path: Path) -> None:
        betas = random_betas(3)
        betas[:, 0, 0, 0], betas[:, 4, 3, 5] = -32768, 32767
        write_betas(tmp_path / "session.hdf5", betas)
        values = read_voxels(tmp_path / "session.hdf5", np.array([0, 119]), GRID, N_TRIALS)
        assert (values[0] == -32768).all()
        assert (values[1] == 32767).all()

    def test_chunks_that_were_never_allocated_hold_the_fill_value(self, tmp_path: Path) -> None:
        path = tmp_path / "session.hdf5"
        for fill in (None, 7):
            with h5py.File(path, "w") as file:
                shape, chunks = (N_TRIALS, *GRID), (N_TRIALS, 1, 1, 1)
                betas = file.create_dataset("betas", shape, "<i2", chunks=chunks, fillvalue=fill)
                betas[:, 1, 2, 3] = np.arange(N_TRIALS)
            values = read_voxels(path, np.array([0, 33, 119]), GRID, N_TRIALS)
            assert values[1].tolist() == list(range(N_TRIALS))
            assert (values[[0, 2]] == (fill or 0)).all()

    @pytest.mark.parametrize("storage", ["voxel chunks", "voxel chunks, gzip", "odd chunks"])
    def test_little_else_than_the_voxels_is_read(
        self, tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "session.hdf5"
        grid = (20, 21, 22)
        write_betas(path, random_betas(4, 8, grid), storage)
        voxels = np.concatenate([np.arange(500, 520), [3000, 9000]])
        read = []
        original = h5py.Dataset.__getitem__

        def counted(dataset: h5py.Dataset, key: object) -> np.ndarray:
            values = original(dataset, key)
            read.append(values.size)
            return values

        monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
        read_voxels(path, voxels, grid, 8)
        assert sum(read) <= 2 * 8 * len(voxels)

    def test_blocks_are_read_in_steps_that_fit_into_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nsd_prep.dataset.hdf5.blocks._BYTES_AT_ONCE", 500)
        voxels = np.arange(1, 120, 3)
        for storage in STORAGE_FORMS:
            path = tmp_path / "session.hdf5"
            write_betas(path, random_betas(5), storage)
            values = read_voxels(path, voxels, GRID, N_TRIALS)
            assert np.array_equal(values, whole_volume(path)[voxels]), storage

    def test_threads_that_read_at_the_same_time(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"{number}.hdf5" for number in range(4)]
        for number, path in enumerate(paths):
            write_betas(path, random_betas(number), "voxel chunks")
        voxels = np.arange(120)
        found: dict[Path, list[np.ndarray]] = {path: [] for path in paths}

        def read(path: Path) -> None:
            for _ in range(5):
                found[path].append(read_voxels(path, voxels, GRID, N_TRIALS))

        threads = [threading.Thread(target=read, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for path in paths:
            assert len(found[path]) == 5
            assert all(np.array_equal(values, whole_volume(path)) for values in found[path])


class TestAskingAhead:
    """The system is told what will be read of a file, which changes when it is read, not what."""

    grid, n_trials = (20, 25, 30), 300
    voxels = np.concatenate([np.arange(2000, 2200, 3), np.arange(12000, 12100)])

    def written(self, path: Path, order: np.ndarray) -> np.ndarray:
        """Write a session whose chunks lie in the file in an order, and return its betas."""
        betas = random_betas(3, self.n_trials, self.grid).transpose(0, 3, 2, 1)
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset(
                "betas", betas.shape, "<i2", chunks=(self.n_trials, 1, 1, 1)
            )
            for at in zip(*map(np.ndarray.tolist, np.unravel_index(order, self.grid)), strict=True):
                dataset.id.write_direct_chunk((0, *at), betas[(slice(None), *at)].tobytes())
        return betas.reshape(self.n_trials, -1).T

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """Return a list of the parts of files that the system was asked for."""
        parts: list[tuple[int, int]] = []

        def note(_file: int, start: int, length: int, advice: int) -> None:
            if advice == os.POSIX_FADV_WILLNEED:
                parts.append((start, start + length))

        monkeypatch.setattr(os, "posix_fadvise", note)
        return parts

    @pytest.mark.parametrize("order", ["in order", "shuffled"])
    def test_it_is_asked_for_what_holds_the_voxels_and_not_for_the_rest(
        self, tmp_path: Path, asked: list[tuple[int, int]], order: str
    ) -> None:
        path = tmp_path / "session.hdf5"
        places_in_file = np.arange(np.prod(self.grid))
        if order == "shuffled":
            places_in_file = np.random.default_rng(1).permutation(places_in_file)
        betas = self.written(path, places_in_file)
        values = read_voxels(path, self.voxels, self.grid, self.n_trials)
        assert np.array_equal(values, betas[self.voxels])
        with h5py.File(path, "r") as file:
            chunks = file["betas"].id
            places = [
                chunks.get_chunk_info_by_coord((0, *map(int, at))).byte_offset
                for at in zip(*np.unravel_index(self.voxels, self.grid), strict=True)
            ]
        of_voxel = 2 * self.n_trials
        assert all(any(a <= at and at + of_voxel <= b for a, b in asked) for at in places)
        assert sum(b - a for a, b in asked) < path.stat().st_size / 4

    def test_a_system_that_will_not_be_asked_gives_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "session.hdf5"
        write_betas(path, random_betas(4))
        voxels = np.arange(5, 100, 4)

        def refuse(*_: object) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        for change in (
            lambda patch: patch.setattr(os, "posix_fadvise", refuse),
            lambda patch: patch.delattr(os, "posix_fadvise"),
        ):
            with monkeypatch.context() as patch:
                change(patch)
                values = read_voxels(path, voxels, GRID, N_TRIALS)
            assert np.array_equal(values, whole_volume(path)[voxels])


class TestBadFiles:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        write_betas(tmp_path / "betas_session03.hdf5", random_betas(6))
        return tmp_path / "betas_session03.hdf5"

    def refused(self, path: Path) -> str:
        """Return what both the check and the reading say of a file."""
        with pytest.raises(InputFileError) as checked:
            check_session_file(path, GRID, N_TRIALS)
        with pytest.raises(InputFileError) as read:
            read_voxels(path, np.arange(120), GRID, N_TRIALS)
        assert str(checked.value) == str(read.value)
        assert str(path) in str(read.value)
        assert "download" in str(read.value)
        return str(read.value)

    def test_a_good_file_is_not_refused(self, path: Path) -> None:
        check_session_file(path, GRID, N_TRIALS)

    @pytest.mark.parametrize("kept", [0.001, 0.05, 0.5, 0.99])
    def test_a_truncated_file(self, path: Path, kept: float) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        assert "truncated, empty or not HDF5" in self.refused(path)

    def test_an_empty_file(self, path: Path) -> None:
        path.write_bytes(b"")
        assert "truncated, empty or not HDF5" in self.refused(path)

    def test_a_file_that_is_not_hdf5(self, path: Path) -> None:
        path.write_text("<html>404</html>" * 1000)
        assert "truncated, empty or not HDF5" in self.refused(path)

    def test_a_damaged_list_of_contents(self, path: Path) -> None:
        content = path.read_bytes()
        assert content.count(b"TREE") > 0
        path.write_bytes(content.replace(b"SNOD", b"XXXX").replace(b"HEAP", b"XXXX"))
        assert "truncated, empty or not HDF5" in self.refused(path)

    def test_a_damaged_chunk(self, path: Path) -> None:
        write_betas(path, random_betas(6), "voxel chunks, gzip")
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
        path.write_bytes(content)
        with pytest.raises(InputFileError, match="cannot be read"):
            read_voxels(path, np.arange(120), GRID, N_TRIALS)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "int32", "int8"])
    def test_another_type(self, path: Path, dtype: str) -> None:
        with h5py.File(path, "w") as file:
            file["betas"] = np.zeros((N_TRIALS, *GRID), dtype)
        message = self.refused(path)
        assert f"betas of the type {dtype}" in message
        assert "expected int16" in message

    @pytest.mark.parametrize(
        "shape",
        [
            (N_TRIALS, *GRID[::-1]),
            (*GRID, N_TRIALS),
            (N_TRIALS - 1, *GRID),
            (N_TRIALS + 1, *GRID),
            (N_TRIALS, 6, 5, 4),
            (N_TRIALS, 120),
            (N_TRIALS, *GRID, 1),
        ],
    )
    def test_another_shape(self, path: Path, shape: tuple[int, ...]) -> None:
        with h5py.File(path, "w") as file:
            file["betas"] = np.zeros(shape, np.int16)
        message = self.refused(path)
        assert f"betas of the shape {shape}" in message
        assert f"{(N_TRIALS, *GRID)}" in message

    def test_another_name(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["data"] = np.zeros((N_TRIALS, *GRID), np.int16)
            file["other"] = 1
        assert "no dataset 'betas': expected it to hold the betas, found data, other" in (
            self.refused(path)
        )

    def test_no_dataset_at_all(self, path: Path) -> None:
        with h5py.File(path, "w"):
            pass
        assert "found nothing" in self.refused(path)

    def test_a_group_in_place_of_the_dataset(self, path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_group("betas")
        assert "no dataset 'betas'" in self.refused(path)

    def test_a_missing_file_is_an_error_of_the_disk(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_voxels(tmp_path / "nowhere.hdf5", np.arange(3), GRID, N_TRIALS)


def percent_in_fortran_order(values: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """Return percent signal change (n_trials, n_voxels) as the reference's mask leaves it."""
    percent = values.astype(dtype) / dtype(300)
    assert percent.T.flags.f_contiguous
    return percent.T


class TestZScores:
    @pytest.mark.parametrize("n_trials", [2, 7, 8, 127, 750])
    @pytest.mark.parametrize("n_voxels", [1, 2, 255, 256, 257, 600])
    def test_bits_are_the_references(self, n_voxels: int, n_trials: int) -> None:
        rng = np.random.default_rng(n_voxels * n_trials)
        scale = rng.uniform(10, 9000, size=(n_voxels, 1))
        drawn = rng.uniform(-2000, 2000, size=(n_voxels, 1)) + scale * rng.normal(
            size=(n_voxels, n_trials)
        )
        values = np.clip(drawn, -32768, 32767).astype(np.int16)
        zscores, constant = zscore_trials(values)
        expected = reference.zscores(percent_in_fortran_order(values, np.float32))
        assert zscores.dtype == np.float32
        assert np.array_equal(zscores.view(np.int32), expected.T.view(np.int32))
        assert np.array_equal(constant, (values == values[:, :1]).all(axis=1))

    def test_within_1e_5_of_the_same_in_float64(self) -> None:
        values = np.random.default_rng(7).normal(500, 900, size=(300, 750)).astype(np.int16)
        expected = reference.zscores(percent_in_fortran_order(values, np.float64))
        assert np.abs(zscore_trials(values)[0].T - expected).max() < 1e-5

    def test_mean_0_and_population_deviation_1(self) -> None:
        values = np.random.default_rng(8).normal(500, 900, size=(20, 10)).astype(np.int16)
        zscores = zscore_trials(values)[0].astype(np.float64)
        assert np.abs(zscores.mean(axis=1)).max() < 1e-6
        # With ddof 1, ten trials would give 0.95.
        assert np.abs((zscores**2).mean(axis=1) - 1).max() < 1e-5

    @given(seed=st.integers(0, 100), share=st.floats(0.01, 1))
    def test_grouping_voxels_otherwise_changes_no_bit(self, seed: int, share: float) -> None:
        rng = np.random.default_rng(seed)
        values = rng.integers(-32768, 32768, size=(300, 30), dtype=np.int16)
        some = rng.random(300) < share
        assert np.array_equal(zscore_trials(values[some])[0], zscore_trials(values)[0][some])

    @pytest.mark.parametrize("value", [0, 1, -1, 1234, 10_001, 32767, -32768])
    def test_a_constant_voxel_gives_0(self, value: int) -> None:
        values = np.random.default_rng(9).normal(0, 900, size=(400, 750)).astype(np.int16)
        values[[3, 299]] = value
        zscores, constant = zscore_trials(values)
        assert np.flatnonzero(constant).tolist() == [3, 299]
        assert (zscores[[3, 299]] == 0).all()
        assert np.isfinite(zscores).all()

    def test_a_voxel_with_one_different_trial_is_not_constant(self) -> None:
        for at in (0, 1, 749):
            values = np.full((1, 750), 32767, dtype=np.int16)
            values[0, at] = 32766
            zscores, constant = zscore_trials(values)
            assert not constant[0]
            assert zscores[0, at] == pytest.approx(-np.sqrt(749), rel=1e-2)

    def test_what_is_given_stays_as_it_was(self) -> None:
        values = np.random.default_rng(10).normal(0, 900, size=(30, 20)).astype(np.int16)
        before = values.copy()
        zscore_trials(values)
        assert np.array_equal(values, before)

    def test_no_voxels(self) -> None:
        zscores, constant = zscore_trials(np.zeros((0, 750), dtype=np.int16))
        assert zscores.shape == (0, 750)
        assert constant.shape == (0,)
