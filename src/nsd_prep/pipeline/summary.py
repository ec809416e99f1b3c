"""The end of a run, in a form that people read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from nsd_prep.checks.causes import likeliest_causes
from nsd_prep.checks.images import STIMULUS_SETS
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import VERDICTS, Check
from nsd_prep.core.markdown import markdown_table
from nsd_prep.dataset.beta_files import read_of_files
from nsd_prep.dataset.betas import MGH
from nsd_prep.dataset.spaces import describe_spaces
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.run import Run
from nsd_prep.pipeline.steps.tables import neuroids, noise_ceiling_table
from nsd_prep.sources.estimate import SessionsToFetch, estimate

_WIDTH: Final = 120


def size_as_text(n_bytes: float) -> str:
    """Return a number of bytes in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def describe_inputs(run: Run, inputs: Inputs) -> str:
    """Return what a run will do, in two lines: dataset, regions, images, sessions and sizes."""
    dataset = inputs.dataset
    subjects = ", ".join(str(subject) for subject in run.subjects)
    voxels = ", ".join(f"{region} {number}" for region, number in inputs.n_voxels.items())
    what = "vertices" if dataset.is_surface else "voxels"
    place = ", ".join(["", *run.place().values()])
    return (
        f"{dataset.name} ({dataset.layout} layout, {dataset.preparation}{place}) at "
        f"{run.nsd_root}: subjects {subjects}; {what} {voxels}.\n"
        f"{len(inputs.trials.nsd_ids)} images were seen three times by all; {len(inputs.betas)} "
        f"sessions hold them: {size_as_text(inputs.bytes_to_read)} to read where nothing is in "
        f"the cache, {size_as_text(inputs.bytes_to_write)} to write."
        f"{_missing_regions(inputs)}{_no_images(inputs)}{_fetching(inputs)}{_spaces(run, inputs)}"
    )


def _missing_regions(inputs: Inputs) -> str:
    """Return which subjects lack a region, a line each; nothing where every subject has all."""
    return "".join(
        f"\nRegion {region}: no voxels in subject{'s' if len(subjects) > 1 else ''} "
        f"{', '.join(map(str, subjects))}."
        for region, subjects in inputs.subjects_without.items()
    )


def _no_images(inputs: Inputs) -> str:
    """Return why no stimulus sets will be made; nothing where they will, or are not asked for."""
    return f"\nNo stimulus sets will be made: {inputs.no_images}" if inputs.no_images else ""


def _spaces(run: Run, inputs: Inputs) -> str:
    """Return which spaces a folder can be read in, where inputs are only looked at."""
    dataset = inputs.dataset
    if not run.check or dataset.layout == "flat" or dataset.source.transfer is not None:
        return ""
    return f"\n{describe_spaces(dataset, run.subjects)}"


def _fetching(inputs: Inputs) -> str:
    """Return what reading the sessions from an address takes; nothing for a folder."""
    if inputs.dataset.source.transfer is None:
        return ""
    n_trials = inputs.dataset.trials_per_session
    sessions = Counter(subject for subject, _ in inputs.betas)
    found = estimate(
        SessionsToFetch(sessions[subject], own, file.shape, n_trials, file.path.suffix == MGH)
        for subject, masks in inputs.masks.items()
        for file, own in read_of_files(inputs.beta_files(subject, 1), masks.voxels)
    )
    times = ", ".join(f"{seconds:.0f} s at {link}" for link, seconds in found.seconds.items())
    return (
        f"\nTo fetch if the cache is empty: {found.requests} requests, "
        f"{size_as_text(found.bytes)}; {times}."
    )


class Summary:
    """The end of a run, for the terminal and for its page.

    Parameters
    ----------
    run : Run
        The run.
    tables : sequence of (str, DataFrame of str)
        What to show of the assemblies, as `tables_of_assemblies` gives it; titles first.
    files : dict of str to str
        SHA-256 of what was made, by name in the output folder.
    checks : sequence of Check
        What was checked.
    seconds : float
        How long it took.
    """

    def __init__(
        self,
        run: Run,
        tables: Sequence[tuple[str, pd.DataFrame]],
        files: Mapping[str, str],
        checks: Sequence[Check],
        seconds: float,
    ) -> None:
        self._tables = tables
        self.output_dir, self.suffix = run.output_dir, run.suffix
        self.files, self.checks = files, checks
        page = run.output_dir / outputs.REPORT / "index.html"
        self._page = page if f"{outputs.REPORT}/{page.name}" in files else None
        self.lines = [
            *_check_lines(checks),
            f"Time: {seconds:.1f} s",
            f"Files: {len(files)} in {run.output_dir}",
        ]
        others = sorted(
            path.name for path in run.output_dir.glob("Allen2022*.nc") if path.name not in files
        )
        if others:
            self.lines.append(f"Not of this run: {', '.join(others)}")

    def for_terminal(self) -> RenderableType:
        """Return tables and lines for `rich`; the report's name is a link where terminals know."""
        parts: list[RenderableType] = [_as_rich(*table) for table in self._tables]
        parts += self.lines
        if self._page:
            link = (str(self._page), f"link {self._page.as_uri()}")
            parts.append(Text.assemble("Report: ", link))
        return Group(*parts)

    def as_markdown(self) -> str:
        """Return tables and lines for the page of the run."""
        tables = [
            f"**{title}**\n\n{markdown_table(table.columns, table.itertuples(index=False))}"
            for title, table in self._tables
        ]
        page = [f"Report: [{self._page}](<{self._page.as_uri()}>)"] if self._page else []
        return "\n\n".join([*tables, *(line.strip() for line in self.lines), *page])


def tables_of_assemblies(run: Run, prepared: Prepared) -> list[tuple[str, pd.DataFrame]]:
    """Return a table of the regions and one of the subjects, with their titles."""
    train, images = int(prepared.is_train.sum()), len(prepared.is_train)
    title = (
        f"Assemblies of {images} images ({train} train, {images - train} test), median noise "
        "ceilings"
    )
    return [
        (title, _assemblies(run, prepared)),
        ("Shared images seen", _repetitions(prepared)),
    ]


def _assemblies(run: Run, prepared: Prepared) -> pd.DataFrame:
    ceilings = noise_ceiling_table(neuroids(prepared)).set_index(["region", "subject"])
    rows, without = [], prepared.subjects_without
    for region in run.regions:
        pooled = ceilings.loc[(region, "all")]
        name = prepared.assembly_file(region)
        rows.append(
            {
                "region": region,
                **({"not in subjects": _listed(without.get(region, ()))} if without else {}),
                "neuroids": f"{pooled['voxels']:.0f}",
                "noise ceiling": f"{pooled['median_noise_ceiling']:.1f} %",
                "above 30 %": f"{pooled['reliable_voxels']:.0f}",
                "size": size_as_text((run.output_dir / name).stat().st_size),
                "file": name,
            }
        )
    return pd.DataFrame(rows)


def _listed(subjects: Sequence[int]) -> str:
    return ", ".join(map(str, subjects)) or "-"


def _repetitions(prepared: Prepared) -> pd.DataFrame:
    counts = prepared.repetition_counts
    table = counts.rename(columns={times: f"{times} times" for times in counts.columns})
    read = [
        sum(record.subject == subject for record in prepared.sessions) for subject in counts.index
    ]
    return table.assign(**{"sessions used": read}).reset_index().astype(str)


def _as_rich(title: str, table: pd.DataFrame) -> Table:
    drawn = Table(title=title, title_justify="left")
    for name in table.columns:
        is_text = name in ("region", "subject", "file")
        # A name is broken rather than cut: a cut one cannot be copied.
        drawn.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for row in table.itertuples(index=False):
        drawn.add_row(*row)
    return drawn


def _check_lines(checks: Sequence[Check]) -> list[str]:
    numbers = Counter(check.verdict for check in checks)
    lines = ["Checks: " + ", ".join(f"{numbers[verdict]} {verdict}" for verdict in VERDICTS)]
    for cause in likeliest_causes(checks):
        lines += map(_problem, cause.checks)
        if cause.others:
            lines.append(f"    the likeliest cause of {_explained(cause.others)}")
    lines += [
        f"  no stimulus sets were made: {STIMULUS_SETS.value_of(check)}"
        for check in checks
        if check.name == STIMULUS_SETS.name and check.verdict == "not decidable"
    ]
    return lines


def _problem(check: Check) -> str:
    described = describe(check)
    where = f" ({check.where})" if check.where else ""
    return (
        f"  {check.verdict}: {check.name}{where}: found {described.value}, expected "
        f"{described.expectation}"
    )


def _explained(checks: Sequence[Check]) -> str:
    """Return the checks by kind and verdict, with the regions that each is about."""
    regions: dict[tuple[str, str], list[str]] = {}
    for check in checks:
        of_kind = regions.setdefault((check.name, check.verdict), [])
        of_kind += [check.region] if check.region else []
    parts = [
        f"{name} ({', '.join([verdict, *names])})" for (name, verdict), names in regions.items()
    ]
    return f"{len(checks)} other{'s' if len(checks) > 1 else ''}: {'; '.join(parts)}"


def print_rendered(content: RenderableType) -> None:
    """Print text or tables to standard output, as wide as they need where that is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(content, highlight=False, soft_wrap=True)
