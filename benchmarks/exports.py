"""Exports against ``nsd-prep trials`` for the same voxels; labels of atlases; splits by name.

Run ``python benchmarks/exports.py --nsd-root ROOT`` on real NSD, or on what ``nsd-prep synth ROOT
--scale full --surfaces --subjects 1`` writes (without surfaces leave out algonauts2023 with
``--like``). Each command runs in a process of its own with a cache of its own, after the
sessions were read once; memory is the largest of the processes that it starts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from nsd_prep.dataset.design import read_design
from nsd_prep.dataset.space import HEMISPHERES
from nsd_prep.dataset.splits import split_columns
from nsd_prep.exports.export import NEEDS
from nsd_prep.exports.labels import REGIONS_OF_LABELS
from nsd_prep.sources.opening import open_dataset

LIKES = ("mindeye2", "brain-diffuser", "deepnsd", "algonauts2023")
#: Runs a command line, and prints its seconds and its largest process, in MB.
TIMED = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""


def timed(words: list[str]) -> tuple[float, float]:
    """Run ``nsd-prep`` with some words; return seconds and MB."""
    command = [sys.executable, "-c", TIMED, sys.executable, "-m", "nsd_prep", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def trials(root: Path, like: str, folder: Path) -> tuple[float, float]:
    """Write the single trials of the voxels that an export needs."""
    words = ["trials", "--nsd-root", str(root), "--subjects", "1", "--no-report"]
    words += ["--output-dir", str(folder)]
    space = NEEDS[like].space
    if like in ("mindeye2", "brain-diffuser"):
        return timed([*words, "--regions", "nsdgeneral"])
    if like == "algonauts2023":
        words += ["--space", space, "--regions", "nsdgeneral"]
    dataset = open_dataset(root, space=space)
    sides = HEMISPHERES if dataset.is_surface else (None,)
    folder.parent.mkdir(parents=True, exist_ok=True)
    regions = folder.with_suffix(".toml")
    regions.write_text(
        "".join(
            f"[{name}-own]\nlabels = {{ {atlas} = {list(labels)} }}\n"
            for name, definition in REGIONS_OF_LABELS.items()
            for atlas, labels in definition.labels.items()
            if all(dataset.exists(dataset.roi_file(1, atlas, side)) for side in sides)
        )
    )
    return timed([*words, "--regions-file", str(regions), "--missing-regions", "skip"])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nsd-root", type=Path, required=True)
    parser.add_argument("--like", nargs="*", choices=LIKES, default=LIKES)
    arguments = parser.parse_args()
    root = arguments.nsd_root.absolute()
    for path in open_dataset(root).root.rglob("subj01/**/*betas_session*.hdf5"):
        path.read_bytes()  # warm
    table = Table("what", "seconds", "of trials", "MB", "MB of files")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        for like in arguments.like:
            folder = Path(scratch) / like
            usual, usual_memory = trials(root, like, folder / "trials")
            table.add_row(f"trials for {like}", f"{usual:.1f}", "1.00", f"{usual_memory:.0f}")
            words = ["export", str(root), str(folder / "export"), "--like", like]
            words += ["--subjects", "1", "--cache-dir", str(folder / "cache")]
            seconds, memory = timed(words)
            size = sum(entry.stat().st_size for entry in (folder / "export").rglob("*.*")) / 2**20
            share = f"{seconds / usual:.2f}"
            table.add_row(like, f"{seconds:.1f}", share, f"{memory:.0f}", f"{size:.0f}")
            (file,) = (folder / "cache").rglob("subj01.nc")
            words = ["export", str(file), str(folder / "of-file"), "--like", like]
            seconds, memory = timed(words)
            share = f"{seconds / usual:.2f}"
            table.add_row(f"{like}, of a file", f"{seconds:.1f}", share, f"{memory:.0f}")
    seconds, memory = timed(["regions", str(root), "--format", "csv"])
    table.add_row("regions, all subjects", f"{seconds:.1f}", "", f"{memory:.0f}")
    dataset = open_dataset(root)
    design = read_design(dataset.design_file)
    nsd_id = design.nsd_id_of_trial(1, dataset.trials(1))
    usable = np.sort(design.shared_nsd_ids)
    started = time.perf_counter()
    split_columns(nsd_id, design, 1, dataset.sessions, dataset.trials_per_session, usable)
    table.add_row("splits of subject 1", f"{time.perf_counter() - started:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
