"""The one object after extraction: trials, voxels and responses, with one digest."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly import SubjectVoxels, voxel_table
from nsd_prep.assemblies.identifiers import region_assembly_file
from nsd_prep.checks import places_of_images
from nsd_prep.core.digests import digest_of_array, digest_of_json, digest_of_table
from nsd_prep.core.errors import ParameterError
from nsd_prep.dataset.noise_ceiling import noise_ceiling
from nsd_prep.dataset.published import REPETITIONS
from nsd_prep.dataset.regions import definition_as_text
from nsd_prep.dataset.trials import needed_sessions, usable_nsd_ids
from nsd_prep.extraction.repetitions import SessionResponses, repetitions_of_images
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.extraction.statistics import BetaStatistics
from nsd_prep.extraction.store import Store, StoredArray
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.run import Run

if TYPE_CHECKING:
    from nsd_prep.pipeline.steps.evidence import Evidence


class Prepared:
    """Everything that later stages take from a dataset.

    Attributes
    ----------
    trials : DataFrame
        A row for each trial with a shared image: `nsd_prep.dataset.trials.TRIAL_COLUMNS` and
        ``usable``.
    is_train : ndarray of bool, shape (n_images,)
        Which of the usable images, ascending, are for training.
    voxels : DataFrame
        A row for each voxel and region, as `nsd_prep.assemblies.assembly.voxel_table`; the regions
        in the run's order, the subjects within. ``kept`` marks the neuroids of the assemblies.
    regions_of_subjects : dict of (int, str) to SubjectVoxels
        The same for each subject (1-based) and region, as arrays in the order of the parts.
    sessions : tuple of SessionRecord
        The parts of the store that hold the responses; sessions without a usable trial left out.
    repetition_counts : DataFrame of int, shape (n_subjects, 4)
        How many shared images each subject saw 3, 2, 1 and 0 times.
    subjects : tuple of int
        1-based, in the order of the neuroids.
    regions : dict of str to str
        The definition of each region as text, in the run's order.
    subjects_without : dict of str to tuple of int
        The subjects who lack a region, of each region that one of them lacks.
    attributes : dict
        What determines the data, for the attributes of files.
    invalid_voxels : {"keep", "drop"}
        Whether voxels without data in some session are kept.
    is_nsd : bool
        Whether published sizes and numbers apply.
    space : {"func1pt8mm", "func1mm", "fsaverage", "nativesurface"}
        Where the voxels lie.
    coordinates : tuple of str
        Which columns of `voxels` say where a neuroid lies.
    evidence : dict of (int, str) to Evidence
        What checks take from single trials, of each subject (1-based) and region that was
        assembled: gathered while its trials were in memory, so that they are read once.
    trials_per_session : int
        750 in NSD.
    dataset_sessions : dict of int to int
        Sessions that the dataset has of each subject.
    """

    def __init__(
        self, run: Run, inputs: Inputs, sessions: Sequence[SessionRecord], store: Store
    ) -> None:
        dataset = inputs.dataset
        self.trials = inputs.trials.table
        self.is_train = inputs.trials.is_train
        self.repetition_counts = inputs.trials.repetition_counts
        # Single trials need the other sessions too; what is made of these must not depend on that.
        needed = needed_sessions(self.trials)
        self.sessions = tuple(
            record for record in sessions if record.session in needed[record.subject]
        )
        self.subjects = run.subjects
        self.regions = {name: definition_as_text(item) for name, item in run.regions.items()}
        self.subjects_without = inputs.subjects_without
        self.attributes = run.attributes()
        self.invalid_voxels = run.invalid_voxels
        self.is_nsd = dataset.is_nsd
        self.trials_per_session = dataset.trials_per_session
        self.dataset_sessions = {subject: dataset.sessions[subject] for subject in run.subjects}
        self.space = dataset.space
        self.coordinates = inputs.masks[run.subjects[0]].selection.space.coordinates
        self.evidence: dict[tuple[int, str], Evidence] = {}
        self._store = store
        self._records = {
            subject: tuple(record for record in self.sessions if record.subject == subject)
            for subject in run.subjects
        }
        self.regions_of_subjects: dict[tuple[int, str], SubjectVoxels] = {}
        self.voxels = self._voxels(run, inputs)

    def _voxels(self, run: Run, inputs: Inputs) -> pd.DataFrame:
        tables = []
        for region in run.regions:
            for subject in run.subjects:
                selection = inputs.masks[subject].selection
                voxels = selection.regions[region]
                if len(voxels) == 0:
                    continue  # a region that this subject lacks
                without_data = self.without_data(subject, region).sum(axis=0)
                kept = without_data == 0 if run.invalid_voxels == "drop" else None
                if kept is not None and not kept.any():
                    raise ParameterError(
                        f"No voxel of the region {region} of subject {subject} has data in every "
                        f"session, and all {len(voxels)} would be dropped: use "
                        'invalid_voxels="keep", or leave out the region or the subject.'
                    )
                ncsnr = inputs.noise_ceilings[subject].ncsnr.values.flat[voxels]
                row = SubjectVoxels(
                    subject,
                    selection.space,
                    voxels,
                    ncsnr,
                    noise_ceiling(ncsnr, REPETITIONS),
                    without_data,
                    kept,
                )
                self.regions_of_subjects[subject, region] = row
                tables.append(voxel_table(region, [row]))
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def digest(self) -> str:
        """Digest of all the content: equal where later stages would make the same."""
        return digest_of_json(
            [
                self.attributes,
                self.regions,
                self.is_nsd,
                self.trials_per_session,
                self.dataset_sessions,
                digest_of_table(self.trials),
                digest_of_array(self.is_train),
                digest_of_table(self.voxels),
                digest_of_table(self.repetition_counts),
                [
                    [record.subject, record.session, region, part.digest]
                    for record in self.sessions
                    for region, part in record.parts.items()
                ],
            ]
        )

    def assembly_file(self, region: str) -> str:
        """Return the name of a region's assembly."""
        return region_assembly_file(region, self.space)

    @cached_property
    def nsd_ids(self) -> NDArray[np.int64]:
        """The usable images (n_images,), 0-based and ascending."""
        return usable_nsd_ids(self.trials)

    def parts(self, subject: int, region: str) -> Mapping[int, StoredArray]:
        """Return the parts of a subject's region by session (1-based)."""
        return {record.session: record.parts[region] for record in self._records[subject]}

    def subjects_with(self, region: str) -> tuple[int, ...]:
        """Return the subjects (1-based) who have voxels of a region, in the run's order."""
        return tuple(
            subject for subject in self.subjects if (subject, region) in self.regions_of_subjects
        )

    @property
    def session_records(self) -> dict[int, dict[int, dict[str, BetaStatistics]]]:
        """What was seen of the betas, by subject and session (1-based) and region."""
        return {
            subject: {
                record.session: {
                    region: part.beta_statistics for region, part in record.parts.items()
                }
                for record in records
            }
            for subject, records in self._records.items()
        }

    def kept(self, subject: int, region: str) -> NDArray[np.bool_]:
        """Return which voxels of a subject's region become neuroids, bool (n_voxels,)."""
        voxels = self.regions_of_subjects[subject, region]
        return np.ones(len(voxels.voxels), np.bool_) if voxels.kept is None else voxels.kept

    def without_data(self, subject: int, region: str) -> NDArray[np.bool_]:
        """Return in which sessions a voxel has no data, bool (n_sessions, n_voxels)."""
        parts = list(self.parts(subject, region).values())
        without_data = np.zeros((len(parts), parts[0].shape[1]), dtype=np.bool_)
        for row, part in zip(without_data, parts, strict=True):
            row[list(part.constant_voxels)] = True
        return without_data

    def repetitions(self, subject: int, region: str) -> NDArray[np.float32]:
        """Read a subject's (1-based) single-trial responses to the usable images from the store.

        Returns
        -------
        ndarray of float32, shape (n_images, 3, n_voxels)
            z-scores; all voxels, also those that are not kept. On surfaces NaN in sessions in
            which a vertex has no data.
        """
        images = self._images_of_sessions
        parts = self.parts(subject, region)
        stored = (
            SessionResponses(session, self._store.read(part), *images[subject, session])
            for session, part in parts.items()
        )
        return repetitions_of_images(stored, self.nsd_ids, next(iter(parts.values())).shape[1])

    @cached_property
    def places_of_images(self) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Session (1-based) and trial in it of each repetition, (n_images, 3), by subject."""
        return {
            subject: places_of_images(self.trials[self.trials["subject"] == subject], self.nsd_ids)
            for subject in self.subjects
        }

    @cached_property
    def _images_of_sessions(
        self,
    ) -> dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Image and repetition of each stored trial, by subject and session (1-based)."""
        return {
            place: (trials["nsd_id"].to_numpy(), trials["repetition"].to_numpy())
            for place, trials in self.trials.groupby(["subject", "session"])
        }

    def repetitions_without_gaps(self, subject: int, region: str) -> NDArray[np.float32]:
        """Read the same, with 0 where a vertex has no data, as a voxel has it."""
        responses = self.repetitions(subject, region)
        self.fill_gaps(subject, region, responses)
        return responses

    def fill_gaps(self, subject: int, region: str, responses: NDArray[np.float32]) -> None:
        """Put 0 where a vertex has no data, in an array that `repetitions` gave."""
        gaps = self.without_data(subject, region).any(axis=0)
        responses[:, :, gaps] = np.nan_to_num(responses[:, :, gaps], nan=0.0)
