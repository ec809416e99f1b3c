"""The whole flow against a plain loop that reads and z-scores the same sessions.

Run ``python benchmarks/flow.py --nsd-root ROOT``, on real NSD or on what
``nsd-prep synth ROOT --scale full`` writes (5 GB). Files are warm: they are read once before. The
ways run in turn, in processes of their own; the table shows medians:

- plain loop: reads and z-scores alone, as a careful script does: h5py reads the chunk of each
  voxel, NumPy does the rest, and nothing of nsd-prep takes part;
- flow: to checked assemblies, with an empty cache, without report and Brain-Score's files;
- flow again: the same command with nothing changed;
- flow with everything: with an empty cache, as it runs by default.

Seconds leave out the server's start and the import of libraries; the column beside has all. Further
options go to the flow: ``--workers 4``, ``--runner processes``.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from nsd_prep.core.parameters import parameters
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.pipeline.loading import map_trials
from nsd_prep.pipeline.run import plan_run
from nsd_prep.sources.opening import open_dataset

FLOW = Path(__file__).parents[1] / "flows" / "nsd_flow.py"
#: What a plain loop has no counterpart for.
ASSEMBLIES_ONLY = ["--no-report", "--no-brainscore"]


def plain_loop(root: Path) -> None:
    """Read and z-score the sessions of a run one after another, and print what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        run = plan_run(**parameters(nsd_root=str(root), output_dir=Path(folder)))
        sessions = map_trials(run).sessions
    dataset = open_dataset(root)
    selections = {subject: select_voxels(dataset, subject, run.regions) for subject in sessions}
    started = time.perf_counter()
    for subject, numbers in sessions.items():
        selection = selections[subject]
        places = np.column_stack(
            np.unravel_index(selection.union(), selection.space.shape)
        ).tolist()
        for session in numbers:
            with h5py.File(dataset.session_file(subject, session)) as file:
                read = file["betas"].id.read_direct_chunk
                chunks = b"".join([read((0, z, y, x))[1] for z, y, x in places])
            betas = np.frombuffer(chunks, "<i2").reshape(len(places), -1)
            responses = betas.astype(np.float32) / 300
            responses -= responses.mean(axis=1, keepdims=True)
            deviation = responses.std(axis=1, keepdims=True)
            responses /= np.where(deviation == 0, 1, deviation)
    cost = {
        "seconds": time.perf_counter() - started,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(cost))


def flow(root: Path, output: Path, words: list[str]) -> dict[str, float]:
    """Run the flow as people do, and return what it cost."""
    started = time.perf_counter()
    command = [sys.executable, str(FLOW), "--nsd-root", str(root), "--output-dir", str(output)]
    with (output.parent / "flow.log").open("w") as log:
        process = subprocess.Popen([*command, *words], stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit((output.parent / "flow.log").read_text())
    inside = json.loads((output / "manifest.json").read_text())["seconds"]
    return {
        "seconds": sum(inside.values()),
        "whole": time.perf_counter() - started,
        "memory": used.ru_maxrss * 1024,
    } | inside


def main() -> None:
    """Measure and print the table."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--nsd-root", type=Path, required=True, help="an NSD dataset")
    command.add_argument("--runs", type=int, default=5, help="of each way (default: %(default)s)")
    command.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    given, words = command.parse_known_args()
    if given.loop:
        plain_loop(given.nsd_root)
        return
    ways = ("plain loop", "flow", "flow again", "flow with everything")
    costs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        for run in range(given.runs + 1):
            loop = [sys.executable, __file__, "--nsd-root", str(given.nsd_root), "--loop"]
            done = subprocess.run(loop, check=True, capture_output=True, text=True)
            if run == 0:
                continue  # the first loop warms the files
            costs["plain loop"].append(json.loads(done.stdout))
            shutil.rmtree(output, ignore_errors=True)
            for way in ("flow", "flow again"):
                costs[way].append(flow(given.nsd_root, output, [*ASSEMBLIES_ONLY, *words]))
            shutil.rmtree(output)
            costs["flow with everything"].append(flow(given.nsd_root, output, words))
    show(costs, given.runs)


def show(costs: dict[str, list[dict[str, float]]], runs: int) -> None:
    """Print the medians."""
    table = Table(title=f"medians of {runs} alternating runs")
    for column in ("way", "seconds", "times the loop", "with the server's start", "memory"):
        table.add_column(column, justify="left" if column == "way" else "right")
    loop = statistics.median(cost["seconds"] for cost in costs["plain loop"])
    for way, item in costs.items():
        middle = {name: statistics.median(cost[name] for cost in item) for name in item[0]}
        table.add_row(
            way,
            f"{middle['seconds']:.1f}",
            f"{middle['seconds'] / loop:.2f}",
            f"{middle['whole']:.1f}" if "whole" in middle else "",
            f"{middle['memory'] / 1e6:.0f} MB",
        )
    Console().print(table)
    totals = ("seconds", "whole", "memory")
    stages = {
        name: round(statistics.median(cost[name] for cost in costs["flow with everything"]), 1)
        for name in costs["flow with everything"][0]
        if name not in totals
    }
    Console().print("seconds of each stage, with everything:", stages)


if __name__ == "__main__":
    main()
