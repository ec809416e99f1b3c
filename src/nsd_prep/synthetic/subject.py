"""Write one subject's files: volumes, surfaces, truth."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nsd_prep.dataset.layout import Dataset
from nsd_prep.synthetic.anatomy import Cortex, make_cortex
from nsd_prep.synthetic.betas import BackgroundSession, NoiseCeilingSNR, simulate_session
from nsd_prep.synthetic.design import SyntheticDesign
from nsd_prep.synthetic.formats import (
    Block,
    Storage,
    with_folder,
    write_betas,
    write_label_table,
    write_nifti,
)
from nsd_prep.synthetic.labels import LABEL_NAMES, make_labels_of_subject
from nsd_prep.synthetic.latents import own_latents, shared_latents
from nsd_prep.synthetic.plan import REGIONS, SyntheticPlan
from nsd_prep.synthetic.streams import Purpose, random_stream
from nsd_prep.synthetic.surface_files import write_subject_surfaces
from nsd_prep.synthetic.truth import SubjectTruth, write_subject_truth
from nsd_prep.synthetic.voxels import Voxels, make_voxels


def write_synthetic_subject(
    dataset: Dataset,
    plan: SyntheticPlan,
    design: SyntheticDesign,
    subject: int,
    *,
    seed: int,
    storage: Storage,
    full_sessions: Sequence[int],
    volumes: bool,
    surfaces: bool,
    on_file: Callable[[], None] = lambda: None,
) -> None:
    """Write all files of one subject (1-based), of volumes, of surfaces, or of both.

    In `full_sessions` (1-based) the whole volume is written, and every vertex; `on_file` is called
    after each file of betas.
    """
    sessions, n_trials = plan.subjects[subject].sessions, plan.trials_per_session
    cortex = make_cortex(plan.subjects[subject], subject, seed)
    voxels = make_voxels(plan.subjects[subject], cortex, subject, seed)
    numbers = design.masterordering[: sessions * n_trials].reshape(sessions, n_trials)
    own = own_latents(plan, subject, seed)
    features = np.hstack([shared_latents(plan, seed)[design.subjectim[subject - 1] - 1], own])
    full = np.isin(np.arange(1, sessions + 1), full_sessions)
    # Of a dataset without volumes no file has an ncsnr of voxels.
    ncsnr = np.full(len(voxels.voxel_index), np.nan, dtype=np.float32)
    if volumes:
        ncsnr = _write_volumes(
            dataset,
            subject,
            cortex=cortex,
            voxels=voxels,
            numbers=numbers,
            features=features,
            seed=seed,
            storage=storage,
            full=full,
            on_file=on_file,
        )
    if surfaces:
        write_subject_surfaces(
            dataset,
            plan,
            subject,
            cortex=cortex,
            numbers=numbers,
            features=features,
            seed=seed,
            storage=storage,
            full=full,
            on_file=on_file,
        )
    truth = SubjectTruth(
        grid=np.array(cortex.grid),
        voxel_index=voxels.voxel_index,
        in_region=_membership(cortex, voxels),
        tuning_region=voxels.region,
        tuning=voxels.tuning,
        signal_strength=voxels.signal_strength,
        has_data=voxels.has_data,
        own_latents=own,
        ncsnr=ncsnr,
    )
    write_subject_truth(dataset.root, subject, truth)


def _write_volumes(
    dataset: Dataset,
    subject: int,
    *,
    cortex: Cortex,
    voxels: Voxels,
    numbers: NDArray[np.int64],
    features: NDArray[np.float32],
    seed: int,
    storage: Storage,
    full: NDArray[np.bool_],
    on_file: Callable[[], None],
) -> NDArray[np.float32]:
    """Write a subject's volumes; give the ncsnr of the labelled voxels."""
    sessions, n_trials = numbers.shape
    _write_labels(dataset, subject, cortex)
    background = np.setdiff1d(np.flatnonzero(cortex.brain), voxels.voxel_index)
    snr = NoiseCeilingSNR(numbers, voxels.has_data)
    halves = [NoiseCeilingSNR(numbers, voxels.has_data, split) for split in (1, 0)]
    # Elsewhere in the brain an ncsnr is only there where every session is.
    background_snr = (
        NoiseCeilingSNR(numbers, np.ones((len(background), sessions), bool)) if full.all() else None
    )
    for session in range(1, sessions + 1):
        betas = simulate_session(
            voxels, features[numbers[session - 1] - 1], subject=subject, session=session, seed=seed
        )
        for statistic in (snr, *halves):
            statistic.add(session, betas)
        blocks: Iterator[Block] = iter([(voxels.voxel_index, betas)])
        if full[session - 1]:
            noise = BackgroundSession(
                len(background),
                n_trials,
                sites=random_stream(seed, Purpose.BACKGROUND_VOXELS, subject),
                session=random_stream(seed, Purpose.BACKGROUND_SESSION, subject, session),
            )
            blocks = _whole_volume(
                cortex, (voxels.voxel_index, betas), background, noise, session, background_snr
            )
        path = with_folder(dataset.session_file(subject, session))
        write_betas(path, blocks, n_trials=n_trials, sites=cortex.brain.shape, storage=storage)
        on_file()

    ncsnr = np.full(cortex.brain.size, np.nan, dtype=np.float32)
    ncsnr[voxels.voxel_index] = snr.result()
    if background_snr is not None:
        ncsnr[background] = background_snr.result()
    write_nifti(with_folder(dataset.ncsnr_file(subject)), ncsnr.reshape(cortex.brain.shape))
    for split, half in enumerate(halves, start=1):
        of_half = np.full(cortex.brain.size, np.nan, dtype=np.float32)
        of_half[voxels.voxel_index] = half.result()
        path = dataset.ncsnr_split_file(subject, split)
        write_nifti(path, of_half.reshape(cortex.brain.shape))
    _write_masks(dataset, subject, cortex, voxels, background[:, np.newaxis], full)
    return ncsnr[voxels.voxel_index]


def _whole_volume(
    cortex: Cortex,
    labelled: Block,
    background: NDArray[np.int64],
    noise: BackgroundSession,
    session: int,
    background_snr: NoiseCeilingSNR | None,
) -> Iterator[Block]:
    """Give every voxel of the volume, a slice along Z at a time, zeros outside the brain."""
    voxel_index, betas = labelled
    slice_size = cortex.grid[0] * cortex.grid[1]
    for first in range(0, cortex.brain.size, slice_size):
        values = np.zeros((slice_size, betas.shape[1]), dtype="<i2")
        start, stop = np.searchsorted(voxel_index, [first, first + slice_size])
        values[voxel_index[start:stop] - first] = betas[start:stop]
        start, stop = np.searchsorted(background, [first, first + slice_size])
        simulated = noise.next_voxels(int(stop - start))
        values[background[start:stop] - first] = simulated
        if background_snr is not None:
            background_snr.add(session, simulated, slice(int(start), int(stop)))
        yield np.arange(first, first + slice_size), values


def _write_labels(dataset: Dataset, subject: int, cortex: Cortex) -> None:
    for family, labels in make_labels_of_subject(cortex, subject).items():
        hemispheres = (("lh", ~cortex.right), ("rh", cortex.right), (None, slice(None)))
        for hemisphere, voxels in hemispheres:
            volume = np.full(cortex.brain.size, -1.0)
            volume[cortex.voxel_index[voxels]] = labels[voxels]
            path = dataset.roi_file(subject, family, hemisphere)  # type: ignore[arg-type]
            write_nifti(with_folder(path), volume.reshape(cortex.brain.shape))
        table = dataset.label_table(subject, family)
        if table is not None:
            write_label_table(with_folder(table), LABEL_NAMES[family])


def _write_masks(
    dataset: Dataset,
    subject: int,
    cortex: Cortex,
    voxels: Voxels,
    background: NDArray[np.int64],
    full: NDArray[np.bool_],
) -> None:
    """Write the brain mask and the valid voxels, which only the official layout has."""
    if dataset.layout != "official":
        return
    folder = dataset.roi_file(subject, "streams").parent.parent
    write_nifti(folder / "brainmask.nii.gz", cortex.brain.astype(np.uint8))
    valid = np.zeros((cortex.brain.size, len(full)), dtype=np.uint8)
    valid[voxels.voxel_index] = voxels.has_data
    valid[background, np.flatnonzero(full)] = 1
    shape = cortex.brain.shape
    write_nifti(folder / "valid.nii.gz", valid.mean(axis=1, dtype=np.float32).reshape(shape))
    for session in range(1, len(full) + 1):
        path = folder / f"valid_session{session:02d}.nii.gz"
        write_nifti(path, valid[:, session - 1].reshape(shape))


def _membership(cortex: Cortex, voxels: Voxels) -> NDArray[np.bool_]:
    """Tell which voxels belong to which region, as the label volumes say: (6, n_voxels) bool."""
    members: NDArray[np.bool_] = voxels.region == np.arange(len(REGIONS))[:, np.newaxis]
    rows = np.searchsorted(cortex.voxel_index, voxels.voxel_index)
    members[REGIONS.index("IT")] = cortex.ventral[rows]
    return members
