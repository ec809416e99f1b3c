"""From the dataset to trials, masks and noise ceilings, and what to extract."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nsd_prep.extraction import SessionRequest
from nsd_prep.files import (
    FileIdentity,
    read_table,
    replaced,
    sha256_of_file,
    sha256_of_json,
    write_text,
)
from nsd_prep.masks import select_voxels
from nsd_prep.preflight import trials_of_subjects
from nsd_prep.run import MasksRecord, NoiseCeilingsRecord, Run, TrialsRecord
from nsd_prep.trials import needed_sessions, read_design, repetition_counts, usable_nsd_ids
from nsd_prep.volumes import read_ncsnr
from nsd_prep.voxels_file import digest_of_voxels, read_voxels_file, write_voxels


def map_trials(run: Run) -> TrialsRecord:
    """Find the trials of the shared images, and write them to ``trials.csv``.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    TrialsRecord
        Which images are usable, and which sessions hold them.
    """
    dataset = run.dataset()
    design = read_design(dataset.design_file)
    trials = trials_of_subjects(run, dataset, design)
    write_text(run.trials_file, trials.to_csv(index=False, lineterminator="\n"))
    nsd_ids = usable_nsd_ids(trials)
    counts = repetition_counts(trials, design.shared_nsd_ids)
    return TrialsRecord(
        file=run.trials_file,
        n_images=len(nsd_ids),
        images_digest=sha256_of_json(nsd_ids.tolist()),
        sessions=needed_sessions(trials),
        repetition_counts={
            subject: tuple(int(count) for count in counts.loc[subject]) for subject in run.subjects
        },
    )


def load_masks(run: Run, subject: int) -> MasksRecord:
    """Find the voxels of a subject's regions, and write them to the cache.

    Parameters
    ----------
    run : Run
        The run.
    subject : int
        1-based.

    Returns
    -------
    MasksRecord
        Where they are, and how many.
    """
    selection = select_voxels(run.dataset(), subject, run.regions)
    return MasksRecord(
        subject=subject,
        file=write_voxels(run.cache_dir / "voxels", subject, selection.grid, selection.regions),
        digests={
            region: digest_of_voxels(voxels, selection.grid)
            for region, voxels in selection.regions.items()
        },
        n_voxels={region: len(voxels) for region, voxels in selection.regions.items()},
    )


def load_noise_ceilings(run: Run, masks: MasksRecord) -> NoiseCeilingsRecord:
    """Read the ncsnr of the voxels of a subject's regions, and write it to the cache.

    Parameters
    ----------
    run : Run
        The run.
    masks : MasksRecord
        The subject's voxels.

    Returns
    -------
    NoiseCeilingsRecord
        Where they are.
    """
    volume = read_ncsnr(run.dataset().ncsnr_file(masks.subject))
    _, regions = read_voxels_file(masks.file)
    ncsnr = {region: volume.flat[voxels] for region, voxels in regions.items()}
    digest = sha256_of_json(
        {region: np.nan_to_num(values, nan=-1).tolist() for region, values in ncsnr.items()}
    )
    path = masks.file.with_name(f"{masks.file.stem}-ncsnr-{digest[:16]}.npz")
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{f"region {name}": of for name, of in ncsnr.items()})
    return NoiseCeilingsRecord(subject=masks.subject, file=path, sha256=sha256_of_file(path))


def session_requests(
    run: Run,
    masks: Sequence[MasksRecord],
    trials: TrialsRecord,
    input_files: Sequence[FileIdentity],
) -> list[SessionRequest]:
    """List what is to be extracted: a request for each session that holds a usable trial.

    Parameters
    ----------
    run : Run
        The run.
    masks : sequence of MasksRecord
        The voxels of every subject.
    trials : TrialsRecord
        The sessions.
    input_files : sequence of FileIdentity
        As preflight saw them; those of the sessions are among them.

    Returns
    -------
    list of SessionRequest
        By subject in the run's order, sessions ascending.
    """
    dataset = run.dataset()
    in_session = _trials_of_sessions(trials)
    identities = {of.path: of for of in input_files}
    return [
        SessionRequest(
            dataset=dataset.name,
            preparation=dataset.preparation,
            subject=of.subject,
            session=session,
            betas_file=identities[str(dataset.session_file(of.subject, session).resolve())],
            n_trials=dataset.trials_per_session,
            trials=tuple(in_session[of.subject, session]["trial_in_session"].tolist()),
            voxels_file=str(of.file),
            regions=of.digests,
            store=str(run.cache_dir / "responses"),
        )
        for of in masks
        for session in trials.sessions[of.subject]
    ]


def _trials_of_sessions(trials: TrialsRecord) -> dict[tuple[int, int], pd.DataFrame]:
    table = read_table(trials.file)
    return {
        (int(subject), int(session)): of
        for (subject, session), of in table.groupby(["subject", "session"])
    }
