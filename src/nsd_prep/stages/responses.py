"""From the store to the responses and voxels of a region."""

import io

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.assembly import SubjectVoxels
from nsd_prep.files import read_whole
from nsd_prep.noise_ceiling import noise_ceiling
from nsd_prep.published import REPETITIONS
from nsd_prep.responses import SessionResponses, repetitions_of_images
from nsd_prep.run import Extracted, Run
from nsd_prep.trials import usable_nsd_ids
from nsd_prep.voxels_file import read_voxels_file


def repetitions_of_subject(
    extracted: Extracted, trials: pd.DataFrame, subject: int, region: str
) -> NDArray[np.float32]:
    """Read a subject's single-trial responses to the usable images from the store.

    Parameters
    ----------
    extracted : Extracted
        What was extracted.
    trials : DataFrame
        The run's table of trials.
    subject : int
        1-based.
    region : str
        Which.

    Returns
    -------
    ndarray of float32, shape (n_images, 3, n_voxels)
        z-scores; all voxels, also those without data.
    """
    in_session = dict(iter(trials[trials["subject"] == subject].groupby("session")))
    stored = (
        SessionResponses(
            record.session,
            record.parts[region].read(),
            in_session[record.session]["nsd_id"].to_numpy(),
            in_session[record.session]["repetition"].to_numpy(),
        )
        for record in extracted.sessions_of(subject)
    )
    n_voxels = next(of.n_voxels[region] for of in extracted.masks if of.subject == subject)
    return repetitions_of_images(stored, usable_nsd_ids(trials), n_voxels)


def voxels_of_region(extracted: Extracted, region: str) -> list[SubjectVoxels]:
    """Put together what is known of a region's voxels in every subject.

    Parameters
    ----------
    extracted : Extracted
        What was extracted.
    region : str
        Which.

    Returns
    -------
    list of SubjectVoxels
        In the order of the subjects; all voxels, also those without data.
    """
    found = []
    for masks, noise_ceilings in zip(extracted.masks, extracted.noise_ceilings, strict=True):
        grid, regions = read_voxels_file(masks.file)
        with np.load(io.BytesIO(read_whole(noise_ceilings.file)), allow_pickle=False) as arrays:
            ncsnr = arrays[f"region {region}"]
        without_data = np.zeros(len(regions[region]), dtype=np.int64)
        for record in extracted.sessions_of(masks.subject):
            without_data[list(record.parts[region].constant_voxels)] += 1
        found.append(
            SubjectVoxels(
                subject=masks.subject,
                grid=grid,
                voxels=regions[region],
                ncsnr=ncsnr,
                noise_ceiling=noise_ceiling(ncsnr, REPETITIONS),
                sessions_without_data=without_data,
            )
        )
    return found


def kept_voxels(run: Run, voxels: SubjectVoxels) -> NDArray[np.bool_]:
    """Return which of a subject's voxels become neuroids, bool (n_voxels,)."""
    if run.invalid_voxels == "keep":
        return np.ones(len(voxels.voxels), dtype=np.bool_)
    return voxels.sessions_without_data == 0
