"""What preflight loads: trials, masks, noise ceilings, and which sessions are needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.checks.probes import choose_probes
from nsd_prep.core.records import FileRecord
from nsd_prep.dataset.beta_files import BetaFile, NativeVertices, beta_files, read_of_files
from nsd_prep.dataset.betas import MGH
from nsd_prep.dataset.cortex import Cortex
from nsd_prep.dataset.frames import frames_bytes
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.regions import VoxelSelection
from nsd_prep.dataset.source import Identity
from nsd_prep.dataset.surfaces import SurfaceMap
from nsd_prep.dataset.trials import needed_sessions, usable_nsd_ids
from nsd_prep.dataset.volumes import Volume
from nsd_prep.extraction.request import SessionRequest, TrialSelection
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.extraction.store import Store

#: Bytes of a beta and of an extracted response.
_BETA, _RESPONSE = np.dtype(np.int16).itemsize, np.dtype(np.float32).itemsize


@dataclass(frozen=True, eq=False)
class Trials:
    """What the design gives for the subjects of a run.

    Attributes
    ----------
    table : DataFrame
        As `nsd_prep.dataset.trials.shared_trials`, with ``usable``; subjects in the run's order.
    repetition_counts : DataFrame of int, shape (n_subjects, 4)
        As `nsd_prep.dataset.trials.repetition_counts`.
    is_train : ndarray of bool, shape (n_images,)
        Which of the usable images, ascending, are for training.
    files : tuple of FileRecord
        What was read.
    all_trials : mapping of int to DataFrame
        For single trials, all trials of each subject (1-based), as
        `nsd_prep.dataset.trials.trial_table`.
    images : DataFrame or None
        For single trials, as `nsd_prep.dataset.image_table.table_of_images`.
    split : mapping
        What the split of assemblies depends on beside the design, for the attributes of files:
        split_subjects, seed, train_fraction.
    planned : mapping of int to DataFrame
        All trials of each subject (1-based), as `nsd_prep.dataset.trials.planned_trials`.
    """

    table: pd.DataFrame
    repetition_counts: pd.DataFrame
    is_train: NDArray[np.bool_]
    files: tuple[FileRecord, ...] = ()
    all_trials: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    images: pd.DataFrame | None = None
    split: Mapping[str, str | int | float] = field(default_factory=dict)
    planned: Mapping[int, pd.DataFrame] = field(default_factory=dict)

    @property
    def nsd_ids(self) -> NDArray[np.int64]:
        """The usable images (n_images,), 0-based and ascending."""
        return usable_nsd_ids(self.table)

    @property
    def sessions(self) -> dict[int, tuple[int, ...]]:
        """The sessions (1-based) of each subject (1-based) that are to be read."""
        if self.all_trials:
            return {
                subject: tuple(int(number) for number in np.unique(trials["session"]))
                for subject, trials in self.all_trials.items()
            }
        return needed_sessions(self.table)


@dataclass(frozen=True, eq=False)
class Masks:
    """The voxels of a subject's regions, and the volumes around them.

    Attributes
    ----------
    subject : int
        1-based.
    selection : VoxelSelection
        Voxels of each region.
    keep : ndarray of int64, shape (n_voxels,), or None
        Voxels of which all trials are kept, as those of a region.
    native : NativeVertices or None
        Where betas of fsaverage are taken from the files of the subject's own surface.
    brain : ndarray of bool, shape (Z, Y, X), or None
        The brain mask, where the dataset has one.
    anatomy : ndarray of float, shape (Z, Y, X), or None
        The T1 on the betas' grid, where the dataset has one.
    files : tuple of FileRecord
        What was read.
    """

    subject: int
    selection: VoxelSelection
    brain: NDArray[np.bool_] | None = None
    anatomy: NDArray[np.floating] | None = None
    files: tuple[FileRecord, ...] = ()
    keep: NDArray[np.int64] | None = None
    native: NativeVertices | None = None

    @property
    def voxels(self) -> NDArray[np.int64]:
        """The voxels that are read of each session (n_voxels,), each once, ascending."""
        union = self.selection.union()
        return union if self.keep is None else np.union1d(union, self.keep)


@dataclass(frozen=True, eq=False)
class NoiseCeilings:
    """The noise ceiling SNR of a subject.

    Attributes
    ----------
    subject : int
        1-based.
    ncsnr : Volume or SurfaceMap
        For all sites, float32; NaN where one has no data.
    files : tuple of FileRecord
        What was read.
    splits : tuple of ndarray of float32, shape (n_sites,)
        For single trials, ncsnr over each half of the images, where the dataset has both.
    """

    subject: int
    ncsnr: Volume | SurfaceMap
    files: tuple[FileRecord, ...] = ()
    splits: tuple[NDArray[np.float32], ...] = ()


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that a run needs of a dataset, but for the betas themselves.

    Attributes
    ----------
    dataset : Dataset
        Where they come from.
    trials : Trials
        Images and sessions.
    masks, noise_ceilings : mapping of int
        Of each subject (1-based), in the run's order.
    betas : mapping of (int, int) to tuple of FileIdentity
        The files of each needed session, by subject and session (1-based), or their addresses.
    features : FileRecord or None
        The file of the images' features.
    no_images : str
        Why no stimulus sets can be made of the images; empty where they can be, or need not be.
    cortex : Cortex or None
        What maps are drawn on.
    """

    dataset: Dataset
    trials: Trials
    masks: Mapping[int, Masks]
    noise_ceilings: Mapping[int, NoiseCeilings]
    betas: Mapping[tuple[int, int], tuple[Identity, ...]]
    features: FileRecord | None = None
    no_images: str = ""
    cortex: Cortex | None = None

    @property
    def files(self) -> list[FileRecord | Identity]:
        """Every file that preflight examined, each once."""
        read = [*self.trials.files, *((self.features,) if self.features else ())]
        read += self.cortex.files if self.cortex else ()
        for subject, masks in self.masks.items():
            read += [*masks.files, *self.noise_ceilings[subject].files]
        betas = [identity for files in self.betas.values() for identity in files]
        return [*{record.path: record for record in read}.values(), *betas]

    @property
    def design(self) -> dict[str, str]:
        """Digest of the file of the experiment's design, for the attributes of files."""
        return design_of(self.trials, self.dataset)

    def as_extracted(self, sessions: Sequence[SessionRecord]) -> "Inputs":
        """Return these inputs with the files of betas that were read in the end."""
        betas = {(record.subject, record.session): record.betas for record in sessions}
        return replace(self, betas={key: betas.get(key, self.betas[key]) for key in self.betas})

    @property
    def n_voxels(self) -> dict[str, int]:
        """Voxels of each region, all subjects together."""
        selections = [masks.selection for masks in self.masks.values()]
        return {
            region: sum(len(selection.regions[region]) for selection in selections)
            for region in selections[0].regions
        }

    @property
    def subjects_without(self) -> dict[str, tuple[int, ...]]:
        """The subjects (1-based) who lack a region, of each region that one of them lacks."""
        lacking = {
            region: tuple(
                subject
                for subject, masks in self.masks.items()
                if len(masks.selection.regions[region]) == 0
            )
            for region in self.n_voxels
        }
        return {region: subjects for region, subjects in lacking.items() if subjects}

    @property
    def bytes_to_read(self) -> int:
        """Bytes of the betas that a run reads if the cache is empty."""
        return sum(
            own_bytes
            for subject, session in self.betas
            for own_bytes in self._bytes_of_session(subject, session)
        )

    def _bytes_of_session(self, subject: int, session: int) -> Iterator[int]:
        """Give the bytes that are read of each file of a session."""
        sites, n_trials = self.masks[subject].voxels, self.dataset.trials_per_session
        for file, own in read_of_files(self.beta_files(subject, session), sites):
            if file.path.suffix == MGH:  # every frame is passed through
                yield frames_bytes(file.shape[0], n_trials)
            else:
                yield len(own) * n_trials * _BETA

    def beta_files(self, subject: int, session: int) -> tuple[BetaFile, ...]:
        """Return the files of a session (subject and session 1-based)."""
        masks = self.masks[subject]
        return beta_files(self.dataset, subject, session, masks.selection.space, masks.native)

    @property
    def bytes_to_write(self) -> int:
        """Bytes of extracted responses and of assemblies."""
        shared = self.trials.table.groupby(["subject", "session"]).size()
        stored = sum(
            int(shared.get(key, 0))
            * sum(len(voxels) for voxels in self.masks[key[0]].selection.regions.values())
            for key in self.betas
        )
        n_values = stored + len(self.trials.nsd_ids) * sum(self.n_voxels.values())
        kept_voxels = [self.masks[subject].keep for subject, _ in self.betas]
        n_kept = sum(len(voxels) for voxels in kept_voxels if voxels is not None)
        n_probes = {subject: sum(map(len, self.probes(subject).values())) for subject in self.masks}
        n_kept += sum(n_probes[subject] for subject, _ in self.betas)
        return n_values * _RESPONSE + n_kept * self.dataset.trials_per_session * self._bytes_of_beta

    @property
    def bytes_of_all_trials(self) -> int:
        """Bytes of all trials of the sessions, of each region's voxels, as they are extracted."""
        n_voxels = sum(
            len(voxels)
            for subject, _ in self.betas
            for voxels in self.masks[subject].selection.regions.values()
        )
        return n_voxels * self.dataset.trials_per_session * self._bytes_of_beta

    @property
    def _bytes_of_beta(self) -> int:
        return _RESPONSE if self.dataset.stores_floats else _BETA

    def probes(self, subject: int) -> dict[str, NDArray[np.int64]]:
        """Return the sites of a subject's (1-based) probes by region, as `choose_probes`."""
        ncsnr = self.noise_ceilings[subject].ncsnr.values.ravel()
        regions = self.masks[subject].selection.regions
        chosen = {name: voxels[choose_probes(ncsnr[voxels])] for name, voxels in regions.items()}
        return {name: sites for name, sites in chosen.items() if len(sites)}

    def noted(self) -> dict[str, dict[str, Any]] | None:
        """Return what was noted of all files when they were read, for a later run to compare.

        None of a dataset at an address, and where a file was not noted.
        """
        states = self.dataset.source.states
        if states is None:
            return None
        for record in self.files:  # files of the user's beside the dataset
            beside = not Path(record.path).is_relative_to(self.dataset.root)
            if isinstance(record, FileRecord) and beside:
                states.note_content(Path(record.path), record.blake3)
        noted = states.as_json()
        versions = [facts["version"][0] for facts in noted.values() if facts.get("version")]
        for record in self.files:
            if isinstance(record, FileRecord):
                is_noted = noted.get(record.path, {}).get("blake3") == record.blake3
            else:
                is_noted = record.path in versions
            if not is_noted:
                return None
        return noted

    def requests(
        self,
        store: Store,
        kinds: tuple[TrialSelection, ...] = ("shared",),
        *,
        with_probes: bool = False,
    ) -> list[SessionRequest]:
        """List what is to be extracted: by subject in the run's order, sessions ascending."""
        probes = {subject: self.probes(subject) if with_probes else {} for subject in self.masks}
        in_session = {
            (int(subject), int(session)): tuple(trials["trial_in_session"].tolist())
            for (subject, session), trials in self.trials.table.groupby(["subject", "session"])
        }
        return [
            SessionRequest(
                subject=subject,
                session=session,
                source=self.dataset.source,
                files=self.beta_files(subject, session),
                betas=identities,
                n_trials=self.dataset.trials_per_session,
                trials=in_session.get((subject, session), ()),
                space=self.masks[subject].selection.space,
                regions={
                    region: voxels
                    for region, voxels in self.masks[subject].selection.regions.items()
                    if len(voxels)
                },
                store=store,
                kinds=kinds,
                keep=self.masks[subject].keep,
                probes=probes[subject],
            )
            for (subject, session), identities in self.betas.items()
        ]


def design_of(trials: Trials, dataset: Dataset) -> dict[str, str]:
    """Return the digest of the file of the experiment's design, which tells datasets apart."""
    path = dataset.source.where(dataset.design_file)
    digests = [record.digest for record in trials.files if record.path == path]
    return {"design": digests[0]} if digests else {}
