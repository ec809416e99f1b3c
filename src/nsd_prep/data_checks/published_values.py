"""NSD itself must reproduce what is published of it; other datasets need not."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep import published_statistics as statistics
from nsd_prep.checks import Check, check
from nsd_prep.data_checks.region_order import ORDER_OF_REGION_PAIRS, RegionOrder
from nsd_prep.data_checks.subject_agreement import SubjectAgreement
from nsd_prep.published import RELIABLE_NOISE_CEILING, SUBJECTS


def check_published_noise_ceilings(region: str, voxels: pd.DataFrame) -> list[Check]:
    """Compare the noise ceilings of a region of NSD with those published.

    Parameters
    ----------
    region : str
        Its name; regions about which nothing is published give no checks.
    voxels : DataFrame
        The region's rows of the voxel table, before any voxel was dropped: subject ("subj01") and
        noise_ceiling (percent).

    Returns
    -------
    list of Check
        The median of each subject; with all eight subjects also the pooled median, the number of
        reliable voxels and the highest.
    """
    tolerance = statistics.NOISE_CEILING_TOLERANCE
    found = []
    medians = voxels.groupby("subject", sort=False)["noise_ceiling"].median()
    of_region = statistics.MEDIAN_NOISE_CEILING.get(region, ())
    for subject, published in zip(SUBJECTS, of_region, strict=False):
        name = f"subj{subject:02d}"
        if name in medians.index:
            found.append(
                _compared(
                    "published median noise ceiling",
                    f"{region}, {name}",
                    float(medians[name]),
                    published,
                    tolerance,
                )
            )
    if set(medians.index) != {f"subj{subject:02d}" for subject in SUBJECTS}:
        return found
    ceilings = voxels["noise_ceiling"].to_numpy()
    if region in statistics.POOLED_MEDIAN_NOISE_CEILING:
        published = statistics.POOLED_MEDIAN_NOISE_CEILING[region]
        found.append(
            _compared(
                "published pooled noise ceiling",
                region,
                float(np.median(ceilings)),
                published,
                tolerance,
            )
        )
    if region in statistics.RELIABLE_VOXELS:
        number = statistics.RELIABLE_VOXELS[region]
        found.append(
            _compared(
                "published reliable voxels",
                region,
                float(np.count_nonzero(ceilings > RELIABLE_NOISE_CEILING)),
                number,
                statistics.RELIABLE_VOXELS_TOLERANCE * number,
            )
        )
    if region in statistics.HIGHEST_NOISE_CEILING:
        published = statistics.HIGHEST_NOISE_CEILING[region]
        found.append(
            _compared(
                "published highest noise ceiling",
                region,
                float(ceilings.max()),
                published,
                tolerance,
            )
        )
    return found


def check_published_rdms(
    mean_rdms: Mapping[str, NDArray[np.floating]],
    agreements: Mapping[str, SubjectAgreement],
    order: RegionOrder | None,
) -> list[Check]:
    """Compare the RDMs of NSD's eight subjects and 515 images with what is published.

    Parameters
    ----------
    mean_rdms : mapping of str to ndarray of float, shape (n_images, n_images)
        Mean over subjects, by region.
    agreements : mapping of str to SubjectAgreement
        By region, of all eight subjects in order.
    order : RegionOrder, optional
        Of the four regions, where all are there.

    Returns
    -------
    list of Check
        Those that involve IT without a verdict.
    """
    found = []
    for region, rdm in mean_rdms.items():
        if region in statistics.RDM_DEVIATION:
            upper = np.asarray(rdm, dtype=np.float64)[np.triu_indices(len(rdm), 1)]
            found.append(
                _compared_rdm(
                    "published RDM deviation",
                    [region],
                    float(upper.std()),
                    statistics.RDM_DEVIATION[region],
                )
            )
    for region, agreement in agreements.items():
        if region in statistics.SUBJECT_CORRELATION:
            found.append(
                _compared_rdm(
                    "published correlation between subjects",
                    [region],
                    agreement.mean,
                    statistics.SUBJECT_CORRELATION[region],
                )
            )
            weakest = SUBJECTS[int(np.argmin(agreement.with_others))]
            found.append(
                check(
                    "published weakest subject",
                    region,
                    f"subj{weakest:02d}",
                    f"subj{statistics.WEAKEST_SUBJECT:02d} over all regions; shown without a "
                    "verdict",
                    None,
                    "The subject whose RDM agrees least with the others'.",
                )
            )
    if order is not None:
        for pair, value in zip(ORDER_OF_REGION_PAIRS, order.correlations, strict=True):
            published = statistics.REGION_CORRELATION[pair]
            found.append(
                _compared_rdm(
                    "published correlation between regions", pair, float(value), published
                )
            )
    return found


def _compared(name: str, where: str, value: float, published: float, tolerance: float) -> Check:
    return check(
        name,
        where,
        value,
        f"{published:g} within {tolerance:.3g}",
        # Rounding of the decimal numbers must not decide at the tolerance's edge.
        bool(abs(value - published) <= tolerance + 1e-9),
        "What is published of the real dataset; a difference means another mask, another ncsnr or "
        "another release of the data.",
    )


def _compared_rdm(name: str, regions: Iterable[str], value: float, published: float) -> Check:
    where = "-".join(regions)
    if statistics.REGIONS_WITHOUT_VERDICT.isdisjoint(where.split("-")):
        return _compared(name, where, value, published, statistics.RDM_TOLERANCE)
    return check(
        name,
        where,
        value,
        f"{published:g} with another definition of IT; shown without a verdict",
        None,
        "The published number was most likely made with nine parcels of HCP_MMP1 as IT.",
    )
