"""The file of a subject's voxels: what is written is read, and its name tells what it holds."""

from pathlib import Path

import numpy as np
import pytest
from small_nsd import SmallNSD

from nsd_prep.dataset import open_dataset
from nsd_prep.masks import select_voxels
from nsd_prep.regions import BUILT_IN_REGIONS, VoxelSelection
from nsd_prep.voxels_file import digest_of_voxels, read_voxels_file, write_voxels


@pytest.fixture
def selection(official: SmallNSD) -> VoxelSelection:
    regions = {name: BUILT_IN_REGIONS[name] for name in ("V1", "V4", "IT")}
    return select_voxels(open_dataset(official.root), 1, regions)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


class TestVoxelsFile:
    def test_what_is_written_is_read(self, selection: VoxelSelection, store: Path) -> None:
        path = write_voxels(store, 1, selection.grid, selection.regions)
        grid, regions = read_voxels_file(path)
        assert grid == selection.grid
        assert list(regions) == list(selection.regions)
        for name, voxels in regions.items():
            assert np.array_equal(voxels, selection.regions[name])

    def test_the_name_tells_what_it_holds(self, selection: VoxelSelection, store: Path) -> None:
        whole = write_voxels(store, 1, selection.grid, selection.regions)
        fewer = {name: selection.regions[name] for name in ("V1", "IT")}
        other = write_voxels(store, 1, selection.grid, fewer)
        assert whole != other
        assert write_voxels(store, 1, selection.grid, selection.regions) == whole

    @pytest.mark.parametrize("name", ["grid", "file", "allow_pickle", "V 1"])
    def test_a_region_of_any_name(self, store: Path, name: str) -> None:
        path = write_voxels(store, 1, (2, 3, 4), {name: np.array([5, 6])})
        assert read_voxels_file(path)[1][name].tolist() == [5, 6]

    def test_the_digest_of_voxels_depends_on_voxels_and_grid(self) -> None:
        digests = {
            digest_of_voxels(np.array(voxels), grid)
            for voxels, grid in [
                ([1, 2, 3], (4, 5, 6)),
                ([1, 2, 4], (4, 5, 6)),
                ([1, 2], (4, 5, 6)),
                ([1, 2, 3], (5, 4, 6)),
            ]
        }
        assert len(digests) == 4
