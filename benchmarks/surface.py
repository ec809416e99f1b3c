"""One session of real size on surfaces: time for each site against the volume, memory, a server.

Run ``python benchmarks/surface.py --nsd-root ROOT`` on a dataset whose subject 5, session 1 holds
every voxel and vertex, as real files do: real NSD, or what ``nsd-prep synth ROOT --scale full
--surfaces --subjects 5 --every-chunk 5:1`` writes. With no root such a dataset is written to a
temporary folder first (6 GB, some minutes).

Each way runs in a process of its own, in turn, warm; the table shows medians. The sites are those
of V1, V2, V4 and IT, as each space has them. The server is `tests/range_server.py`. Memory is that
of an environment without the extra ``parquet``: where pyarrow is installed, pandas imports it, 36
MB more.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peak_memory import peak_memory

from nsd_prep.dataset.beta_files import BetaFile, beta_files, read_native_vertices, read_of_files
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.regions import built_in_regions
from nsd_prep.dataset.space import SurfaceSpace
from nsd_prep.extraction.zscore import zscore_trials, zscore_vertices
from nsd_prep.sources.opening import open_dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from range_server import server_process

SUBJECT, SESSION = 5, 1
REGIONS = ("V1", "V2", "V4", "IT")
LATENCY = 0.030
RUNS = 5
#: The bars: seconds for each site in units of the volume's; bytes of memory; times obstore alone;
#: bytes from a server; seconds of .mgh in units of nibabel's.
BARS = {
    "native, seconds a site against the volume's": 1.5,
    "native, MB of memory": 200.0,
    "native from a server, seconds against obstore alone": 3.0,
    "fsaverage from native files on a server, MB": 45.0,
    "mgh, MB of memory": 700.0,
    "mgh, seconds against nibabel's": 1.0,
}

Work = tuple[Dataset, list[tuple[BetaFile, NDArray[np.int64]]], bool]


def work(root: Path, way: str) -> Work:
    """Return a dataset, the session's files with the sites to read, and whether it has surfaces."""
    space, surface_files = {
        "volume": ("func1pt8mm", "native"),
        "native surface": ("nativesurface", "native"),
        "fsaverage, native files": ("fsaverage", "native"),
        "fsaverage, mgh": ("fsaverage", "mgh"),
        "fsaverage, nibabel": ("fsaverage", "mgh"),
    }[way]
    dataset = open_dataset(root, space=space, surface_files=surface_files)
    regions = built_in_regions(space)
    selection = select_voxels(dataset, SUBJECT, {name: regions[name] for name in REGIONS})
    native = None
    if dataset.is_through_native:
        native = read_native_vertices(dataset, SUBJECT, selection.space)
    files = beta_files(dataset, SUBJECT, SESSION, selection.space, native)
    is_surface = isinstance(selection.space, SurfaceSpace)
    return dataset, read_of_files(files, selection.union()), is_surface


def one_session(root: Path, way: str) -> dict[str, float]:
    """Read the sites of a session and z-score them, in one way."""
    dataset, files, is_surface = work(root, way)
    n_trials = dataset.trials_per_session
    zscore = zscore_vertices if is_surface else zscore_trials
    started = time.perf_counter()
    for file, sites in files:
        if way == "fsaverage, nibabel":
            import nibabel

            values = np.asarray(nibabel.load(file.path).get_fdata())[:, 0, 0][sites]
            mean, deviation = values.mean(axis=1, keepdims=True), values.std(axis=1, keepdims=True)
            ((values - mean) / np.where(deviation == 0, 1, deviation)).astype(np.float32)
        else:
            zscore(dataset.source.read_voxels(file.path, sites, file.shape, n_trials))
    return {
        "seconds": time.perf_counter() - started,
        "sites": sum(len(sites) for _, sites in files),
        "memory": peak_memory(),
    }


def from_server(root: Path, url: str, way: str) -> dict[str, float]:
    """Read the sites of a session from a server, and z-score them."""
    from nsd_prep.sources.bucket import BucketSource  # no part of reading a folder

    dataset, files, _ = work(root, way)
    with tempfile.TemporaryDirectory() as mirror:
        source = BucketSource(url, Path(mirror))
        started = time.perf_counter()
        paths = [Path(mirror) / file.path.relative_to(root) for file, _ in files]
        source.identities(paths)
        rest = [(sites, file.shape, dataset.trials_per_session) for file, sites in files]
        for path, others in zip(paths, rest, strict=True):
            source.prefetch(path, *others)
        for path, others in zip(paths, rest, strict=True):
            zscore_vertices(source.read_voxels(path, *others))
        seconds = time.perf_counter() - started
        transfer = source.transfer
        source.close()
    return {
        "seconds": seconds,
        "bytes": sum(transfer.bytes.values()),
        "requests": sum(transfer.requests.values()),
    }


def bare_requests(root: Path, url: str, way: str) -> dict[str, float]:
    """Fetch the same ranges with obstore alone, and look at nothing."""
    import obstore

    from nsd_prep.sources.client import CONCURRENCY, Client
    from nsd_prep.sources.sessions import predicted_parts

    dataset, files, _ = work(root, way)
    spans = [
        (str(file.path.relative_to(root)), piece)
        for file, sites in files
        for part in predicted_parts(file.shape, dataset.trials_per_session, sites)
        for piece in part.ranges.pieces()
    ]
    store = Client(url).address.store()

    def fetch(span: tuple[str, tuple[int, int]]) -> int:
        return len(obstore.get(store, span[0], options={"range": span[1]}).bytes())

    started = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        n_bytes = sum(pool.map(fetch, spans))
    return {"seconds": time.perf_counter() - started, "bytes": n_bytes}


def measured(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each number."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def main() -> None:
    """Measure, and print the tables and which bars are met."""
    # The processes whose memory is measured do not import it.
    from nsd_prep.synthetic import write_synthetic_nsd

    command = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    command.add_argument("--nsd-root", type=Path)
    command.add_argument("--runs", type=int, default=RUNS)
    arguments = command.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.nsd_root or Path(folder) / "nsd"
        if arguments.nsd_root is None:
            full = [(SUBJECT, SESSION)]
            write_synthetic_nsd(
                root, scale="full", subjects=[SUBJECT], surfaces=True, full_sessions=full
            )
        compare(root.resolve(), arguments.runs)


def compare(root: Path, runs: int) -> None:
    """Run all ways in turn, and print their medians."""
    from rich.console import Console
    from rich.table import Table

    ways = (
        "volume",
        "native surface",
        "fsaverage, native files",
        "fsaverage, mgh",
        "fsaverage, nibabel",
    )
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    remote: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(runs):
        for way in ways:
            rows[way].append(measured(one_session, root, way))
    with server_process(root, LATENCY) as url:
        for _ in range(runs):
            for way in ("native surface", "fsaverage, native files"):
                for reader in (from_server, bare_requests):
                    cost = measured(reader, root, url, way)
                    remote.setdefault((way, reader.__name__), []).append(cost)
    console = Console(width=110)
    table = Table(title=f"Subject {SUBJECT}, session {SESSION}, warm; medians of {runs}")
    for column in ("", "sites", "seconds", "microseconds a site", "memory MB"):
        table.add_column(column, justify="right" if column else "left")
    middle = {way: medians(of_way) for way, of_way in rows.items()}
    for way, row in middle.items():
        table.add_row(
            way,
            f"{row['sites']:.0f}",
            f"{row['seconds']:.3f}",
            f"{1e6 * row['seconds'] / row['sites']:.1f}",
            f"{row['memory'] / 1e6:.0f}",
        )
    console.print(table)
    served = {key: medians(costs) for key, costs in remote.items()}
    for way in ("native surface", "fsaverage, native files"):
        ours, bare = served[way, "from_server"], served[way, "bare_requests"]
        console.print(
            f"{way}, from a server with {1000 * LATENCY:.0f} ms: {ours['seconds']:.2f} s, "
            f"{ours['requests']:.0f} requests, {ours['bytes'] / 1e6:.1f} MB; the same ranges by "
            f"obstore alone: {bare['seconds']:.2f} s"
        )
    a_site = {way: row["seconds"] / row["sites"] for way, row in middle.items()}
    mgh, nibabel = middle["fsaverage, mgh"], middle["fsaverage, nibabel"]
    reached = (
        a_site["native surface"] / a_site["volume"],
        middle["native surface"]["memory"] / 1e6,
        served["native surface", "from_server"]["seconds"]
        / served["native surface", "bare_requests"]["seconds"],
        served["fsaverage, native files", "from_server"]["bytes"] / 1e6,
        mgh["memory"] / 1e6,
        mgh["seconds"] / nibabel["seconds"],
    )
    for (name, bar), value in zip(BARS.items(), reached, strict=True):
        console.print(f"{name}: {value:.3g}, bar {bar:g}: {'met' if value <= bar else 'NOT met'}")


if __name__ == "__main__":
    main()
