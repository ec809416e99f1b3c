"""One thread of a process uses HDF5 and netCDF at a time."""

import ast
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

import nsd_prep
from nsd_prep.core.hdf5_lock import HDF5_LOCK, NETCDF_LOCK

#: What opens a file of HDF5 or netCDF, or writes one.
OPENING = {"File", "open_dataset", "open_dataarray", "load_dataset", "load_dataarray", "to_netcdf"}
MODULES = {"h5py", "netCDF4", "xr"}
LOCKS = {"HDF5_LOCK", "NETCDF_LOCK"}


def opening_calls(tree: ast.Module) -> list[tuple[ast.Call, bool]]:
    """Return the calls that open files, and whether each is made while the lock is held."""
    found = []

    def visit(node: ast.AST, locked: bool) -> None:
        if isinstance(node, ast.With):
            for item in node.items:  # an item is entered after those before it
                visit(item.context_expr, locked)
                locked |= getattr(item.context_expr, "id", "") in LOCKS
            for child in node.body:
                visit(child, locked)
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            module = getattr(node.func.value, "id", "")
            opens = module in MODULES and node.func.attr in OPENING
            opens |= (module, node.func.attr) == ("netCDF4", "Dataset")
            if opens or node.func.attr == "to_netcdf":
                found.append((node, locked))
        for child in ast.iter_child_nodes(node):
            visit(child, locked)

    visit(tree, False)
    return found


def test_every_file_is_opened_under_the_lock() -> None:
    modules = sorted(Path(nsd_prep.__file__).parent.rglob("*.py"))
    calls = {module: opening_calls(ast.parse(module.read_text())) for module in modules}
    assert sum(map(len, calls.values())) >= 10
    unlocked = [f"{m.name}:{call.lineno}" for m in calls for call, held in calls[m] if not held]
    assert unlocked == []


def test_it_is_the_same_for_all_and_reentrant() -> None:
    other = pickle.loads(pickle.dumps(HDF5_LOCK))
    with HDF5_LOCK, other:
        free = []
        thread = threading.Thread(target=lambda: free.append(other.acquire(blocking=False)))
        thread.start()
        thread.join()
    assert free == [False]


def xarray_s_is_free() -> bool:
    free = bool(NETCDF4_PYTHON_LOCK.acquire(blocking=False))
    if free:
        NETCDF4_PYTHON_LOCK.release()
    return free


def test_xarray_s_own_lock_is_held_and_released_with_that_of_netcdf() -> None:
    assert xarray_s_is_free()
    with HDF5_LOCK:
        assert xarray_s_is_free()  # xarray takes it itself
        with pickle.loads(pickle.dumps(NETCDF_LOCK)):
            assert not xarray_s_is_free()
        assert xarray_s_is_free()


@pytest.mark.parametrize("held", [0, 1])
def test_that_of_netcdf_is_not_taken_where_xarray_s_is_and_nobody_waits(held: int) -> None:
    with NETCDF4_PYTHON_LOCK.locks[held]:
        assert NETCDF_LOCK.acquire(blocking=False) is False
    assert xarray_s_is_free()
    assert NETCDF_LOCK.acquire(blocking=False) is True
    NETCDF_LOCK.release()
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(HDF5_LOCK.acquire, False).result() is True
        thread.submit(HDF5_LOCK.release).result()


PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xarray as xr

import nsd_prep
from nsd_prep.assemblies.assembly_file import read_assembly, write_assembly
from nsd_prep.dataset.betas import read_voxels
from nsd_prep.single_trials import TrialReader, open_single_trials

root, folder = Path(sys.argv[1]), Path(sys.argv[2])
nsd = nsd_prep.open_nsd(root, subjects=[1, 2], cache_dir=folder / "cache")
session = next(iter(sorted(root.rglob("betas_session01.hdf5"))))


def single_trials(turn):
    with nsd.single_trials(1 + turn % 2, ["V1", "V4"][: 1 + turn // 4 % 2]) as dataset:
        return float(dataset["response"][turn % 5].sum())


def assembly(turn):
    path = folder / f"{turn}.nc"
    write_assembly(xr.DataArray(np.full((9, 4), turn, "f4"), dims=("a", "b"), name="data"), path)
    return float(read_assembly(path).sum())


def betas(turn):
    return float(read_voxels(session, np.arange(5), (8, 7, 6), 1).sum())


def call(turn):
    try:
        return (single_trials, assembly, betas)[turn % 3](turn)
    except nsd_prep.core.errors.InputFileError as error:  # of another grid
        return str(error)


with ThreadPoolExecutor(8) as threads:
    given = list(threads.map(call, range(180)))
assert given == [call(turn) for turn in range(180)]
print("the same")
"""


@pytest.mark.slow
def test_threads_that_read_and_write_all_kinds_of_files(tiny_nsd: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(tiny_nsd), str(tmp_path)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "the same\n"), run.stderr[-3000:]
