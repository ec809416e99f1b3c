"""A report put together from what a run found."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.analysis.geometry import Geometry
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check
from nsd_prep.core.counts import counted
from nsd_prep.core.nouns import Noun
from nsd_prep.core.processes import Caller, call_here
from nsd_prep.core.progress import current_stage
from nsd_prep.dataset.cortex import Cortex
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.pixels import draw_geometry, draw_maps, draw_places
from nsd_prep.report.figures.rdms import (
    colour_limits,
)
from nsd_prep.report.figures.slices import Anatomy
from nsd_prep.report.methods import RunFacts, facts_table, listed, methods, references
from nsd_prep.report.record import Report, Section
from nsd_prep.report.sections import (
    agreement_section,
    cortex_section,
    geometry_section,
    noise_ceiling_section,
    overview_section,
    places_section,
    repetition_section,
    session_section,
)

#: Sections in the order of the page; those of other analyses follow.
_ORDER: Final = (
    "regions",
    "geometry",
    "agreement",
    "noise-ceilings",
    "sessions",
    "voxels",
    "cortex",
    "repetitions",
)
#: Columns of voxels that no figure of them needs.
_NOT_DRAWN: Final = ("neuroid_id", "voxel_x", "voxel_y", "voxel_z", "sessions_without_data")


@dataclass(frozen=True)
class VoxelFigures:
    """Figures of voxels, in the brain and on the cortex, which may still be drawn."""

    places: "Future[tuple[ReportFigure, ...]] | None" = None
    maps: "Future[tuple[ReportFigure, ...]] | None" = None


def draw_voxels(
    draw: Caller, voxels: pd.DataFrame, anatomies: Mapping[str, Anatomy], cortex: Cortex | None
) -> VoxelFigures:
    """Begin to draw voxels in the brain, on the anatomies, and on the cortex.

    The arguments are those of `compose_report`.
    """
    # A copy: as a view of the table it would keep the rest in memory until all is drawn.
    voxels = _kept_by_name(voxels).drop(columns=list(_NOT_DRAWN), errors="ignore").copy()
    return VoxelFigures(
        draw(draw_places, voxels, anatomies) if anatomies else None,
        draw(draw_maps, voxels, cortex) if cortex is not None else None,
    )


def draw_matrices(
    draw: Caller,
    geometry: Geometry,
    thumbnails: Mapping[int, NDArray[np.uint8]] | None,
    noun: Noun,
) -> "Future[tuple[ReportFigure, ...]]":
    """Begin to draw clusters and subjects' RDMs; geometry, thumbnails as `compose_report`'s."""
    limits = colour_limits(geometry)
    return draw(draw_geometry, replace(geometry, reliable_voxels=()), limits, thumbnails, noun)


def compose_report(
    facts: RunFacts,
    geometry: Geometry,
    voxels: pd.DataFrame,
    repetition_counts: pd.DataFrame,
    checks: Sequence[Check],
    *,
    anatomies: Mapping[str, Anatomy] = MappingProxyType({}),
    cortex: Cortex | None = None,
    sessions: pd.DataFrame | None = None,
    thumbnails: Mapping[int, NDArray[np.uint8]] | None = None,
    further: Callable[[], Sequence[Section]] = tuple,
    draw: Caller = call_here,
    voxel_figures: VoxelFigures | None = None,
    matrices: "Future[tuple[ReportFigure, ...]] | None" = None,
) -> Report:
    """Put a report together, figures and tables included.

    Parameters
    ----------
    facts : RunFacts
        What the run did.
    geometry : Geometry
        RDMs of its regions.
    voxels : DataFrame
        A row for each voxel of each region: subject (1-based, or ``subj01``), region, nifti_i,
        nifti_j, nifti_k (0-based), ncsnr and noise_ceiling (percent). Where it has a column kept,
        rows in which that is False are left out; where it has split_half_correlation, that is
        drawn too.
    repetition_counts : DataFrame of int, shape (n_subjects, 4)
        Index subject (1-based); columns 3, 2, 1, 0: shared images seen so often.
    checks : sequence of Check
        All of the run.
    anatomies : mapping of str to Anatomy
        For each subject (``subj01``) the volume that its voxels are drawn on; without any, voxels
        are not drawn.
    cortex : Cortex, optional
        What noise ceilings and reliability are drawn on; without it they are not.
    sessions : DataFrame, optional
        As `nsd_prep.report.figures.sessions.draw_sessions` takes it.
    thumbnails : mapping of int to ndarray of uint8, shape (height, width, 3), optional
        Small images by nsd_id (0-based); `nsd_prep.report.figures.clusters` says which are shown
        (`images_of_clusters`) and makes them small (`thumbnail`).
    further : callable
        Returns sections of other analyses, placed before the checks; called last, so that they may
        be computed meanwhile.
    draw : callable
        Calls the functions that draw figures of pixels alone, perhaps in another process, while the
        other sections are made here.
    voxel_figures : VoxelFigures, optional
        As `draw_voxels` returns them for the same voxels, anatomies and cortex; without it they are
        begun here.
    matrices : Future, optional
        As `draw_matrices` returns it for the same geometry and thumbnails; without it they are
        begun here.

    Returns
    -------
    Report
        Ready to be written; the same arguments give the same report.
    """
    voxels = _kept_by_name(voxels)
    regions = [region.region for region in geometry.all_voxels]
    subjects, noun = len(facts.sessions), facts.noun
    # The longest first: it is drawn while the other sections are made.
    if voxel_figures is None:
        voxel_figures = draw_voxels(draw, voxels, anatomies, cortex)
    places, maps = voxel_figures.places, voxel_figures.maps
    drawn = matrices or draw_matrices(draw, geometry, thumbnails, noun)
    makers: list[Callable[[], Sequence[Section]]] = [
        lambda: [overview_section(geometry, voxels, noun)],
        lambda: [agreement_section(geometry, noun)],
        lambda: [noise_ceiling_section(geometry, voxels, noun)],
        lambda: [session_section(sessions, noun)] if sessions is not None and len(sessions) else [],
        lambda: [repetition_section(repetition_counts)],
        lambda: [geometry_section(geometry, drawn.result(), noun)],
        lambda: [places_section(anatomies, places.result())] if places else [],
        lambda: [cortex_section(maps.result())] if maps else [],
        further,
    ]
    stage = current_stage()
    stage.total = len(makers) + 1  # and the files, which the caller writes
    sections: list[Section] = []
    for make in makers:
        sections += make()
        stage.advance()
    sections.sort(
        key=lambda section: _ORDER.index(section.name) if section.name in _ORDER else len(_ORDER)
    )
    return Report(
        title=f"{facts.dataset}: neural assemblies",
        summary=(
            f"Responses of {counted(subjects, 'subject')} to {counted(facts.images, 'image')} in "
            f"{listed(regions)}: {counted(len(voxels), noun.singular, noun.plural)}, "
            f"{facts.train_images:,} train and "
            f"{counted(facts.images - facts.train_images, 'test image')}."
        ),
        facts=facts_table(facts),
        sections=tuple(sections),
        checks=tuple(map(describe, checks)),
        methods=methods(facts),
        references=references(facts),
    )


def _kept_by_name(voxels: pd.DataFrame) -> pd.DataFrame:
    """Return the voxels that are kept, their subjects as ``subj01``."""
    if "kept" in voxels:
        voxels = voxels[voxels["kept"]]
    if pd.api.types.is_integer_dtype(voxels["subject"]):
        names = {number: f"subj{number:02d}" for number in voxels["subject"].unique()}
        voxels = voxels.assign(subject=voxels["subject"].map(names))
    return voxels
