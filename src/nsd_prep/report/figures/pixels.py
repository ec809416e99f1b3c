"""All figures of a report that are made of pixels, in groups: for a process that draws them.

It imports neither checks nor what computes tables, so that the process starts soon.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.analysis.geometry import Geometry
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.cortex import Cortex
from nsd_prep.report.figures.clusters import (
    FEWEST_IMAGES_CLUSTERED,
    draw_clusters,
    draw_subject_rdms,
)
from nsd_prep.report.figures.cortex import NOISE_CEILING, SPLIT_HALF, draw_cortex
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.slices import Anatomy, draw_slices, draw_split_half


def draw_geometry(
    geometry: Geometry,
    limits: tuple[float, float],
    thumbnails: Mapping[int, NDArray[np.uint8]] | None = None,
    noun: Noun = VOXEL,
) -> tuple[ReportFigure, ...]:
    """Draw the clusters of each region, and each subject's RDMs, of what `noun` names."""
    several = any(len(region.subjects) > 1 for region in geometry.all_voxels)
    return (
        *(
            draw_clusters(region, geometry.nsd_ids, limits, thumbnails)
            for region in geometry.all_voxels
            if len(geometry.nsd_ids) >= FEWEST_IMAGES_CLUSTERED
            and np.isfinite(region.mean_rdm).all()
        ),
        *([draw_subject_rdms(geometry, limits, noun)] if several else []),
    )


def draw_places(voxels: pd.DataFrame, anatomies: Mapping[str, Anatomy]) -> tuple[ReportFigure, ...]:
    """Draw the voxels of each region on slices, and those of all by their reliability."""
    return (
        *(
            draw_slices(str(region), rows, anatomies)
            for region, rows in voxels.groupby("region", sort=False)
            if set(rows["subject"].unique()) & set(anatomies)
        ),
        *(
            [draw_split_half(voxels, anatomies)]
            if "split_half_correlation" in voxels
            and set(voxels["subject"].unique()) & set(anatomies)
            else []
        ),
    )


def draw_maps(sites: pd.DataFrame, cortex: Cortex) -> tuple[ReportFigure, ...]:
    """Draw noise ceilings, and reliability where it is known, on the inflated cortex."""
    quantities = [NOISE_CEILING]
    if "split_half_correlation" in sites:
        quantities.append(SPLIT_HALF)
    return tuple(draw_cortex(sites, cortex, quantity) for quantity in quantities)
