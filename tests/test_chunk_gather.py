"""Chunks gathered from a file without HDF5, against what HDF5 reads."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset import betas
from nsd_prep.dataset.betas import read_voxels, storage_form
from nsd_prep.dataset.hdf5.content import LocalContent
from nsd_prep.dataset.hdf5.gather import find_chunks, gather_chunks

#: So many voxels that the index has three levels.
GRID = (15, 17, 18)
N_VOXELS = 15 * 17 * 18
N_TRIALS = 9
EVERY_FIFTH = np.arange(3, N_VOXELS, 5)


def write(path: Path, order: np.ndarray, *, userblock: int = 0, dtype: str = "<i2") -> np.ndarray:
    """Write random betas, chunks in an order in the file, and return them by voxel."""
    values = np.random.default_rng(7).integers(-9999, 9999, (N_VOXELS, N_TRIALS)).astype(dtype)
    with h5py.File(path, "w", userblock_size=userblock) as file:
        written = file.create_dataset("betas", (N_TRIALS, *GRID), dtype, chunks=(N_TRIALS, 1, 1, 1))
        for voxel in order.tolist():
            place = tuple(map(int, np.unravel_index(voxel, GRID)))
            written.id.write_direct_chunk((0, *place), values[voxel].tobytes())
    return values


def gathered(path: Path, voxels: np.ndarray = EVERY_FIFTH) -> np.ndarray | None:
    """Return what is gathered, as betas (n_voxels, n_trials)."""
    with LocalContent(path) as content:
        form = storage_form(path, GRID, N_TRIALS, content)
        if form.chunk_index is None:
            return None
        table = find_chunks(content, form.chunk_index, voxels)
        if table is None or not table.lengths.all():
            return None
        found = gather_chunks(content, table.starts, N_TRIALS * form.dtype.itemsize)
        return None if found is None else found.view(form.dtype)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.hdf5"


IN_ORDER = np.arange(N_VOXELS)
ORDERS = {
    "in order": IN_ORDER,
    "backwards": IN_ORDER[::-1],
    "shuffled": np.random.default_rng(1).permutation(N_VOXELS),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
@pytest.mark.parametrize("at_once", [30, 8_000_000])
def test_any_order_of_chunks(
    path: Path, order: str, dtype: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalContent, "bytes_at_once", at_once)
    monkeypatch.setattr(LocalContent, "gap", 40)
    values = write(path, ORDERS[order], dtype=dtype)
    for voxels in (EVERY_FIFTH, IN_ORDER, IN_ORDER[:1], IN_ORDER[-1:]):
        found = gathered(path, voxels)
        assert found is not None
        assert np.array_equal(found, values[voxels])


def test_betas_are_read_without_a_call_of_hdf5_for_each_voxel(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = write(path, IN_ORDER)
    monkeypatch.delattr(betas, "read_blocks")
    assert np.array_equal(read_voxels(path, EVERY_FIFTH, GRID, N_TRIALS), values[EVERY_FIFTH])


def test_a_voxel_without_a_chunk_is_left_to_hdf5(path: Path) -> None:
    values = write(path, np.delete(IN_ORDER, EVERY_FIFTH[10]))
    assert gathered(path) is None
    assert gathered(path, IN_ORDER[:3]) is not None
    values[EVERY_FIFTH[10]] = 0
    assert np.array_equal(read_voxels(path, EVERY_FIFTH, GRID, N_TRIALS), values[EVERY_FIFTH])


def test_a_file_behind_a_block_of_the_users_is_left_to_hdf5(path: Path) -> None:
    values = write(path, IN_ORDER, userblock=512)
    assert gathered(path) is None
    assert np.array_equal(read_voxels(path, EVERY_FIFTH, GRID, N_TRIALS), values[EVERY_FIFTH])


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("way", ["link", "link in a linked group"])
def test_betas_behind_a_link_to_another_file_are_refused(path: Path, libver: str, way: str) -> None:
    # Nobody would see that the other file was changed: the outer one is what is known to be read.
    write(path, IN_ORDER)
    outer = path.with_name("outer.hdf5")
    with h5py.File(outer, "w", libver=libver) as file:
        if way == "link":
            file["betas"] = h5py.ExternalLink(path.name, "betas")
        else:
            file["others"] = h5py.ExternalLink(path.name, "/")
            file["betas"] = h5py.SoftLink("/others/betas")
    with pytest.raises(InputFileError, match=f"no betas of its own.* lie in .*{path.name}"):
        read_voxels(outer, EVERY_FIFTH, GRID, N_TRIALS)


def test_a_link_within_the_file_is_none_to_another_one(path: Path) -> None:
    values = write(path, IN_ORDER)
    with h5py.File(path, "a") as file:
        file.move("betas", "others/betas")
        file["betas"] = h5py.SoftLink("/others/betas")
    assert np.array_equal(read_voxels(path, EVERY_FIFTH, GRID, N_TRIALS), values[EVERY_FIFTH])


class TestDamage:
    """What is damaged is never read as betas: HDF5 refuses it."""

    @pytest.mark.parametrize("at", [0, 4, 5, 6])
    def test_a_node_of_the_index(self, path: Path, at: int) -> None:
        write(path, IN_ORDER)
        content = bytearray(path.read_bytes())
        leaf = content.rindex(b"TREE\x01\x00")
        content[leaf + at] ^= 0xFF
        path.write_bytes(content)
        assert gathered(path) is None
        with pytest.raises(InputFileError, match="cannot be read"):
            read_voxels(path, IN_ORDER, GRID, N_TRIALS)

    def test_a_chunk_said_to_lie_outside_of_the_file(self, path: Path) -> None:
        write(path, IN_ORDER)
        content = bytearray(path.read_bytes())
        entry = content.rindex(b"TREE\x01\x00") + 24 + 48
        content[entry : entry + 8] = (len(content) - 5).to_bytes(8, "little")
        path.write_bytes(content)
        assert gathered(path, IN_ORDER) is None
        with pytest.raises((InputFileError, OSError)):
            read_voxels(path, IN_ORDER, GRID, N_TRIALS)

    def test_a_file_that_becomes_shorter_while_it_is_read(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(path, IN_ORDER)
        original = LocalContent.read_into

        def shortened(content: LocalContent, start: int, buffer: memoryview) -> None:
            if len(buffer) > 100_000:
                path.open("r+b").truncate(start + 50)
            original(content, start, buffer)

        monkeypatch.setattr(LocalContent, "read_into", shortened)
        with pytest.raises(OSError, match=r"Input/output error"):
            read_voxels(path, EVERY_FIFTH, GRID, N_TRIALS)
