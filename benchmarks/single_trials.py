"""All trials of a subject: writing them against a plain loop, and reading random batches.

Run ``python benchmarks/single_trials.py --nsd-root ROOT`` on real NSD, or on what ``nsd-prep synth
ROOT --scale full --every-chunk 1:1`` writes; there with ``--one-session``, which reads session 1 in
place of every other one, since it alone holds every voxel, as a real file does.

Each way of writing runs in a process of its own, all in turn; the tables show medians. Everything
is warm: the sessions are read once before.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peak_memory import peak_memory
from rich.console import Console
from rich.table import Table

from nsd_prep.dataset.betas import read_voxels
from nsd_prep.dataset.design import read_design
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.published import BETA_SCALE
from nsd_prep.dataset.regions import BUILT_IN_REGIONS
from nsd_prep.dataset.space import VolumeSpace
from nsd_prep.dataset.splits import images_seen_three_times
from nsd_prep.dataset.trials import trial_table
from nsd_prep.dataset.volumes import read_ncsnr
from nsd_prep.single_trials import TrialReader, open_single_trials
from nsd_prep.single_trials.normalise import normalised_sessions
from nsd_prep.single_trials.voxels import trial_voxels
from nsd_prep.single_trials.writer import checked_sessions, write_rows
from nsd_prep.sources.opening import open_dataset

SUBJECT = 1
#: Of nsdgeneral in NSD's subject 1; where a dataset has fewer, other voxels are added.
VOXELS = 15_724
RUNS = 3
BATCH, BATCHES = 512, 11
WRITERS = {
    "plain loop": ("float32", "npy"),
    "netCDF": ("float32", "netcdf"),
    "netCDF int16": ("int16", "netcdf"),
    "Zarr": ("float32", "zarr"),
    "Zarr float16": ("float16", "zarr"),
}


def chosen_voxels(dataset: Dataset) -> tuple[NDArray[np.int64], VolumeSpace]:
    """Return as many voxels as nsdgeneral has in NSD, ascending, and their space."""
    selection = select_voxels(dataset, SUBJECT, {"nsdgeneral": BUILT_IN_REGIONS["nsdgeneral"]})
    voxels = selection.regions["nsdgeneral"]
    others = np.setdiff1d(np.arange(voxels[0], voxels[-1]), voxels)
    missing = max(VOXELS - len(voxels), 0)
    added = others[np.linspace(0, len(others) - 1, missing).astype(np.int64)]
    return np.union1d(voxels, added), selection.space


def sessions(
    dataset: Dataset, voxels: NDArray[np.int64], space: VolumeSpace, one_session: bool
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Read the sessions one after the other."""
    for session in range(1, dataset.sessions[SUBJECT] + 1):
        path = dataset.session_file(SUBJECT, 1 if one_session else session)
        yield session, read_voxels(path, voxels, space.shape, dataset.trials_per_session)


def plain_loop(path: Path, dataset: Dataset, one_session: bool) -> None:
    """Read, z-score, and write one array with numpy.save."""
    voxels, space = chosen_voxels(dataset)
    n = dataset.trials_per_session
    responses = np.empty((dataset.trials(SUBJECT), len(voxels)), dtype=np.float32)
    for session, values in sessions(dataset, voxels, space, one_session):
        x = values.T.astype(np.float32) / np.float32(BETA_SCALE)
        deviation = x.std(axis=0)
        deviation[deviation == 0] = 1
        responses[(session - 1) * n : session * n] = (x - x.mean(axis=0)) / deviation
    np.save(path, responses)


def library(path: Path, dataset: Dataset, one_session: bool, dtype: str, format: str) -> None:
    """Read, normalise and write with tables, verified, session by session."""
    voxels, space = chosen_voxels(dataset)
    design = read_design(dataset.design_file)
    usable = images_seen_three_times(design, dataset.sessions, dataset.trials_per_session)
    trials = trial_table(design, SUBJECT, dataset.sessions, dataset.trials_per_session, usable)
    ncsnr = read_ncsnr(dataset.ncsnr_file(SUBJECT)).values
    table = trial_voxels({"nsdgeneral": voxels}, space, ncsnr)
    read = sessions(dataset, voxels, space, one_session)
    write_rows(
        path,
        checked_sessions(normalised_sessions(read, trials, "session"), trials),
        trials,
        table,
        dtype=dtype,
        format=format,
        attributes={"subject": SUBJECT},
    )


def measure(way: str, root: Path, path: Path, one_session: bool) -> None:
    """Run one way in this process, and print what it cost as JSON."""
    dataset = open_dataset(root)
    dtype, format = WRITERS[way]
    started = time.perf_counter()
    if format == "npy":
        plain_loop(path, dataset, one_session)
    else:
        library(path, dataset, one_session, dtype, format)
    seconds = time.perf_counter() - started
    memory = peak_memory()
    print(json.dumps({"seconds": seconds, "memory": memory}))


def path_of(folder: Path, way: str) -> Path:
    """Return where a way writes."""
    endings = {"npy": "npy", "netcdf": "nc", "zarr": "zarr"}
    return folder / f"{way.replace(' ', '-').lower()}.{endings[WRITERS[way][1]]}"


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def write_all(root: Path, folder: Path, runs: int, one_session: bool) -> None:
    """Run the ways of writing in turn, and print their medians."""
    costs: dict[str, list[dict[str, float]]] = {way: [] for way in WRITERS}
    for _ in range(runs):
        for way in WRITERS:
            path = path_of(folder, way)
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
            words = [sys.executable, __file__, "--nsd-root", str(root), "--folder", str(folder)]
            words += ["--way", way] + ["--one-session"] * one_session
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            costs[way].append(json.loads(done.stdout))
    voxels, _ = chosen_voxels(open_dataset(root))
    n_values = open_dataset(root).trials(SUBJECT) * len(voxels)
    table = Table(title=f"Writing {n_values / 1e6:.0f} million values; medians of {runs}")
    for column in ("way", "seconds", "of the plain loop", "memory", "file", "of its values"):
        table.add_column(column, justify="left" if column == "way" else "right")
    middle = {
        way: {name: statistics.median(cost[name] for cost in each) for name in each[0]}
        for way, each in costs.items()
    }
    for way, cost in middle.items():
        size = size_of(path_of(folder, way))
        table.add_row(
            way,
            f"{cost['seconds']:.1f}",
            f"{cost['seconds'] / middle['plain loop']['seconds']:.2f}",
            f"{cost['memory'] / 1e6:.0f} MB",
            f"{size / 1e6:.0f} MB",
            f"{size / (n_values * np.dtype(WRITERS[way][0]).itemsize):.4f}",
        )
    Console().print(table)


def read_all(folder: Path) -> None:
    """Read random batches in every way, and print the medians."""
    mapped = np.load(path_of(folder, "plain loop"), mmap_mode="r")
    datasets = {way: open_single_trials(path_of(folder, way)) for way in ("netCDF", "Zarr")}
    readers = {way: TrialReader(path_of(folder, way)) for way in WRITERS if way != "plain loop"}
    ways = {".npy memory map": lambda rows: np.array(mapped[rows])}
    ways |= {f"{way}, TrialReader": reader.__getitem__ for way, reader in readers.items()}
    ways |= {
        f"{way}, xarray": lambda rows, dataset=dataset: dataset["response"][rows].to_numpy()
        for way, dataset in datasets.items()
    }
    rng = np.random.default_rng(0)
    costs: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(BATCHES):
        rows = rng.choice(len(mapped), BATCH, replace=False)
        expected = mapped[rows]
        for way, read in ways.items():
            started = time.perf_counter()
            batch = read(rows)
            costs[way].append(time.perf_counter() - started)
            tolerance = {"int16": 0.00051, "float16": 0.01}.get(way.split(",")[0].split()[-1], 1e-6)
            np.testing.assert_allclose(batch, expected, rtol=0, atol=tolerance)
    table = Table(title=f"A batch of {BATCH} random trials, {mapped.shape[1]:,} voxels, warm")
    for column in ("way", "median, ms", "fastest", "slowest"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, seconds in costs.items():
        figures = (statistics.median(seconds[1:]), min(seconds[1:]), max(seconds[1:]))
        table.add_row(way, *(f"{1000 * figure:.0f}" for figure in figures))
    Console().print(table)


def main() -> None:
    """Measure writing and reading, and print the tables."""
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--nsd-root", type=Path, required=True)
    command.add_argument("--folder", type=Path, help="for the files, 9 GB; a temporary one")
    command.add_argument("--runs", type=int, default=RUNS)
    command.add_argument("--one-session", action="store_true")
    command.add_argument("--way", choices=WRITERS, help=argparse.SUPPRESS)
    arguments = command.parse_args()
    if arguments.way:
        path = path_of(arguments.folder, arguments.way)
        measure(arguments.way, arguments.nsd_root, path, arguments.one_session)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        dataset = open_dataset(arguments.nsd_root)
        for _ in sessions(dataset, *chosen_voxels(dataset), arguments.one_session):
            pass  # warm
        write_all(arguments.nsd_root, Path(folder), arguments.runs, arguments.one_session)
        read_all(Path(folder))


if __name__ == "__main__":
    main()
