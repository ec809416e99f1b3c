"""The library's stages put together for one subject, as the tests need them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.dataset import Dataset
from nsd_prep.extraction import (
    SessionRecord,
    SessionRequest,
    extract_session,
)
from nsd_prep.files import FileIdentity
from nsd_prep.masks import select_voxels
from nsd_prep.regions import RegionDefinition, VoxelSelection
from nsd_prep.responses import SessionResponses, repetitions_of_images
from nsd_prep.trials import read_design, shared_trials
from nsd_prep.voxels_file import digest_of_voxels, write_voxels


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
        dataset=dataset.name,
        preparation=dataset.preparation,
        subject=subject,
        session=session,
        betas_file=FileIdentity.of(dataset.session_file(subject, session)),
        n_trials=dataset.trials_per_session,
        trials=tuple(trials.loc[trials["session"] == session, "trial_in_session"]),
        voxels_file=str(write_voxels(store, subject, selection.grid, chosen)),
        regions={name: digest_of_voxels(of, selection.grid) for name, of in chosen.items()},
        store=str(store),
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
            _sessions(records, trials, region),
            np.array(nsd_ids, dtype=np.int64),
            len(selection.regions[region]),
        )
        for region in definitions
    }


def _sessions(
    records: Sequence[SessionRecord], trials: pd.DataFrame, region: str
) -> Iterator[SessionResponses]:
    for record in records:
        of_session = trials[trials["session"] == record.session]
        yield SessionResponses(
            session=record.session,
            responses=record.parts[region].read(),
            nsd_id=of_session["nsd_id"].to_numpy(),
            repetition=of_session["repetition"].to_numpy(),
        )
