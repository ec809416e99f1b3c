"""A run, put together: from its inputs to its manifest."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from nsd_prep import __version__
from nsd_prep.checks.images import STIMULUS_SETS
from nsd_prep.checks.registry import as_table
from nsd_prep.core.check_table import raise_failed
from nsd_prep.core.counts import counted
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.core.locks import new_folders_removed
from nsd_prep.core.progress import Stage
from nsd_prep.core.records import StepOutput
from nsd_prep.core.threads import return_freed_memory
from nsd_prep.extraction.request import TrialSelection
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.pipeline import outputs, step_table
from nsd_prep.pipeline.cache import in_use
from nsd_prep.pipeline.check_inputs import check_inputs
from nsd_prep.pipeline.descriptions import describe_inputs, remarks, tables_of_assemblies
from nsd_prep.pipeline.extraction import extract
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.libraries import import_report
from nsd_prep.pipeline.locks import only_run_in
from nsd_prep.pipeline.observer import Observer
from nsd_prep.pipeline.ownership import Ownership
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.repeated_images import RepeatedImages
from nsd_prep.pipeline.run import Run, plan_run
from nsd_prep.pipeline.step import Execution
from nsd_prep.pipeline.steps.assemblies import Representations
from nsd_prep.pipeline.steps.brainscore import Images
from nsd_prep.pipeline.steps.closing import write_checks, write_manifest
from nsd_prep.pipeline.steps.report_inputs import (
    Drawing,
    Encoding,
    ReportInputs,
    truth_and_digest,
)
from nsd_prep.pipeline.steps.single_trials import ImageTable, SubjectTrials
from nsd_prep.pipeline.summary import Summary
from nsd_prep.pipeline.synthetic_beside import synthetic_beside
from nsd_prep.pipeline.unchanged import State
from nsd_prep.report.stamp import is_stamped, stamp_page
from nsd_prep.single_trials.subject import SingleTrialOptions


@dataclass(frozen=True)
class RunResult:
    """What a run has made.

    Attributes
    ----------
    output_dir : Path
        The output folder.
    n_images : int
        How many images the subjects share, each seen three times by all.
    files : dict of str to str
        BLAKE3 of every file, by its name in the output folder; none where only the inputs were
        checked.
    checks : DataFrame
        What was checked, as in ``checks.csv``.
    """

    output_dir: Path
    n_images: int
    files: dict[str, str]
    checks: pd.DataFrame


def run_pipeline(
    parameters: dict[str, Any], executed_by: Callable[[Run], Execution], observer: Observer
) -> RunResult:
    """Carry out a run.

    Parameters
    ----------
    parameters : dict
        As `nsd_prep.core.parameters.parameters` returns them.
    executed_by : callable
        Gives what carries out the steps of a run.
    observer : Observer
        What people see of it.

    Raises
    ------
    ParameterError, MissingFilesError, InputFileError
        As `plan_run`; a ParameterError also where another run is writing into the output
        folder, or results in it do not belong together with what this run makes.
    PreflightError
        All that is wrong with the inputs.
    ExtractionError
        Sessions that could not be extracted, when all others are.
    FailedChecksError
        The checks that failed, when everything is written.
    OutputError, OSError
        A file cannot be written; the disk fails.
    """
    state = State.at_begin(parameters)
    if parameters["synthetic"]:
        with observer.stage("writing the synthetic dataset"):
            root = synthetic_beside(parameters["output_dir"], parameters["nsd_root"])
        parameters = parameters | {"nsd_root": root}
    run = plan_run(**parameters)
    if run.report and not run.check:
        import_report()  # which fails now, if it does, and not after hours
    execution = executed_by(run)
    if run.check:
        with closing(run.dataset().source), observer.stage("checking inputs"):
            inputs, found = check_inputs(run, execution)
        observer.show_inputs(found)
        return RunResult(run.output_dir, len(inputs.trials.nsd_ids), {}, as_table([]))
    with (
        closing(run.dataset().source),
        new_folders_removed(run.cache_dir, run.output_dir),
        only_run_in(run.output_dir),
    ):
        with observer.stage("checking inputs"):
            inputs = load_inputs(run, execution)
        output = outputs.OutputFolder(path=run.output_dir)
        owned = Ownership(output, run, inputs)
        owned.require_that_all_belongs_together()
        observer.show_inputs(describe_inputs(run, inputs) + owned.account())
        with in_use(run.cache_dir):
            pipeline = _Pipeline(run, inputs, output, owned, execution, observer)
            sessions = pipeline.extract()
            if run.single_trials:
                pipeline.make_single_trials(sessions)
            if run.assemblies:
                pipeline.make_assemblies(sessions)
            pipeline.close(state)
    pipeline.show_summary()
    checks = as_table(pipeline.owned.checks)
    raise_failed(checks)
    files = dict(pipeline.owned.files)
    return RunResult(run.output_dir, len(inputs.trials.nsd_ids), files, checks)


class _Pipeline:
    """The steps of a run after its inputs are loaded, in order."""

    def __init__(
        self,
        run: Run,
        inputs: Inputs,
        output: outputs.OutputFolder,
        owned: Ownership,
        execution: Execution,
        observer: Observer,
    ) -> None:
        self.run, self.inputs = run, inputs
        self.output, self.owned = output, owned
        self._call, self._execution = execution.call, execution
        self._observer = observer
        self._tables: list[tuple[str, pd.DataFrame]] = []

    def _stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """Begin a stage, without the memory that those before it have freed."""
        return_freed_memory()
        return self._observer.stage(name, total)

    def extract(self) -> list[SessionRecord]:
        """Extract the sessions; check that they hold data, and that masks lie in the brain."""
        kinds: list[TrialSelection] = ["shared"] if self.run.assemblies else []
        kinds += ["all"] if self.run.single_trials else []
        sessions, self.store = extract(
            self.run,
            self.inputs,
            self._execution,
            self._observer,
            tuple(kinds),
            with_probes=self.run.assemblies,
        )
        self.inputs = self.inputs.as_extracted(sessions)
        with self._stage("checking sessions and masks"):
            self.owned.add(
                self._call(
                    step_table.CHECK_SUBJECTS,
                    self.inputs.masks,
                    self.inputs.noise_ceilings,
                    sessions,
                )
            )
        self.owned.begin()
        return sessions

    def make_single_trials(self, sessions: Sequence[SessionRecord]) -> None:
        """Write and check all trials of each subject, and their report."""
        run, output, owned = self.run, self.output, self.owned
        options = SingleTrialOptions(
            run.normalise, run.training_split, run.images, run.average, run.dtype, run.format
        )
        subfolder = outputs.SINGLE_TRIALS if run.assemblies else ""
        if self.inputs.trials.images is not None:
            images = ImageTable(self.inputs.trials.images, run.coco_annotations)
            with self._stage("writing the table of images"):
                owned.add(self._call(step_table.WRITE_IMAGES, images, subfolder, output))
        subjects, written, examined = [], {}, {}
        with self._stage("writing single trials", len(self.inputs.betas)):
            for number in run.subjects:
                trials = SubjectTrials(
                    self.inputs, number, sessions, self.store, run.minima, output.path / subfolder
                )
                subjects.append(trials)
                written[number] = owned.add(
                    self._call(step_table.WRITE_SINGLE_TRIALS, trials, options, subfolder, output)
                )
        with self._stage("checking single trials", len(run.subjects)) as stage:
            for trials in subjects:
                file = written[trials.subject]
                examined[trials.subject] = owned.add(
                    self._call(step_table.EXAMINE_SINGLE_TRIALS, trials, options, file, output)
                )
                stage.advance()
        if not run.assemblies:
            owned.add(write_checks(owned.checks, output))
        if run.report:
            checks = list(owned.checks)
            with self._stage("writing the report of single trials"):
                owned.add(
                    self._call(
                        step_table.WRITE_SINGLE_TRIALS_REPORT,
                        subjects,
                        options,
                        written,
                        examined,
                        checks,
                        subfolder,
                        output,
                    )
                )
                self._stamp_page(output.path / subfolder / outputs.PAGE)

    def make_assemblies(self, sessions: Sequence[SessionRecord]) -> None:
        """Write and check the assembly of each region, and what is made of assemblies."""
        run, output, owned = self.run, self.output, self.owned
        prepared = Prepared(run, self.inputs, sessions, self.store)
        with self._stage("assembling regions", len(run.regions)) as stage:
            tables = owned.add(self._call(step_table.WRITE_TABLES, prepared, output))
            assemblies = {}
            for region in run.regions:
                assemblies[region] = owned.add(
                    self._call(step_table.ASSEMBLE_REGION, prepared, region, output)
                )
                stage.advance()
        representations = Representations(assemblies, output, with_reliable=run.report)
        with self._drawing(prepared) as drawing:
            with self._stage("checking files and data"):
                owned.add(
                    self._call(step_table.VALIDATE, prepared, tables, representations, output)
                )
                repeated = RepeatedImages(self.inputs, sessions, self.store)
                examined = owned.add(
                    self._call(step_table.EXAMINE, prepared, repeated, representations, output)
                )
                prepared.evidence.clear()  # nothing else takes it, nor the step if it is cached
            gathered = ReportInputs(
                prepared=prepared,
                representations=representations,
                masks=self.inputs.masks,
                noise_ceilings=self.inputs.noise_ceilings,
                examined=examined,
                crossnobis=run.crossnobis,
                cortex=self.inputs.cortex,
                drawing=drawing,
            )
            if run.report:
                from nsd_prep.pipeline.steps.report import begin_with_voxels  # which takes long

                gathered = begin_with_voxels(gathered, output)
            if run.brainscore:
                gathered = self._make_packages(gathered, assemblies)
            checks = tuple(owned.checks)
            owned.add(write_checks(checks, output))
            if run.report:
                gathered = replace(gathered, checks=checks)
                with self._stage("writing the report"):
                    report = owned.add(self._call(step_table.WRITE_REPORT, gathered, output))
                    self._stamp_page(output.path / outputs.PAGE)
                self._observer.show_report(report, output)
        self._tables = tables_of_assemblies(run, prepared)

    def _drawing(self, prepared: Prepared) -> AbstractContextManager[Drawing | None]:
        """Let figures of a report be drawn while a block runs, if there is to be one."""
        if not self.run.report:
            return nullcontext()
        from nsd_prep.pipeline.steps.report import drawing  # which takes long

        return drawing(prepared)

    def _make_packages(
        self, gathered: ReportInputs, assemblies: Mapping[str, StepOutput]
    ) -> ReportInputs:
        """Write and check the train and test assemblies and the stimulus sets."""
        run, output, prepared = self.run, self.output, gathered.prepared
        with self._stage("writing train and test assemblies"):
            train_and_test = self.owned.add(
                self._call(
                    step_table.MAKE_TRAIN_AND_TEST, prepared, run.zscore_images, run.suffix, output
                )
            )
        with self._stage("writing stimulus sets"):
            stimuli = self._make_stimulus_sets(prepared, gathered.representations)
        encoding = Encoding(
            train_and_test,
            run.suffix,
            self.inputs.features,
            *truth_and_digest(self.inputs.dataset),
        )
        gathered = replace(gathered, stimuli=stimuli, encoding=encoding)
        if run.report:
            from nsd_prep.pipeline.steps.report import begin_with_packages  # which takes long

            gathered = begin_with_packages(gathered, output)
        with self._stage("checking train and test assemblies"):
            self.owned.add(
                self._call(
                    step_table.CHECK_TRAIN_AND_TEST,
                    prepared,
                    assemblies,
                    train_and_test,
                    run.suffix,
                    output,
                )
            )
        return gathered

    def _make_stimulus_sets(
        self, prepared: Prepared, representations: Representations
    ) -> StepOutput:
        """Write and check the stimulus sets; that images are missing is a check, and no error."""
        dataset, output = self.inputs.dataset, self.output
        try:
            made = self._call(
                step_table.MAKE_STIMULUS_SETS,
                Images.of(dataset),
                prepared.nsd_ids,
                prepared.is_train,
                self.run.suffix,
                output,
            )
        except (InputFileError, MissingFilesError) as error:
            stimuli = StepOutput(checks=(STIMULUS_SETS.check(None, found=str(error)),))
        else:
            n_images = len(made.files) - 2
            found = counted(n_images, "image")
            check = STIMULUS_SETS.check(True, measured=n_images, found=found)
            stimuli = StepOutput(files=made.files, checks=(check,))
        self.owned.add(stimuli)
        self.owned.add(
            self._call(
                step_table.CHECK_STIMULI,
                prepared,
                representations,
                stimuli,
                output,
                photographs=dataset.is_nsd or dataset.truth_folder is not None,
            )
        )
        return stimuli

    def close(self, state: State) -> None:
        """Write the manifest, the last file of a run that began in a state."""
        owned, observer = self.owned, self._observer
        observer.show_checks(owned.checks)
        ended = None
        if (noted := self.inputs.noted()) is not None:
            ended = state.at_end(noted, self._tables, remarks(owned.checks))
        write_manifest(self.inputs, owned, observer.stages, observer.run_name, ended)

    def show_summary(self) -> None:
        """Show what came out."""
        owned, seconds = self.owned, self._observer.stages.total
        self._observer.show_summary(
            Summary(
                self.run.output_dir,
                self.run.suffix,
                self._tables,
                remarks(owned.checks),
                owned.files,
                as_table(owned.checks),
                seconds,
            )
        )

    def _stamp_page(self, page: Path) -> None:
        """Write on a page when, by which run and with which version it was made."""
        if is_stamped(page):
            return
        name = self._observer.run_name
        written = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
        facts = ({"Run": name} if name else {}) | {"Written": written}
        facts |= {"Software": f"nsd-prep {__version__}", "Dataset at": self.run.nsd_root}
        stamp_page(page, facts)
