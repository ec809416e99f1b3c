"""Betas read from a server with 30 ms of latency: bytes, requests, time and memory.

Run ``python benchmarks/bucket.py --nsd-root ROOT`` on a dataset whose subject 1, session 1 holds
every voxel, as a real file does: real NSD, or what
``nsd-prep synth ROOT --scale full --subjects 1 --every-chunk 1:1`` writes. With no root such a
dataset is written to a temporary folder first (2 GB).

The server is `tests/range_server.py`, as a process of its own; sixteen sessions are the one file
under sixteen names. The voxels are those of V1, V2, V4 and IT; NSD's own lie in 725 ranges of
31.5 MB a session with gaps of 32 KiB, those of the synthetic dataset in some more.
"""

import argparse
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import obstore
from numpy.typing import NDArray
from peak_memory import peak_memory

from nsd_prep.dataset.betas import read_voxels
from nsd_prep.dataset.hdf5.places import ChunkPlaces
from nsd_prep.extraction.zscore import zscore_trials
from nsd_prep.sources.bucket import BucketSource
from nsd_prep.sources.client import CONCURRENCY, Client
from nsd_prep.sources.estimate import model_seconds
from nsd_prep.sources.sessions import predicted_parts

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from range_server import server_process

LATENCY = 0.030
N_SESSIONS = 16
ALL_SESSIONS = 240
LINKS = {"100 Mbit/s": 100e6 / 8, "1 Gbit/s": 1e9 / 8, "10 Gbit/s": 10e9 / 8}

#: The bars: share of the file, requests, seconds and bytes of memory for one session; and how many
#: times longer than the bare requests sixteen of them may take, and seconds of processor beyond.
BARS = {
    "share": 0.035,
    "requests": 1200,
    "seconds": 6.0,
    "memory": 250e6,
    "times": 1.0,
    "processor": 0.1,
}


class Selection(NamedTuple):
    """What is read.

    Attributes
    ----------
    voxels : ndarray of int64
        Sites.
    shape : tuple of int
        Of all sites.
    n_trials : int
        Trials of a session.
    """

    voxels: NDArray[np.int64]
    shape: tuple[int, ...]
    n_trials: int


def measured(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def one_session(url: str, selection: Selection, local: Path) -> dict[str, float]:
    """Read a session once, and compare it with the local file."""
    with tempfile.TemporaryDirectory() as mirror:
        source = BucketSource(url, Path(mirror))
        started, used = time.perf_counter(), time.process_time()
        path = Path(mirror) / "01.hdf5"
        values = source.read_voxels(path, selection.voxels, selection.shape, selection.n_trials)
        seconds, used = time.perf_counter() - started, time.process_time() - used
        memory = peak_memory()
        transfer = source.transfer
        source.close()
    expected = read_voxels(local, selection.voxels, selection.shape, selection.n_trials)
    assert np.array_equal(values, expected), "other values than those of the local file"
    return {
        "requests": sum(transfer.requests.values()),
        "bytes": sum(transfer.bytes.values()),
        "seconds": seconds,
        "processor": used,
        "memory": memory,
    }


def hobbled(n_threads: int) -> None:
    """Let threads of this process keep its interpreter busy, as a profiler would."""

    def work() -> None:
        while True:
            sum(range(1000))

    for _ in range(n_threads):
        threading.Thread(target=work, daemon=True).start()


def many_sessions(url: str, selection: Selection, busy: int) -> dict[str, float]:
    """Read and z-score sixteen sessions, the next ones fetched meanwhile."""
    hobbled(busy)
    with tempfile.TemporaryDirectory() as mirror:
        source = BucketSource(url, Path(mirror))
        paths = [Path(mirror) / f"{number:02d}.hdf5" for number in range(1, N_SESSIONS + 1)]
        rest = (selection.voxels, selection.shape, selection.n_trials)
        started, used = time.perf_counter(), time.process_time()
        scored = 0.0
        source.identities(paths)
        for at, path in enumerate(paths):
            for following in paths[at : at + 4]:
                source.prefetch(following, *rest)
            values = source.read_voxels(path, *rest)
            begun = time.thread_time()
            zscore_trials(values)
            scored += time.thread_time() - begun
        seconds, used = time.perf_counter() - started, time.process_time() - used
        transfer = source.transfer
        source.close()
    return {
        "requests": sum(transfer.requests.values()),
        "bytes": sum(transfer.bytes.values()),
        "seconds": seconds,
        "processor": used,
        "z-scores": scored,
        "memory": peak_memory(),
    }


def bare_requests(url: str, selection: Selection, busy: int) -> dict[str, float]:
    """Fetch the ranges of sixteen sessions with obstore alone, and look at nothing."""
    hobbled(busy)
    parts = predicted_parts(selection.shape, selection.n_trials, selection.voxels)
    ranges = [piece for part in parts for piece in part.ranges.pieces()]
    store = Client(url).address.store()

    def fetch(request: tuple[str, tuple[int, int]]) -> int:
        return len(obstore.get(store, request[0], options={"range": request[1]}).bytes())

    everything = [
        (f"{number:02d}.hdf5", span) for number in range(1, N_SESSIONS + 1) for span in ranges
    ]
    started, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        n_bytes = sum(pool.map(fetch, everything))
    return {
        "requests": len(everything),
        "bytes": n_bytes,
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - used,
        "memory": peak_memory(),
    }


def main() -> None:
    """Measure, and print the tables and which bars are met."""
    # The processes whose memory is measured import none of these.
    from nsd_prep.dataset.masks import select_voxels
    from nsd_prep.dataset.published import VOXEL_COUNTS
    from nsd_prep.dataset.regions import BUILT_IN_REGIONS
    from nsd_prep.sources.opening import open_dataset
    from nsd_prep.synthetic import write_synthetic_nsd

    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--nsd-root", type=Path)
    command.add_argument("--latency", type=float, default=LATENCY)
    command.add_argument("--busy", type=int, default=0, help="busy threads beside the reading")
    arguments = command.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.nsd_root or Path(folder) / "nsd"
        if arguments.nsd_root is None:
            write_synthetic_nsd(root, scale="full", subjects=[1], full_sessions=[(1, 1)])
        dataset = open_dataset(root)
        file = dataset.session_file(1, 1)
        served = Path(folder) / "served"
        served.mkdir()
        for number in range(1, N_SESSIONS + 1):
            (served / f"{number:02d}.hdf5").symlink_to(file)
        definitions = {name: BUILT_IN_REGIONS[name] for name in VOXEL_COUNTS}
        regions = select_voxels(dataset, 1, definitions)
        selection = Selection(regions.union(), regions.space.shape, dataset.trials_per_session)
        with server_process(served, arguments.latency) as url:
            compare(url, selection, file, arguments.busy)
    print_model(selection)


def compare(url: str, selection: Selection, file: Path, busy: int) -> None:
    """Read the voxels in each way, and print what it took with the bars."""
    from rich.console import Console
    from rich.table import Table

    size = file.stat().st_size
    rows = {
        "one session": measured(one_session, url, selection, file),
        f"{N_SESSIONS} sessions, checked and z-scored": measured(
            many_sessions, url, selection, busy
        ),
        f"{N_SESSIONS} sessions' ranges by obstore alone": measured(
            bare_requests, url, selection, busy
        ),
    }
    title = f"{len(selection.voxels)} voxels; file of {size / 1e6:.0f} MB"
    table = Table(title=title)
    columns = ("", "requests", "MB", "share", "seconds", "model", "processor s", "memory MB")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for name, row in rows.items():
        n_files = 1 if name == "one session" else N_SESSIONS
        model = model_seconds(int(row["requests"]), int(row["bytes"]), float("inf"))
        table.add_row(
            name,
            f"{row['requests']:.0f}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['bytes'] / size / n_files:.2%}",
            f"{row['seconds']:.2f}",
            f"{model:.2f}",
            f"{row['processor']:.2f}",
            f"{row['memory'] / 1e6:.0f}",
        )
    library, many, bare = rows.values()
    reached = {
        "share": library["bytes"] / size,
        "requests": library["requests"],
        "seconds": library["seconds"],
        "memory": library["memory"],
        "times": many["seconds"] / bare["seconds"],
        "processor": (many["processor"] - many["z-scores"] - bare["processor"]) / N_SESSIONS,
    }
    console = Console(width=120)
    console.print(table)
    for name, bar in BARS.items():
        verdict = "met" if reached[name] <= bar else "NOT met"
        console.print(f"{name}: {reached[name]:.4g}, bar {bar:.4g}: {verdict}")


def print_model(selection: Selection) -> None:
    """Print the minutes that all 240 sessions take by the model, for gaps and links."""
    from rich.console import Console
    from rich.table import Table

    places = ChunkPlaces.predict(selection.shape, selection.n_trials)
    table = Table(title=f"{ALL_SESSIONS} sessions, {LATENCY * 1000:.0f} ms, by the model")
    for column in ("gap KiB", "requests", "GB", *(f"min at {link}" for link in LINKS)):
        table.add_column(column, justify="right")
    for gap in (16, 24, 32, 64, 256):
        ranges = places.ranges(selection.voxels, gap * 1024)
        n_requests = ALL_SESSIONS * (1 + len(ranges.pieces()))
        n_bytes = ALL_SESSIONS * ranges.n_bytes
        minutes = [model_seconds(n_requests, n_bytes, link) / 60 for link in LINKS.values()]
        table.add_row(
            f"{gap}", f"{n_requests}", f"{n_bytes / 1e9:.1f}", *(f"{m:.1f}" for m in minutes)
        )
    whole = ALL_SESSIONS * places.file_bytes
    minutes = [whole / link / 60 for link in LINKS.values()]
    table.add_row(
        "whole files", f"{ALL_SESSIONS}", f"{whole / 1e9:.1f}", *(f"{m:.0f}" for m in minutes)
    )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
