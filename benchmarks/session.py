"""One real-size session: the library against the whole volume, cold and warm.

Run ``python benchmarks/session.py --nsd-root ROOT`` on a dataset whose subject 1, session 1 holds
every voxel, as a real file does: real NSD, or what
``nsd-prep synth ROOT --scale full --subjects 1 --every-chunk 1:1`` writes. With no root such a
dataset is written to a temporary folder first (2 GB).

Each way runs in a process of its own, the two in turn, five times; the table shows medians.
Cold means that the file's pages were dropped from the system's cache before.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from peak_memory import peak_memory
from rich.console import Console
from rich.table import Table

from nsd_prep.dataset.betas import read_voxels
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.published import VOXEL_COUNTS
from nsd_prep.dataset.regions import BUILT_IN_REGIONS, VoxelSelection
from nsd_prep.extraction.zscore import zscore_trials
from nsd_prep.sources.opening import open_dataset
from nsd_prep.synthetic import write_synthetic_nsd

SUBJECT, SESSION = 1, 1
RUNS = 5


def library(dataset: Dataset, selection: VoxelSelection) -> None:
    """Read the four regions' voxels and z-score them."""
    voxels = selection.union()
    path = dataset.session_file(SUBJECT, SESSION)
    zscore_trials(read_voxels(path, voxels, selection.space.shape, dataset.trials_per_session))


def whole_volume(dataset: Dataset, selection: VoxelSelection) -> None:
    """Read the session's volume, then mask each region and z-score it."""
    with h5py.File(dataset.session_file(SUBJECT, SESSION)) as file:
        betas = file["betas"][:].astype(np.float32) / 300
    for voxels in selection.regions.values():
        region = betas[:, selection.space.mask(voxels)]
        deviation = region.std(axis=0)
        deviation[deviation == 0] = 1
        (region - region.mean(axis=0)) / deviation


def drop_from_cache(path: Path) -> None:
    """Make the next read of a file come from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(way: str, root: Path) -> None:
    """Run one way in this process, and print what it cost as JSON."""
    dataset = open_dataset(root)
    definitions = {name: BUILT_IN_REGIONS[name] for name in VOXEL_COUNTS}
    selection = select_voxels(dataset, SUBJECT, definitions)
    before, started = bytes_asked(), time.perf_counter()
    {"library": library, "whole volume": whole_volume}[way](dataset, selection)
    cost = {
        "seconds": time.perf_counter() - started,
        "bytes": bytes_asked() - before,
        "memory": peak_memory(),
    }
    print(json.dumps(cost))


def bytes_asked() -> int:
    """Return how many bytes this process has read so far, from disk or cache (Linux)."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def main() -> None:
    """Measure both ways, cold and warm, and print the table."""
    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--nsd-root", type=Path)
    command.add_argument("--runs", type=int, default=RUNS)
    command.add_argument("--way", choices=["library", "whole volume"], help=argparse.SUPPRESS)
    arguments = command.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.nsd_root)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.nsd_root or Path(folder) / "nsd"
        if arguments.nsd_root is None:
            full = [(SUBJECT, SESSION)]
            write_synthetic_nsd(root, scale="full", subjects=[SUBJECT], full_sessions=full)
        compare(root, arguments.runs)


def compare(root: Path, runs: int) -> None:
    """Run the ways in turn, and print their medians."""
    path = open_dataset(root).session_file(SUBJECT, SESSION)
    costs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(runs):
        for cache in ("cold", "warm"):
            for way in ("whole volume", "library"):
                if cache == "cold":
                    drop_from_cache(path)
                words = [sys.executable, __file__, "--nsd-root", str(root), "--way", way]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                costs.setdefault((cache, way), []).append(json.loads(done.stdout))
    table = Table(title=f"{path.name}, {path.stat().st_size / 1e9:.2f} GB; medians of {runs}")
    for column in ("cache", "way", "seconds", "times faster", "share of the file asked", "memory"):
        table.add_column(column, justify="left" if column in ("cache", "way") else "right")
    for (cache, way), measured in costs.items():
        middle = {name: statistics.median(cost[name] for cost in measured) for name in measured[0]}
        reference = statistics.median(cost["seconds"] for cost in costs[cache, "whole volume"])
        table.add_row(
            cache,
            way,
            f"{middle['seconds']:.3f}",
            f"{reference / middle['seconds']:.0f}",
            f"{middle['bytes'] / path.stat().st_size:.1%}",
            f"{middle['memory'] / 1e6:.0f} MB",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
