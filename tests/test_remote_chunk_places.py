"""Where chunks lie: the formula against the index of files that HDF5 wrote in order."""

import struct
from itertools import chain
from pathlib import Path

import h5py
import numpy as np
import pytest
from remote_files import chunk_places, random_betas, write_in_order

from nsd_prep.dataset import published
from nsd_prep.dataset.hdf5.places import NODE_BYTES, ROOT, ChunkPlaces, node_bytes


def nodes_of(path: Path) -> dict[int, list[int]]:
    """Return the places of the nodes of each level, by walking all of them from the root."""
    content = path.read_bytes()
    found: dict[int, list[int]] = {}

    def visit(place: int) -> None:
        signature, kind, level, used = struct.unpack_from("<4sBBH", content, place)
        assert (signature, kind) == (b"TREE", 1)
        found.setdefault(level, []).append(place)
        for child in range(used if level else 0):
            visit(*struct.unpack_from("<Q", content, place + 24 + 56 * child + 48))

    visit(ROOT)
    return found


@pytest.mark.parametrize(
    ("grid", "n_trials"),
    [
        ((1, 3, 2), 750),
        ((4, 4, 4), 750),
        ((5, 13, 1), 750),
        ((11, 11, 1), 750),
        ((2, 61, 1), 750),
        ((7, 11, 5), 750),
        ((64, 57, 1), 750),
        ((12, 20, 31), 750),
        ((7, 11, 5), 500),
        ((12, 20, 31), 1000),
    ],
)
def test_each_chunk_and_node_of_a_file_written_in_order(
    tmp_path: Path, grid: tuple[int, int, int], n_trials: int
) -> None:
    path = tmp_path / "session.hdf5"
    write_in_order(path, random_betas(0, grid, n_trials))
    places = ChunkPlaces.predict(grid, n_trials)
    assert path.stat().st_size == places.file_bytes
    voxels = np.arange(np.prod(grid))
    assert np.array_equal(places.chunks(voxels), chunk_places(path))
    nodes = nodes_of(path)
    assert places.level_sizes == tuple(len(nodes[level]) for level in sorted(nodes))
    for level, expected in nodes.items():
        assert places.nodes(level, np.arange(len(expected))).tolist() == expected
    assert places.index_of(voxels).tolist() == sorted(chain.from_iterable(nodes.values()))


def test_the_index_of_some_voxels_leads_from_the_root_to_each(tmp_path: Path) -> None:
    grid = (12, 20, 31)
    path = tmp_path / "session.hdf5"
    write_in_order(path, random_betas(0, grid, 750))
    content = path.read_bytes()
    places = ChunkPlaces.predict(grid, 750)
    for voxel in (0, 56, 57, 64, 3647, 3648, 3700, 4103, 7439):
        known = set(places.index_of(np.array([voxel])).tolist())
        place = ROOT
        while True:
            known.remove(place)
            level, used = struct.unpack_from("<4xxBH", content, place)
            entries = [
                struct.unpack_from("<8x5QQ", content, place + 24 + 56 * at) for at in range(used)
            ]
            keys = [np.ravel_multi_index(entry[1:4], grid) for entry in entries]
            place = entries[np.searchsorted(keys, voxel, side="right") - 1][5]
            if level == 0:
                break
        assert place == places.chunks(np.array([voxel]))[0]
        assert not known


@pytest.mark.parametrize(
    ("subject", "megabytes"),
    list(enumerate([1094.4, 1142.9, 1102.0, 1053.8, 935.6, 1247.9, 939.5, 1006.0], start=1)),
)
def test_published_sizes_of_sessions(subject: int, megabytes: float) -> None:
    grid = published.GRIDS[subject][::-1]
    size = ChunkPlaces.predict(grid, published.TRIALS_PER_SESSION).file_bytes
    assert size / 1e6 == pytest.approx(megabytes, abs=0.05)


def test_the_published_size_of_subject_1_to_the_byte() -> None:
    assert ChunkPlaces.predict((83, 104, 81), 750).file_bytes == 1_094_445_528


def test_nodes_of_volumes_and_of_surfaces() -> None:
    assert NODE_BYTES == node_bytes(4) == 3656
    assert node_bytes(2) == 2616


@pytest.mark.parametrize("n_vertices", [1, 63, 64, 65, 121, 4000])
def test_each_chunk_of_a_file_of_a_surface(tmp_path: Path, n_vertices: int) -> None:
    path = tmp_path / "lh.session.hdf5"
    with h5py.File(path, "w", libver="earliest") as file:
        betas = file.create_dataset("betas", (750, n_vertices), "<i2", chunks=(750, 1))
        for vertex in range(n_vertices):
            betas.id.write_direct_chunk((0, vertex), np.full(750, vertex, "<i2"))
    places = ChunkPlaces.predict((n_vertices,), 750)
    assert path.stat().st_size == places.file_bytes
    with h5py.File(path) as file:
        look_up = file["betas"].id.get_chunk_info_by_coord
        found = [look_up((0, vertex)).byte_offset for vertex in range(n_vertices)]
    assert places.chunks(np.arange(n_vertices)).tolist() == found
