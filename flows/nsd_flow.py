"""The pipeline: from a copy of NSD to validated assemblies.

Run ``python flows/nsd_flow.py --help``.
"""

if __name__ == "__main__":  # before the libraries: its server starts while they are imported
    from nsd_prep.flows.command import run_command

    raise SystemExit(run_command())

import functools
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from nsd_prep import __version__
from nsd_prep.core.check import STIMULUS_SETS, Check, raise_failed
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.parameters import parameters
from nsd_prep.core.progress import Stages
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.core.threads import share_freed_memory
from nsd_prep.extraction.sessions import SessionRecord, TrialSelection
from nsd_prep.extraction.store import Store
from nsd_prep.flows.recording import without_success_lines
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.cache import in_use
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.locks import only_run_in
from nsd_prep.pipeline.ownership import Ownership
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.run import Run, plan_run
from nsd_prep.pipeline.steps.assemblies import Representations
from nsd_prep.pipeline.steps.brainscore import Images
from nsd_prep.pipeline.steps.checks import ExtractedSubjects, Volumes
from nsd_prep.pipeline.steps.closing import write_checks, write_manifest
from nsd_prep.pipeline.steps.encoding import Encoding, truth_and_digest
from nsd_prep.pipeline.steps.single_trials import SubjectTrials
from nsd_prep.pipeline.summary import Summary, describe_inputs, print_rendered, tables_of_assemblies
from nsd_prep.pipeline.synthetic_beside import synthetic_beside
from nsd_prep.report.stamp import is_stamped, stamp_page
from nsd_prep.single_trials.subject import SingleTrialOptions
from nsd_prep.tasks.artifacts import leave_failure, show_checks, show_markdown, show_report
from nsd_prep.tasks.assembly import (
    assemble_region,
    make_stimulus_sets,
    make_train_and_test,
    write_tables,
)
from nsd_prep.tasks.extraction import extract_sessions
from nsd_prep.tasks.inputs import STEPS
from nsd_prep.tasks.policy import results_in
from nsd_prep.tasks.report import write_report
from nsd_prep.tasks.runners import in_chunks, task_runner
from nsd_prep.tasks.single_trials import (
    examine_single_trials,
    write_single_trials,
    write_single_trials_report,
)
from nsd_prep.tasks.validation import check_stimuli, check_subjects, examine, validate


def _name() -> str:
    """Return the name of a run: dataset, subjects and regions."""
    asked = flow_run.parameters
    root = (
        "synthetic NSD" if asked.get("synthetic") else Path(asked.get("nsd_root") or "no root").name
    )
    subjects = ", ".join(map(str, asked.get("subjects") or ["all"]))
    regions = [*asked.get("regions", ()), *(["own"] if asked.get("regions_file") else [])]
    return f"{root}: subjects {subjects}; {' '.join(regions)}"


def _takes(stated: Callable[..., dict[str, Any]]) -> Callable[..., Callable[..., Any]]:
    """Give a function the signature and the documentation of the parameters, stated once."""
    return functools.wraps(stated, assigned=("__doc__", "__annotations__"))


@flow(
    name="nsd-prep",
    flow_run_name=_name,
    on_failure=[leave_failure],
    on_crashed=[leave_failure],
)
@_takes(parameters)
def nsd_flow(**asked: Any) -> dict[str, Any]:  # noqa: D103 (documented by its parameters)
    share_freed_memory()
    stages = Stages()
    if asked["synthetic"]:
        with stages.stage("writing the synthetic dataset"):
            asked["nsd_root"] = synthetic_beside(asked["output_dir"], asked["nsd_root"])
    run = plan_run(**asked)
    output = outputs.OutputFolder(path=run.output_dir)
    store = Store(path=run.cache_dir / "responses")
    runner = task_runner(run.runner, run.workers, run.dask_address)
    source = run.dataset().source
    with closing(source), only_run_in(run.output_dir), without_success_lines():
        with stages.stage("looking at the inputs"):
            inputs = load_inputs(run, STEPS)
        print_rendered(describe_inputs(run, inputs))
        show_markdown("inputs", "What the run will do", describe_inputs(run, inputs))
        if run.check:
            return {"checked": str(run.nsd_root)}
        with in_use(run.cache_dir), results_in(run.cache_dir / "records"):
            owned = Ownership(output)
            kinds: list[TrialSelection] = ["shared"] if run.assemblies else []
            kinds += ["all"] if run.single_trials else []
            with stages.stage("extracting sessions", len(inputs.betas)) as stage, runner as entered:
                requests = inputs.requests(store, tuple(kinds))
                chunks = in_chunks(requests, run.runner, run.workers)
                sessions = extract_sessions(chunks, store, entered, stage)
                inputs = inputs.as_extracted(sessions)
            volumes = Volumes(inputs)
            with stages.stage("checking sessions and masks"):
                owned.add(check_subjects(ExtractedSubjects(inputs, sessions), volumes))
            if run.single_trials:
                _make_single_trials(run, inputs, sessions, store, output, owned, stages)
            if run.assemblies:
                prepared = Prepared(run, inputs, sessions, store)
                _make(run, inputs, prepared, volumes, output, owned, stages)
            checks = owned.checks
            show_checks(checks)
            write_manifest(run, inputs, owned, stages.seconds, str(flow_run.name or ""))
    tables = tables_of_assemblies(run, prepared) if run.assemblies else []
    summary = Summary(run, tables, owned.files, checks, stages.total)
    print_rendered(summary.for_terminal())
    show_markdown("summary", "What came out", summary.as_markdown())
    raise_failed(checks)
    return {
        "output_dir": str(run.output_dir),
        "images": len(inputs.trials.nsd_ids),
        "files": sorted(name for name in owned.files if "stimuli_" not in name),
    }


def _make_single_trials(
    run: Run,
    inputs: Inputs,
    sessions: Sequence[SessionRecord],
    store: Store,
    output: Folder,
    owned: Ownership,
    stages: Stages,
) -> None:
    """Write all trials of each subject."""
    options = SingleTrialOptions(
        run.normalise, run.split, run.images, run.average, run.dtype, run.format
    )
    place = outputs.SINGLE_TRIALS if run.assemblies else ""
    subjects, written, examined = [], {}, {}
    with stages.stage("writing single trials", len(inputs.betas)):
        for number in run.subjects:
            trials = SubjectTrials(inputs, number, sessions, store)
            subjects.append(trials)
            written[number] = owned.add(write_single_trials(trials, options, place, output))
    with stages.stage("checking single trials", len(run.subjects)) as stage:
        for trials in subjects:
            number = trials.subject
            examined[number] = owned.add(
                examine_single_trials(trials, options, written[number], output)
            )
            stage.advance()
    if not run.assemblies:
        owned.add(write_checks(owned.checks, output))
    if run.report:
        checks = list(owned.checks)
        with stages.stage("writing the report of single trials"):
            owned.add(
                write_single_trials_report(
                    subjects, options, written, examined, checks, place, output
                )
            )
            _stamp_page(run, output.path / place / outputs.PAGE)


def _make(
    run: Run,
    inputs: Inputs,
    prepared: Prepared,
    volumes: Volumes,
    output: Folder,
    owned: Ownership,
    stages: Stages,
) -> None:
    """Make all that a run is to make of what was extracted."""
    with stages.stage("assembling regions", len(run.regions)) as stage:
        tables = owned.add(write_tables(prepared, output))
        assemblies = {}
        for region in run.regions:
            assemblies[region] = owned.add(assemble_region(prepared, region, output))
            stage.advance()
    representations = Representations(assemblies, output)
    with stages.stage("checking files and data"):
        owned.add(validate(prepared, tables, assemblies, output))
        examined = owned.add(examine(prepared, representations, output))
    encoding, stimuli = None, StepOutput()
    if run.brainscore:
        with stages.stage("making train and test for Brain-Score"):
            train_and_test = owned.add(
                make_train_and_test(prepared, assemblies, run.zscore_images, run.suffix, output)
            )
        with stages.stage("writing stimulus sets"):
            stimuli = owned.add(_stimulus_sets(run, inputs, prepared, output))
            photographs = inputs.dataset.is_nsd or inputs.dataset.truth_folder is not None
            owned.add(
                check_stimuli(prepared, representations, stimuli, output, photographs=photographs)
            )
        encoding = Encoding(
            train_and_test, run.suffix, inputs.features, *truth_and_digest(inputs.dataset)
        )
    checks = owned.checks
    owned.add(write_checks(checks, output))
    if run.report:
        with stages.stage("writing the report"):
            report = owned.add(
                write_report(
                    prepared,
                    representations,
                    volumes,
                    examined,
                    checks,
                    stimuli,
                    encoding,
                    output,
                    crossnobis=run.crossnobis,
                )
            )
            _stamp_page(run, output.path / outputs.PAGE)
        show_report(report, output)


def _stamp_page(run: Run, page: Path) -> None:
    """Write on a page when, by which run and with which version it was made."""
    if is_stamped(page):
        return
    written = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    facts = {"Run": str(flow_run.name or ""), "Written": written}
    stamp_page(page, facts | {"Software": f"nsd-prep {__version__}", "Dataset at": run.nsd_root})


def _stimulus_sets(run: Run, inputs: Inputs, prepared: Prepared, output: Folder) -> StepOutput:
    """Write the stimulus sets; where images are missing the run goes on, and a check says so."""
    expected = "the image of every row"
    meaning = "Without its images a benchmark cannot be packaged; all else is made all the same."
    try:
        images = Images(inputs.dataset)
        nsd_ids, is_train = prepared.nsd_ids, prepared.is_train
        made = make_stimulus_sets(images, nsd_ids, is_train, run.suffix, output)
    except (InputFileError, MissingFilesError) as error:
        reason = str(error)
    else:
        found = f"{len(made.files) - 2} images"
        check = Check(STIMULUS_SETS, "", found, expected, "passed", meaning)
        return StepOutput(files=made.files, checks=(check,))
    return StepOutput(
        checks=(Check(STIMULUS_SETS, "", reason, expected, "not decidable", meaning),)
    )
