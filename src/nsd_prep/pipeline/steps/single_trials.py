"""All trials of a subject, written from what the store holds of them."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep import __version__
from nsd_prep.checks.decision import FEWEST_IMAGES_OF_SHARE, NO_SHARE
from nsd_prep.checks.presentations import (
    check_presentations,
    compare_presentations,
    rows_of_presentations,
)
from nsd_prep.checks.published_values import check_published_splits
from nsd_prep.checks.sessions import check_sessions
from nsd_prep.checks.trial_agreement import agreement_of_trials
from nsd_prep.checks.trials_file import repetitions_in_file
from nsd_prep.core.atomic import write_table
from nsd_prep.core.digests import (
    digest_of_array,
    digest_of_file,
    digest_of_json,
    digest_of_table,
)
from nsd_prep.core.progress import current_stage
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.dataset.betas import Betas
from nsd_prep.dataset.coco import annotation_files, with_annotations
from nsd_prep.dataset.image_table import write_images
from nsd_prep.dataset.published import WEAK_SESSIONS
from nsd_prep.dataset.trials import shows_images
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.single_trials.normalise import normalised_sessions
from nsd_prep.single_trials.reliability import (
    SPLIT_HALF,
    VoxelMinima,
    spearman_brown,
    split_half_reliability,
)
from nsd_prep.single_trials.subject import SingleTrialOptions, write_single_trials_of_subject
from nsd_prep.single_trials.voxels import VOXEL, join_regions, trial_voxels
from nsd_prep.single_trials.writer import FORMATS


class SubjectTrials:
    """All trials of a subject, in the regions of a run.

    Parameters
    ----------
    inputs : Inputs
        What preflight loaded.
    subject : int
        1-based.
    sessions : sequence of SessionRecord
        What was extracted of the subject's sessions.
    store : Store
        Where it lies.
    minima : VoxelMinima, optional
        Which voxels are taken, where not all are.
    scratch : Path, optional
        For temporary files; the store's folder where none is given.

    Attributes
    ----------
    subject : int
        1-based.
    trials : DataFrame
        As `nsd_prep.dataset.trials.trial_table`, with columns of behaviour or not.
    voxels : DataFrame
        As `nsd_prep.single_trials.voxels.trial_voxels`; those that are taken.
    regions : dict of str to ndarray of int64
        The voxels of each region that the subject has, as sites of its space.
    attributes : dict
        What determines the values, and where the voxels are.
    noun : Noun
        What voxels are called.
    """

    def __init__(
        self,
        inputs: Inputs,
        subject: int,
        sessions: Sequence[SessionRecord],
        store: Store,
        minima: VoxelMinima | None = None,
        scratch: Path | None = None,
    ) -> None:
        selection = inputs.masks[subject].selection
        self.subject = subject
        self.is_nsd = inputs.dataset.is_nsd
        self.noun = inputs.dataset.noun
        self.trials = inputs.trials.all_trials[subject]
        self.regions = {name: voxels for name, voxels in selection.regions.items() if len(voxels)}
        ceilings = inputs.noise_ceilings[subject]
        self._all_voxels = trial_voxels(
            self.regions, selection.space, ceilings.ncsnr.values, ceilings.splits
        )
        self._minima = minima or VoxelMinima()
        self._scratch = scratch or store.path
        self.attributes: dict[str, Any] = {
            "software": f"nsd-prep {__version__}",
            "dataset": inputs.dataset.name,
            "preparation": inputs.dataset.preparation,
            **inputs.design,
            **inputs.trials.split,
            **selection.space.attributes(),
            **inputs.dataset.origin,
            **self._minima.attributes(),
        }
        self._records = sorted(
            (record for record in sessions if record.subject == subject),
            key=lambda record: record.session,
        )
        self._store = store

    @cached_property
    def digest(self) -> str:
        """Digest of all the content."""
        parts = [
            [record.session, region, part.digest]
            for record in self._records
            for region, part in record.all_trials.items()
        ]
        regions = [[name, digest_of_array(voxels)] for name, voxels in self.regions.items()]
        tables = [digest_of_table(self.trials), digest_of_table(self._all_voxels)]
        return digest_of_json([self.subject, self.attributes, regions, tables, parts])

    def sessions(self) -> Iterator[tuple[int, Betas]]:
        """Read the sessions (1-based), ascending: all trials as stored (n_voxels, n_trials)."""
        stage, taken = current_stage(), self._taken
        rows = slice(None) if taken.all() else taken
        for record in self._records:
            yield record.session, self._whole_session(record)[rows]
            stage.advance()

    def _whole_session(self, record: SessionRecord) -> Betas:
        parts = {name: self._store.read(part) for name, part in record.all_trials.items()}
        return join_regions(parts, self.regions)

    @property
    def voxels(self) -> pd.DataFrame:
        """The voxels that are taken."""
        if self._taken.all():
            return self._with_reliability
        taken = self._with_reliability[self._taken].reset_index(drop=True)
        return taken.rename_axis(index=VOXEL)

    @cached_property
    def _taken(self) -> NDArray[np.bool_]:
        return self._minima.select(self._with_reliability, self.subject)

    @cached_property
    def _with_reliability(self) -> pd.DataFrame:
        """All voxels; with their split-half reliability where it decides which are taken."""
        if self._minima.reliability is None:
            return self._all_voxels
        sessions = ((record.session, self._whole_session(record)) for record in self._records)
        zscores = normalised_sessions(sessions, self.trials, "session")
        reliability = split_half_reliability(zscores, self.trials, self._scratch)
        position = self._all_voxels.columns.get_loc("noise_ceiling") + 1
        voxels = self._all_voxels.copy()
        voxels.insert(position, SPLIT_HALF, reliability)
        return voxels


class ImageTable:
    """The images of a dataset, and where their annotations are.

    Parameters
    ----------
    images : DataFrame
        As `nsd_prep.dataset.image_table.table_of_images`.
    annotations : Path, optional
        The folder of COCO's annotations.
    """

    def __init__(self, images: pd.DataFrame, annotations: Path | None = None) -> None:
        self._images, self._annotations = images, annotations

    @cached_property
    def digest(self) -> str:
        """Digest of the table and of the annotations."""
        digests = {}
        if self._annotations is not None and "coco_split" in self._images:
            files = annotation_files(self._annotations, sorted(set(self._images["coco_split"])))
            digests = {path.name: digest_of_file(path) for path in files.values()}
        return digest_of_json([self._images.to_csv(index=False), digests])

    def table(self) -> pd.DataFrame:
        """Return the table, with captions and categories where there are annotations."""
        if self._annotations is None:
            return self._images
        return with_annotations(self._images, self._annotations)


def write_table_of_images(images: ImageTable, place: str, folder: Folder) -> StepOutput:
    """Write ``images.csv``, and ``images.parquet`` where pyarrow is installed."""
    return StepOutput.from_paths(folder, write_images(folder.path / place, images.table()))


def write_single_trials(
    subject: SubjectTrials, options: SingleTrialOptions, place: str, folder: Folder
) -> StepOutput:
    """Write a subject's single trials and their table into a place below the output folder.

    ``subj01.nc`` or the files of ``subj01.zarr``, and ``subj01.csv``; the place "" is the output
    folder itself.
    """
    written = write_single_trials_of_subject(
        folder.path / place,
        subject.subject,
        subject.sessions(),
        subject.trials,
        subject.voxels,
        options,
        subject.attributes,
    )
    return StepOutput.from_paths(folder, written)


def examine_single_trials(
    subject: SubjectTrials,
    options: SingleTrialOptions,
    written: StepOutput,
    folder: Folder,
) -> StepOutput:
    """Check a subject's single trials, as `write_single_trials` has written them.

    Where images were seen twice, ``subj01_voxels.csv`` is made too: the subject and its voxels with
    ``first_second_correlation``, over images between the first and the second presentation, and
    ``split_half_reliability``, what follows from it for the mean of two.
    """
    rows = subject.trials[shows_images(subject.trials, options.images)]
    sizes = check_published_splits(subject.subject, subject.trials) if subject.is_nsd else []
    if options.average or len(rows_of_presentations(rows, 2)) < FEWEST_IMAGES_OF_SHARE:
        return StepOutput(checks=tuple(sizes))
    path = responses_file(written, folder)
    ncsnr = subject.voxels["ncsnr"].to_numpy()
    correlation, share, first_two = compare_presentations(path, rows, ncsnr)
    if options.normalise == "none":  # the prediction is one of z-scores
        share = NO_SHARE
    name = f"subj{subject.subject:02d}"
    checks = [*sizes, check_presentations(name, share)]
    trials_per_session = int(subject.trials["trial_in_session"].max()) + 1
    repetitions = repetitions_in_file(path, rows, ncsnr, trials_per_session, first_two)
    if repetitions is not None:
        agreement = {"all": agreement_of_trials(repetitions)}
        known = WEAK_SESSIONS.get(subject.subject, ()) if subject.is_nsd else ()
        checks += check_sessions(name, agreement, data="single trials", known=known)
    target = path.with_name(f"{path.stem}_voxels.csv")
    table = subject.voxels.assign(first_second_correlation=correlation)
    if SPLIT_HALF not in table:
        table[SPLIT_HALF] = spearman_brown(correlation)
    table.insert(0, "subject", name)
    write_table(target, table)
    return StepOutput.from_paths(folder, [target], checks)


def responses_file(written: StepOutput, folder: Folder) -> Path:
    """Return the file, or the Zarr store, of what `write_single_trials` wrote."""
    (table,) = (name for name in written.files if name.endswith(".csv"))
    # By what was written: a file of another format may be an earlier run's.
    netcdf = table.removesuffix(".csv") + FORMATS["netcdf"]
    path = folder.path / table
    return path.with_suffix(FORMATS["netcdf" if netcdf in written.files else "zarr"])
