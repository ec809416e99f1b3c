"""Examination: checks of the data themselves, and the report that shows them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task

from nsd_prep import __version__, stages
from nsd_prep.checks import Check
from nsd_prep.files import sha256_of_file, sha256_of_json, write_text
from nsd_prep.report.markdown import artifacts
from nsd_prep.run import AssemblyRecord, Extracted, Run, TrialsRecord
from nsd_prep.tasks.artifacts import show_markdown
from nsd_prep.tasks.assembly import key_of_made
from nsd_prep.tasks.policy import TRY_AGAIN, cached_by, call_cached


@task(name="examine-data", **cached_by(key_of_made), **TRY_AGAIN)
def _examine(
    run: Run,
    extracted: Path,
    assemblies: Sequence[AssemblyRecord],  # noqa: ARG001 (part of the key)
) -> dict[str, Any]:
    """Check the data themselves: trials, sessions, masks and subjects in their places."""
    checks = stages.examine(run, Extracted.read(extracted))
    return {"checks": [asdict(check) for check in checks], "files": {}}


def examine_data(
    run: Run, extracted: Path, assemblies: Sequence[AssemblyRecord], refresh: bool
) -> list[Check]:
    """Check the data themselves, unless the same data were checked before."""
    result = call_cached(
        _examine, run.cache_dir, refresh, run=run, extracted=extracted, assemblies=assemblies
    )
    return [Check(**check) for check in result["checks"]]


def _report_key(
    run: Run,
    trials: TrialsRecord,
    assemblies: Sequence[AssemblyRecord],
    checks: Sequence[Check],
    brainscore: bool,
) -> str:
    made = [of.sha256 for of in assemblies]
    judged = [asdict(check) for check in checks]
    asked = run.model_dump(mode="json")
    if run.features:
        asked["features"] = sha256_of_file(run.features)
    return sha256_of_json(
        [__version__, asked, trials.model_dump(mode="json"), made, judged, brainscore]
    )


@task(name="write-report", **cached_by(_report_key), **TRY_AGAIN)
def _report(
    run: Run,
    trials: TrialsRecord,
    assemblies: Sequence[AssemblyRecord],  # noqa: ARG001 (part of the key)
    checks: Sequence[Check],
    brainscore: bool,
) -> dict[str, Any]:
    """Write the report with its figures and tables, and as Markdown for the page of the run."""
    # What draws and regresses takes seconds to import, and a run that goes on may not need it.
    from nsd_prep.stages.encoding import encoding_sections
    from nsd_prep.stages.report import report_run

    further = encoding_sections(run) if brainscore else []
    report = report_run(run, trials, stages.analyse_run(run), checks, further)
    folder = run.output_dir / "report"
    for key, text in artifacts(report).items():
        write_text(folder / "markdown" / f"{key}.md", text)
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return {"files": {str(path): sha256_of_file(path) for path in written}}


def write_report(
    run: Run,
    trials: TrialsRecord,
    assemblies: Sequence[AssemblyRecord],
    checks: Sequence[Check],
    brainscore: bool,
    refresh: bool,
) -> list[Path]:
    """Write the report unless it is there, and show it on the run's page; return its files."""
    arguments = {
        "run": run,
        "trials": trials,
        "assemblies": assemblies,
        "checks": checks,
        "brainscore": brainscore,
    }
    result = call_cached(_report, run.cache_dir, refresh, **arguments)
    files = [Path(path) for path in result["files"]]
    for path in files:
        if path.suffix == ".md":
            show_markdown(path.stem, path.read_text(encoding="utf-8"))
    return files
