"""The subjects of an open dataset, each read when it is asked for, by the functions of a run."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import xarray as xr

from nsd_prep.core.errors import ParameterError
from nsd_prep.core.parameters import MissingRegions
from nsd_prep.dataset.layout import chosen_subjects, sequence_of_subjects
from nsd_prep.dataset.region_choice import Region, Regions, definitions_of
from nsd_prep.dataset.regions import RegionDefinition
from nsd_prep.dataset.source import naming_addresses
from nsd_prep.extraction.request import TrialSelection
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline.cache import in_use
from nsd_prep.pipeline.extraction import extract
from nsd_prep.pipeline.inputs import Inputs, Trials
from nsd_prep.pipeline.labelled import labelled_responses
from nsd_prep.pipeline.loading import map_trials
from nsd_prep.pipeline.observer import TerminalObserver
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.run import Run
from nsd_prep.pipeline.step import InThreads
from nsd_prep.pipeline.steps.single_trials import SubjectTrials
from nsd_prep.pipeline.stored_trials import single_trials_file
from nsd_prep.single_trials.reliability import VoxelMinima
from nsd_prep.single_trials.subject import SingleTrialOptions

_logger: Final = logging.getLogger(__name__)


class OpenSubjects:
    """The subjects of a run, with what was read of all of them.

    Attributes
    ----------
    run : Run
        Dataset, subjects and the folder of the cache.
    regions : dict of str to RegionDefinition
        Those that are known by name.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.regions = dict(run.regions)
        self._store = Store(path=run.cache_dir / "responses")

    def chosen(self, subjects: Sequence[int] | None) -> tuple[int, ...]:
        """Return the subjects that are given, or all that are open where nothing is given.

        ParameterError where one is not open or is given twice, or where there is none.
        """
        if subjects is None:
            return self.run.subjects
        subjects = sequence_of_subjects(subjects)
        self.require(subjects)
        return chosen_subjects(self.run.dataset(), subjects)

    def require(self, subjects: Iterable[int]) -> None:
        """Raise a ParameterError where a subject is not open."""
        for subject in subjects:
            if subject not in self.run.subjects or isinstance(subject, bool):
                listed = ", ".join(map(str, self.run.subjects))
                raise ParameterError(f"The subject {subject!r} is not open: give one of {listed}.")

    @cached_property
    def shared_trials(self) -> Trials:
        """The trials of all open subjects that show a shared image."""
        return self._map_trials(single_trials=False)

    @cached_property
    def all_trials(self) -> Trials:
        """All trials of all open subjects."""
        return self._map_trials(single_trials=True)

    def shared_trials_of(self, subject: int) -> Trials:
        """Return a subject's trials; which images are usable depends on all open subjects."""
        self.require([subject])
        return _of_subject(self.shared_trials, subject)

    def all_trials_of(self, subject: int) -> Trials:
        """Return the same with the trials that show no shared image."""
        self.require([subject])
        return _of_subject(self.all_trials, subject)

    def definitions(self, regions: Regions) -> dict[str, RegionDefinition]:
        """Return the definitions of regions by name."""
        return definitions_of(regions, self.regions, self.run.space)

    def load_without_sessions(self, subject: int, regions: Regions) -> Inputs:
        """Return what is known of a subject's regions before any session is looked at."""
        trials = self.shared_trials_of(subject)
        _, inputs = self._load(subject, regions, replace(trials, table=trials.table[:0]))
        return inputs

    def responses(self, subject: int, region: Region) -> xr.DataArray:
        """Extract a subject's responses in a region to the images that all saw three times."""
        run, inputs = self._load(subject, region, self.shared_trials_of(subject))
        with in_use(self.run.cache_dir):
            prepared = Prepared(run, inputs, self._extract(inputs, "shared"), self._store)
            return labelled_responses(prepared, subject, self.run.attributes())

    def single_trials_file(
        self,
        subject: int,
        regions: Regions,
        options: SingleTrialOptions,
        minima: VoxelMinima,
        lacking: MissingRegions | None = None,
    ) -> Path:
        """Return the file of a subject's single trials in the cache, written where it is not."""
        _, inputs = self._load(subject, regions, self.all_trials_of(subject), lacking)
        with in_use(self.run.cache_dir):
            sessions = self._extract(inputs, "all")
            trials = SubjectTrials(inputs, int(subject), sessions, self._store, minima)
            return single_trials_file(trials, options, self._store, len(sessions))

    def _map_trials(self, *, single_trials: bool) -> Trials:
        with naming_addresses(self.run.dataset().source):
            return map_trials(self.run.model_copy(update={"single_trials": single_trials}))

    def _load(
        self,
        subject: int,
        regions: Regions,
        trials: Trials,
        lacking: MissingRegions | None = None,
    ) -> tuple[Run, Inputs]:
        """Look at what a subject's trials and regions need, as a run of the flow does.

        `lacking` is what becomes of regions that the subject has not, if not what the run says.
        """
        chosen: dict[str, Any] = {
            "subjects": (int(subject),),
            "regions": self.definitions(regions),
            "missing_regions": lacking or self.run.missing_regions,
            "single_trials": True,
        }
        run = self.run.model_copy(update=chosen)
        inputs = load_inputs(run, trials=trials)
        if lacking == "skip":
            return run, inputs
        for region, volume, label in inputs.masks[subject].selection.absent_labels:
            _logger.warning(
                f"Subject {subject} has no voxel with the label {label} of {volume}, one of the "
                f"labels of the region {region}."
            )
        return run, inputs

    def _extract(self, inputs: Inputs, kind: TrialSelection) -> list[SessionRecord]:
        execution = InThreads(self.run.workers)
        sessions, _ = extract(self.run, inputs, execution, TerminalObserver(), (kind,))
        return sessions


def _of_subject(trials: Trials, subject: int) -> Trials:
    all_trials = {int(subject): trials.all_trials[subject]} if trials.all_trials else {}
    table = trials.table[trials.table["subject"] == subject]
    return replace(trials, table=table, all_trials=all_trials)
