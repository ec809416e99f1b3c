"""Every repeated image of a run's sessions, in a few voxels of each region: for checks alone."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nsd_prep.checks.probes import RepeatedTrials, repeated_trials, trials_of_probes
from nsd_prep.checks.trials import SingleTrials
from nsd_prep.core.digests import digest_of_array, digest_of_json, digest_of_table
from nsd_prep.dataset.trials import needed_sessions
from nsd_prep.extraction.sessions import SessionRecord
from nsd_prep.extraction.store import Store
from nsd_prep.pipeline.inputs import Inputs


class RepeatedImages:
    """Responses of a run's probes to every image that a subject saw three times.

    Parameters
    ----------
    inputs : Inputs
        What preflight loaded.
    sessions : sequence of SessionRecord
        What was extracted.
    store : Store
        Where it lies.
    """

    def __init__(self, inputs: Inputs, sessions: Sequence[SessionRecord], store: Store) -> None:
        self._trials_per_session = inputs.dataset.trials_per_session
        self._store = store
        # Single trials need the other sessions too; what is judged must not depend on that.
        needed = needed_sessions(inputs.trials.table)
        self._records = {
            subject: [
                record
                for record in sessions
                if record.subject == subject and record.session in needed[subject]
            ]
            for subject in inputs.masks
        }
        self._trials = {
            subject: planned[planned["session"].isin([record.session for record in records])]
            for subject, records in self._records.items()
            if len(planned := inputs.trials.planned[subject])
        }
        self._ncsnr = {
            (subject, region): inputs.noise_ceilings[subject].ncsnr.values.flat[sites]
            for subject in inputs.masks
            for region, sites in inputs.probes(subject).items()
        }

    @cached_property
    def digest(self) -> str:
        """Digest of all the content."""
        return digest_of_json(
            [
                self._trials_per_session,
                [[subject, digest_of_table(trials)] for subject, trials in self._trials.items()],
                [[*key, digest_of_array(ncsnr)] for key, ncsnr in self._ncsnr.items()],
                [
                    [subject, record.session, region, part.digest]
                    for subject, records in self._records.items()
                    for record in records
                    for region, part in record.probes.items()
                ],
            ]
        )

    def read(self, subject: int, region: str) -> SingleTrials | None:
        """Read a subject's (1-based) trials in a region; None of too few images or voxels."""
        key = (subject, region)
        repeated = self._repeated.get(subject)
        if repeated is None or key not in self._ncsnr:
            return None
        records = self._records[subject]
        if not all(region in record.probes for record in records):
            return None
        sessions = ((record.session, self._store.read(record.probes[region])) for record in records)
        ncsnr = np.asarray(self._ncsnr[key])
        return trials_of_probes(sessions, repeated, ncsnr, self._trials_per_session)

    @cached_property
    def _repeated(self) -> dict[int, RepeatedTrials | None]:
        """Where each subject saw the images that were seen three times."""
        return {subject: repeated_trials(trials) for subject, trials in self._trials.items()}
