"""The library's stages put together for one subject, as the tests need them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.check import Check
from nsd_prep.core.errors import FailedChecksError
from nsd_prep.core.parameters import parameters
from nsd_prep.core.records import FileIdentity, Folder
from nsd_prep.dataset.beta_files import beta_files
from nsd_prep.dataset.design import read_design
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.masks import select_voxels
from nsd_prep.dataset.regions import RegionDefinition, VoxelSelection
from nsd_prep.dataset.trials import shared_trials
from nsd_prep.extraction.repetitions import SessionResponses, repetitions_of_images
from nsd_prep.extraction.request import SessionRequest
from nsd_prep.extraction.sessions import SessionRecord, extract_session
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline.composition import run_pipeline
from nsd_prep.pipeline.extraction import extract
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.observer import Observer
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.repeated_images import RepeatedImages
from nsd_prep.pipeline.run import Run, plan_run
from nsd_prep.pipeline.step import InThreads
from nsd_prep.pipeline.summary import Summary


class Watching(Observer):
    """Keeps what a run shows.

    Attributes
    ----------
    inputs : str
        What the run will do.
    summary : Summary
        What came out.
    checks : sequence of Check
        What was checked, also where some failed.
    """

    inputs: str
    summary: Summary
    checks: Sequence[Check] = ()

    def show_inputs(self, text: str) -> None:
        self.inputs = text

    def show_checks(self, checks: Sequence[Check]) -> None:
        self.checks = checks

    def show_summary(self, summary: Summary) -> None:
        self.summary = summary


def whole_run(root: Path, out: Path, **asked: Any) -> Watching:
    """Carry out a whole run, which checks may fail, and return what it shows."""
    watching = Watching()
    with suppress(FailedChecksError):
        run_pipeline(
            parameters(nsd_root=str(root), output_dir=out, **asked), lambda _: InThreads(), watching
        )
    return watching


class Library(NamedTuple):
    """A run by the library alone, up to what was extracted."""

    run: Run
    inputs: Inputs
    prepared: Prepared
    repeated: RepeatedImages
    output: Folder


def planned(root: Path, out: Path, **asked: Any) -> Run:
    """Return a run with the flow's defaults."""
    return plan_run(**parameters(nsd_root=str(root), output_dir=out, **asked))


def prepare(root: Path, out: Path, **asked: Any) -> Library:
    """Load the inputs and extract the sessions of a run."""
    run = planned(root, out, **asked)
    inputs = load_inputs(run)
    sessions, store = extract(run, inputs, InThreads(), Observer(), with_probes=True)
    prepared = Prepared(run, inputs, sessions, store)
    repeated = RepeatedImages(inputs, sessions, store)
    return Library(run, inputs, prepared, repeated, Folder(path=out))


def request_for(
    dataset: Dataset,
    subject: int,
    session: int,
    selection: VoxelSelection,
    store: Path,
    regions: Sequence[str] | None = None,
) -> SessionRequest:
    """Return the request for a session's shared trials in some of a selection's regions."""
    chosen = {name: selection.regions[name] for name in regions or selection.regions}
    trials = trials_of(dataset, subject)
    return SessionRequest(
        subject=subject,
        session=session,
        source=dataset.source,
        files=beta_files(dataset, subject, session, selection.space, None),
        betas=(FileIdentity.from_path(dataset.session_file(subject, session)),),
        n_trials=dataset.trials_per_session,
        trials=tuple(trials.loc[trials["session"] == session, "trial_in_session"]),
        space=selection.space,
        regions=chosen,
        store=Store(path=store),
    )


def trials_of(dataset: Dataset, subject: int) -> pd.DataFrame:
    """Return a subject's shared trials."""
    design = read_design(dataset.design_file)
    return shared_trials(design, subject, dataset.sessions[subject], dataset.trials_per_session)


def responses_of(
    dataset: Dataset,
    subject: int,
    definitions: Mapping[str, RegionDefinition],
    nsd_ids: Sequence[int],
    store: Path,
) -> dict[str, NDArray[np.float32]]:
    """Return each region's responses (n_images, 3, n_voxels), by way of the store."""
    selection = select_voxels(dataset, subject, definitions)
    trials = trials_of(dataset, subject)
    records = [
        extract_session(request_for(dataset, subject, session, selection, store))
        for session in sorted(set(trials["session"]))
    ]
    return {
        region: repetitions_of_images(
            _sessions(records, trials, region, Store(path=store)),
            np.array(nsd_ids, dtype=np.int64),
            len(selection.regions[region]),
        )
        for region in definitions
    }


def _sessions(
    records: Sequence[SessionRecord], trials: pd.DataFrame, region: str, store: Store
) -> Iterator[SessionResponses]:
    for record in records:
        of_session = trials[trials["session"] == record.session]
        yield SessionResponses(
            session=record.session,
            responses=store.read(record.parts[region]),
            nsd_id=of_session["nsd_id"].to_numpy(),
            repetition=of_session["repetition"].to_numpy(),
        )
