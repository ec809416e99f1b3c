"""The whole flow against a plain loop that reads and z-scores the same sessions.

Run ``python benchmarks/flow.py --nsd-root ROOT``, on real NSD or on what
``nsd-prep synth ROOT --scale full`` writes (5 GB). Files are warm: they are read once before. The
ways run in turn, in processes of their own; the table shows medians:

- plain loop: reads and z-scores alone, as a careful script does: h5py reads the chunk of each
  voxel, NumPy does the rest, and nothing of nsd-prep takes part;
- flow: to checked assemblies, with an empty cache, without report and Brain-Score's files;
- flow again: the same command with nothing changed;
- flow with everything: with an empty cache, as it runs by default.

Seconds leave out the server's start and the import of libraries, but for a run that has nothing to
do, which needs neither; the column beside has all. Then come the stages of each way. Processor time
is that of all threads of the process, and the cores busy are processor time over seconds; both
leave out Prefect's server, and workers of their own.
Further options go to the flow: ``--workers 4``, ``--runner processes``. With ``--space fsaverage``
or ``--space nativesurface`` the same on surfaces, where the dataset has them.
"""

import argparse
import json
import os
import shutil
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

from nsd_prep.core.parameters import parameters
from nsd_prep.dataset.beta_files import beta_files, read_native_vertices, read_of_files
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.space import FUNC1PT8MM, SpaceName
from nsd_prep.pipeline.loading import map_trials
from nsd_prep.pipeline.run import plan_run

FLOW = Path(__file__).parents[1] / "flows" / "nsd_flow.py"
#: What a plain loop has no counterpart for.
ASSEMBLIES_ONLY = ["--no-report", "--no-brainscore"]
#: What a run cost: seconds, processor and whole (all in seconds), memory (bytes); and seconds and
#: processor of each stage, by its name and theirs.
Cost = dict[str | tuple[str, str], float]


def plain_loop(root: Path, space: SpaceName) -> None:
    """Read and z-score the sessions of a run one after another, and print what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = parameters(nsd_root=str(root), output_dir=Path(folder), space=space)
        run = plan_run(**chosen)
        sessions = map_trials(run).sessions
    dataset = run.dataset()
    # As the published data are: of volumes in single precision, of surfaces in double.
    precision = np.float64 if dataset.is_surface else np.float32
    sites, natives = {}, {}
    for subject in sessions:
        selection = select_voxels(dataset, subject, run.regions)
        sites[subject] = (selection.space, selection.union())
        if dataset.is_through_native:
            natives[subject] = read_native_vertices(dataset, subject, selection.space)
    started, worked = time.perf_counter(), time.process_time()
    for subject, numbers in sessions.items():
        space_of_subject, union = sites[subject]
        for session in numbers:
            files = beta_files(dataset, subject, session, space_of_subject, natives.get(subject))
            for beta_file, own in read_of_files(files, union):
                coordinates = np.column_stack(np.unravel_index(own, beta_file.shape)).tolist()
                with h5py.File(beta_file.path) as file:
                    read = file["betas"].id.read_direct_chunk
                    chunks = b"".join([read((0, *coordinate))[1] for coordinate in coordinates])
                betas = np.frombuffer(chunks, "<i2").reshape(len(coordinates), -1)
                responses = betas.astype(precision) / 300
                responses -= responses.mean(axis=1, keepdims=True)
                deviation = responses.std(axis=1, keepdims=True)
                responses /= np.where(deviation == 0, 1, deviation)
    cost = {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - worked,
        "memory": peak_memory(),
    }
    print(json.dumps(cost))


def flow(root: Path, output: Path, words: list[str]) -> Cost:
    """Run the flow as people do, and return what it cost."""
    manifest_file = output / "manifest.json"
    earlier = manifest_file.stat() if manifest_file.exists() else None
    started = time.perf_counter()
    command = [sys.executable, str(FLOW), "--nsd-root", str(root), "--output-dir", str(output)]
    with (output.parent / "flow.log").open("w") as log:
        process = subprocess.Popen([*command, *words], stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit((output.parent / "flow.log").read_text())
    whole = time.perf_counter() - started
    memory = used.ru_maxrss * 1024
    if earlier is not None and os.path.samestat(earlier, manifest_file.stat()):
        # Nothing was done: the manifest tells the stages of the run before.
        processor = used.ru_utime + used.ru_stime
        return {"seconds": whole, "processor": processor, "whole": whole, "memory": memory}
    manifest = json.loads(manifest_file.read_text())
    seconds, processor_of_stages = manifest["seconds"], manifest["processor_seconds"]
    return {
        "seconds": sum(seconds.values()),
        "processor": sum(processor_of_stages.values()),
        "whole": whole,
        "memory": memory,
        **{(stage, "seconds"): value for stage, value in seconds.items()},
        **{(stage, "processor"): value for stage, value in processor_of_stages.items()},
    }


def main() -> None:
    """Measure and print the table."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--nsd-root", type=Path, required=True, help="an NSD dataset")
    command.add_argument("--runs", type=int, default=5, help="of each way (default: %(default)s)")
    command.add_argument("--space", default=FUNC1PT8MM, help="as a run's (default: %(default)s)")
    command.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    arguments, words = command.parse_known_args()
    if arguments.loop:
        plain_loop(arguments.nsd_root, arguments.space)
        return
    words += ["--space", arguments.space]
    ways = ("plain loop", "flow", "flow again", "flow with everything")
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        for run in range(arguments.runs + 1):
            loop = [sys.executable, __file__, "--nsd-root", str(arguments.nsd_root), "--loop"]
            loop += ["--space", arguments.space]
            done = subprocess.run(loop, check=True, capture_output=True, text=True)
            if run == 0:
                continue  # the first loop warms the files
            costs["plain loop"].append(json.loads(done.stdout))
            shutil.rmtree(output, ignore_errors=True)
            for way in ("flow", "flow again"):
                costs[way].append(flow(arguments.nsd_root, output, [*ASSEMBLIES_ONLY, *words]))
            shutil.rmtree(output)
            costs["flow with everything"].append(flow(arguments.nsd_root, output, words))
    show(costs, arguments.runs)


def show(costs: dict[str, list[Cost]], runs: int) -> None:
    """Print the medians: of each way, and of the stages of each."""
    medians = {
        way: {name: statistics.median(cost[name] for cost in items) for name in items[0]}
        for way, items in costs.items()
    }
    loop = medians["plain loop"]["seconds"]
    measures = ("seconds", "times the loop", "processor", "cores busy")
    ways = Table(title=f"medians of {runs} alternating runs")
    stages = Table(title="stages")
    for table, columns in (
        (ways, ("way", *measures, "with the server's start", "memory")),
        (stages, ("way", "stage", *measures)),
    ):
        for column in columns:
            table.add_column(column, justify="left" if column in ("way", "stage") else "right")
    for way, cost in medians.items():
        ways.add_row(
            way,
            *cells(cost["seconds"], cost["processor"], loop),
            f"{cost['whole']:.1f}" if "whole" in cost else "",
            f"{cost['memory'] / 1e6:.0f} MB",
        )
        for name, seconds in cost.items():
            if isinstance(name, tuple) and name[1] == "seconds":
                processor = cost[name[0], "processor"]
                stages.add_row(way, name[0], *cells(seconds, processor, loop))
    for table in (ways, stages):
        Console().print(table)


def cells(seconds: float, processor: float, loop: float) -> tuple[str, ...]:
    """Return seconds, how many times the loop's they are, those of processor, and cores busy."""
    busy = processor / seconds if seconds else 0.0
    return f"{seconds:.1f}", f"{seconds / loop:.2f}", f"{processor:.1f}", f"{busy:.2f}"


if __name__ == "__main__":
    main()
