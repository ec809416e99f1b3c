"""The end of a run, in a form that people read."""

import io
from collections.abc import Sequence
from typing import Final

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table

from nsd_prep.checks import STIMULUS_SETS, Check
from nsd_prep.preflight import Preflight
from nsd_prep.run import AssemblyRecord, Run, TrialsRecord

_WIDTH: Final = 120


def size_as_text(n_bytes: float) -> str:
    """Return a number of bytes as people say it, in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def describe_preflight(run: Run, preflight: Preflight) -> str:
    """Return what a run will do, in two lines.

    Parameters
    ----------
    run : Run
        The run.
    preflight : Preflight
        What was found.

    Returns
    -------
    str
        Dataset, subjects, regions, images, sessions and sizes.
    """
    subjects = ", ".join(str(subject) for subject in run.subjects)
    voxels = ", ".join(f"{region} {number}" for region, number in preflight.n_voxels.items())
    return (
        f"{preflight.dataset} ({preflight.layout} layout, {preflight.preparation}) at "
        f"{run.nsd_root}: subjects {subjects}; voxels {voxels}.\n"
        f"{preflight.n_images} images were seen three times by all; {preflight.n_sessions} "
        f"sessions hold them: {size_as_text(preflight.bytes_to_read)} to read where nothing is in "
        f"the cache, {size_as_text(preflight.bytes_to_write)} to write."
    )


def summary_of_run(
    run: Run,
    trials: TrialsRecord,
    assemblies: Sequence[AssemblyRecord],
    checks: Sequence[Check],
    seconds: float,
) -> RenderableType:
    """Return the summary of a run: regions, images, checks, files and time.

    Parameters
    ----------
    run : Run
        The run; its tables are read.
    trials : TrialsRecord
        The images.
    assemblies : sequence of AssemblyRecord
        What was written.
    checks : sequence of Check
        What was checked.
    seconds : float
        How long it took.

    Returns
    -------
    rich renderable
        To be printed.
    """
    split = pd.read_csv(run.split_file)["split"].value_counts()
    lines = [
        f"Images: {trials.n_images} ({split.get('train', 0)} train, {split.get('test', 0)} test)",
        *_check_lines(checks),
        f"Time: {seconds:.1f} s",
        f"Files: {run.output_dir}",
    ]
    others = _files_of_other_runs(run)
    if others:
        lines.append(f"Not of this run: {', '.join(others)}")
    return Group(_regions(run, assemblies), _repetitions(trials), *lines)


def _regions(run: Run, assemblies: Sequence[AssemblyRecord]) -> Table:
    ceilings = pd.read_csv(run.noise_ceilings_file).set_index(["region", "subject"])
    table = Table(title="Assemblies", title_justify="left")
    table.add_column("region")
    for column in ("images x neuroids", "median noise ceiling", "above 30 %", "size"):
        table.add_column(column, justify="right")
    table.add_column("file")
    for assembly in assemblies:
        pooled = ceilings.loc[(assembly.region, "all")]
        table.add_row(
            assembly.region,
            f"{assembly.shape[0]} x {assembly.shape[1]}",
            f"{pooled['median']:.1f} %",
            f"{pooled['above_30_percent']:.0f}",
            size_as_text(assembly.file.stat().st_size),
            assembly.file.name,
        )
    return table


def _repetitions(trials: TrialsRecord) -> Table:
    table = Table(title="Shared images seen", title_justify="left")
    table.add_column("subject")
    for times in (3, 2, 1, 0):
        table.add_column(f"{times} times", justify="right")
    table.add_column("sessions used", justify="right")
    for subject, counts in trials.repetition_counts.items():
        used = len(trials.sessions[subject])
        table.add_row(str(subject), *(str(count) for count in counts), str(used))
    return table


def _check_lines(checks: Sequence[Check]) -> list[str]:
    of = {
        verdict: [check for check in checks if check.verdict == verdict]
        for verdict in ("passed", "failed", "suspicious", "not decidable")
    }
    numbers = [
        f"{len(of[verdict])} {verdict}" for verdict in of if of[verdict] or verdict != "suspicious"
    ]
    lines = ["Checks: " + ", ".join(numbers)]
    lines += [
        f"  {check.verdict}: {check.name}{f' ({check.where})' if check.where else ''}: found "
        f"{check.value}, expected {check.expectation}"
        for check in (*of["failed"], *of["suspicious"])
    ]
    lines += [
        f"  no stimulus sets were made: {check.value}"
        for check in of["not decidable"]
        if check.name == STIMULUS_SETS
    ]
    return lines


def _files_of_other_runs(run: Run) -> list[str]:
    mine = {run.assembly_file(region) for region in run.regions}
    return sorted(path.name for path in run.output_dir.glob("Allen2022.*.nc") if path not in mine)


def print_rendered(content: RenderableType) -> None:
    """Print text or tables to standard output, as wide as they need where that is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(content, highlight=False, soft_wrap=True)


def rendered_as_text(content: RenderableType) -> str:
    """Return text or tables as plain text."""
    console = Console(width=_WIDTH, file=io.StringIO(), force_terminal=False)
    with console.capture() as capture:
        console.print(content, highlight=False, soft_wrap=True)
    return capture.get().rstrip()
