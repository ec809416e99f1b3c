"""What a run takes from its assemblies as they were written: RDMs, and the values to check."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nsd_prep.analysis.geometry import RegionGeometry, region_geometry
from nsd_prep.assemblies.assembly import SubjectVoxels, build_assembly, voxel_table, without_gaps
from nsd_prep.assemblies.assembly_file import read_assembly, write_assembly
from nsd_prep.checks.assembly import DIMENSIONS, check_form
from nsd_prep.checks.assembly_values import values_of_neuroids
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.dataset.space import Space, SurfaceSpace, VolumeSpace
from nsd_prep.pipeline.steps.assemblies import Representations

SUBJECTS = (5, 2, 7)
NSD_IDS = np.arange(0, 40, 2)
SPACES = {
    "volume": VolumeSpace((6, 7, 8), np.eye(4)),
    "surface": SurfaceSpace((150, 130)),
}


def made(space: Space, seed: int = 0) -> xr.DataArray:
    """Return an assembly of three subjects with other numbers of voxels; of surfaces with gaps."""
    rng = np.random.default_rng(seed)
    rows = []
    for n_voxels, subject in zip((30, 1, 55), SUBJECTS, strict=True):
        sites = np.sort(rng.choice(int(np.prod(space.shape)), n_voxels, replace=False))
        ncsnr = rng.uniform(0, 2, n_voxels).astype(np.float32)
        ceilings = 100 * rng.random(n_voxels)
        none = np.zeros(n_voxels, np.int64)
        rows.append(SubjectVoxels(subject, space, sites, ncsnr, ceilings, none))
    table = voxel_table("V1", rows)
    responses = rng.normal(size=(len(NSD_IDS), len(table))).astype(np.float32)
    if isinstance(space, SurfaceSpace):
        responses[3:5, [2, 40]] = np.nan
    return build_assembly(responses, NSD_IDS, table, {}, space.coordinates)


def written(assembly: xr.DataArray, folder: Path, *, with_reliable: bool = True) -> Representations:
    """Write an assembly, and return what a run takes from it."""
    write_assembly(assembly, folder / "one.nc")
    output = StepOutput.in_folder(Folder(path=folder), ["one.nc"])
    return Representations({"V1": output}, Folder(path=folder), with_reliable)


def expected(assembly: xr.DataArray, keep: np.ndarray) -> RegionGeometry:
    """Return the RDMs of an assembly that is in memory whole."""
    whole = without_gaps(assembly)
    return region_geometry("V1", whole.to_numpy(), whole["subject"].to_numpy(), keep)


def require_same(found: RegionGeometry, known: RegionGeometry) -> None:
    assert (found.region, found.subjects) == (known.region, known.subjects)
    for name in ("n_voxels", "n_without_variance", "rdms"):
        assert np.array_equal(getattr(found, name), getattr(known, name), equal_nan=True), name


@pytest.mark.parametrize("space", SPACES)
class TestRead:
    def test_rdms_are_those_of_the_whole_assembly(self, space: str, tmp_path: Path) -> None:
        assembly = made(SPACES[space])
        geometry = written(assembly, tmp_path).geometry
        reliable = assembly["nc_testset"].to_numpy() > RELIABLE_NOISE_CEILING
        assert 0 < reliable.sum() < len(reliable)
        assert np.array_equal(geometry.nsd_ids, NSD_IDS)
        (found,), (found_reliable,) = geometry.all_voxels, geometry.reliable_voxels
        require_same(found, expected(assembly, np.ones_like(reliable)))
        require_same(found_reliable, expected(assembly, reliable))
        assert found.subjects == ("subj05", "subj02", "subj07")

    def test_reliable_voxels_are_left_out_where_they_are_not_needed(
        self, space: str, tmp_path: Path
    ) -> None:
        geometry = written(made(SPACES[space]), tmp_path, with_reliable=False).geometry
        assert geometry.reliable_voxels == ()
        assert len(geometry.all_voxels) == 1

    def test_values_are_those_of_the_whole_assembly(self, space: str, tmp_path: Path) -> None:
        assembly = made(SPACES[space])
        form, values = written(assembly, tmp_path).summarise("V1")
        known = values_of_neuroids(assembly.to_numpy())
        for name in ("n_nan", "n_not_finite", "spread"):
            found = getattr(values, name)
            assert np.array_equal(found, getattr(known, name), equal_nan=True), name
        for name in ("total", "squares"):  # of a subject's one voxel sums are in another order
            np.testing.assert_allclose(getattr(values, name), getattr(known, name), rtol=1e-12)
        assert (form.dims, form.shape, form.dtype) == (
            assembly.dims,
            assembly.shape,
            assembly.dtype,
        )
        xr.testing.assert_identical(form[:0], assembly[:0])
        assert set(form.to_numpy().strides) == {0}, "values take memory"

    def test_neuroids_of_subjects_that_do_not_stand_together(
        self, space: str, tmp_path: Path
    ) -> None:
        mixed = made(SPACES[space])[:, np.random.default_rng(1).permutation(86)]
        (found,) = written(mixed, tmp_path).geometry.all_voxels
        require_same(found, expected(mixed, np.ones(86, np.bool_)))

    def test_nothing_is_read_of_the_file_afterwards(self, space: str, tmp_path: Path) -> None:
        assembly = made(SPACES[space])
        form, _ = written(assembly, tmp_path).summarise("V1")
        gc.collect()
        opened = [os.path.realpath(link) for link in Path("/proc/self/fd").glob("*")]
        assert str(tmp_path / "one.nc") not in opened
        (tmp_path / "one.nc").unlink()
        for name in assembly.coords:
            assert np.array_equal(form[name], assembly[name], equal_nan=name == "nc_testset")

    def test_swapped_dimensions_are_a_check_that_fails(self, space: str, tmp_path: Path) -> None:
        representations = written(made(SPACES[space]).transpose(), tmp_path)
        form, values = representations.summarise("V1")
        checks = check_form("V1", form, SUBJECTS, NSD_IDS, values=values)
        (dimensions,) = (check for check in checks if check.name == DIMENSIONS.name)
        assert dimensions.verdict == "failed"


def test_rdms_are_in_memory_once(tmp_path: Path) -> None:
    representations = written(made(SPACES["volume"]), tmp_path)
    geometry = representations.geometry
    assert np.shares_memory(
        geometry.all_voxels[0].rdms, representations._regions["V1"].all_voxels[0].rdms
    )


def test_an_assembly_is_read_once(tmp_path: Path) -> None:
    representations = written(made(SPACES["volume"]), tmp_path)
    representations.summarise("V1")
    (tmp_path / "one.nc").unlink()
    assert len(representations.geometry.all_voxels[0].subjects) == 3
    with pytest.raises(OSError, match=r"one\.nc"):
        read_assembly(tmp_path / "one.nc")


#: Files that someone opened and never closed are closed when garbage is collected, in any thread.
LEAKING = """
import gc, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import xarray as xr
import test_representations as inputs
gc.set_threshold(50)
folder, assembly = Path(sys.argv[2]), inputs.made(inputs.SPACES["volume"])
for _ in range(100):
    inputs.written(assembly, folder).summarise("V1")
    opened = xr.open_dataarray(folder / "one.nc")
    opened["nc_testset"].to_numpy()
    cycle = [opened]
    cycle.append(cycle)
    del opened, cycle
"""


@pytest.mark.slow
def test_files_that_someone_else_never_closed_do_no_harm(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEAKING, str(Path(__file__).parent), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-500:]
