"""A report put together from what a run found."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.analysis.geometry import Geometry, correlations
from nsd_prep.analysis.tables import (
    between_regions_table,
    between_subjects_table,
    mean_rdm_table,
    noise_ceiling_histogram,
    rdm_noise_ceiling_table,
    region_table,
    subject_table,
)
from nsd_prep.checks.registry import describe
from nsd_prep.core.check import Check
from nsd_prep.core.counts import TIMES
from nsd_prep.core.nouns import Noun
from nsd_prep.core.processes import Caller, call_here
from nsd_prep.core.progress import current_stage
from nsd_prep.dataset.cortex import Cortex
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.noise_ceilings import draw_noise_ceilings, draw_repetitions
from nsd_prep.report.figures.pixels import draw_geometry, draw_maps, draw_places
from nsd_prep.report.figures.rdms import (
    colour_limits,
    crossnobis_distance,
    draw_between_regions,
    draw_between_subjects,
    draw_mean_rdms,
)
from nsd_prep.report.figures.sessions import draw_sessions
from nsd_prep.report.figures.slices import Anatomy
from nsd_prep.report.methods import RunFacts, facts_table, listed, methods, references
from nsd_prep.report.record import Report, Section, Table

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


def _interval(table: pd.DataFrame) -> str:
    """Say what the columns beside a correlation are, in the words of their headers."""
    over = [
        f"over {what} (low {what}, high {what})"
        for what in ("images", "subjects")
        if f"low_{what}" in table
    ]
    return f", with the ends of its 95% interval {' and '.join(over)}" if over else ""


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
    # A copy: as a view of the table it would keep the ids in memory until all is drawn.
    voxels = _kept_by_name(voxels).drop(columns="neuroid_id", errors="ignore").copy()
    return VoxelFigures(
        draw(draw_places, voxels, anatomies) if anatomies else None,
        draw(draw_maps, voxels, cortex) if cortex is not None else None,
    )


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

    Returns
    -------
    Report
        Ready to be written; the same arguments give the same report.
    """
    voxels = _kept_by_name(voxels)
    regions = [region.region for region in geometry.all_voxels]
    subjects, noun = len(facts.sessions), facts.noun
    limits = colour_limits(geometry)
    # The longest first: it is drawn while the other sections are made.
    if voxel_figures is None:
        voxel_figures = draw_voxels(draw, voxels, anatomies, cortex)
    places, maps = voxel_figures.places, voxel_figures.maps
    matrices = draw(draw_geometry, replace(geometry, reliable_voxels=()), limits, thumbnails, noun)
    makers: list[Callable[[], Sequence[Section]]] = [
        lambda: [overview_section(geometry, voxels, noun)],
        lambda: [agreement_section(geometry, noun)],
        lambda: [noise_ceiling_section(geometry, voxels, noun)],
        lambda: [session_section(sessions, noun)] if sessions is not None and len(sessions) else [],
        lambda: [repetition_section(repetition_counts)],
        lambda: [geometry_section(geometry, matrices.result(), noun)],
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
            f"Responses of {subjects} subject{'s' if subjects > 1 else ''} to {facts.images:,} "
            f"images in {listed(regions)}: {len(voxels):,} {noun.plural}, {facts.train_images:,} "
            f"train and {facts.images - facts.train_images:,} test images."
        ),
        facts=facts_table(facts),
        sections=tuple(sections),
        checks=tuple(map(describe, checks)),
        methods=methods(facts),
        references=references(),
    )


def _kept_by_name(voxels: pd.DataFrame) -> pd.DataFrame:
    """Return the voxels that are kept, their subjects as ``subj01``."""
    if "kept" in voxels:
        voxels = voxels[voxels["kept"]]
    if pd.api.types.is_integer_dtype(voxels["subject"]):
        names = {number: f"subj{number:02d}" for number in voxels["subject"].unique()}
        voxels = voxels.assign(subject=voxels["subject"].map(names))
    return voxels


def columns_named(table: pd.DataFrame, noun: Noun) -> pd.DataFrame:
    """Return a table whose columns of numbers of voxels are named by what these are called."""
    names = {"voxels": noun.plural, "reliable_voxels": f"reliable_{noun.plural}"}
    return table.rename(columns=names)


def overview_section(geometry: Geometry, voxels: pd.DataFrame, noun: Noun) -> Section:
    """Return the section with one row for each region."""
    table = region_table(geometry, voxels)
    shown = table.dropna(axis="columns", how="all")
    caption = (
        "Noise ceilings in percent; mean and SD of the RDM over all pairs of images."
        if "between_subjects" not in shown
        else f"{noun.plural.capitalize()} of all subjects; noise ceilings in percent; mean and SD "
        "of the mean RDM over all pairs of images; between subjects, the mean correlation of their "
        f"RDMs{_interval(shown)}; between subjects reliable, the same with reliable {noun.plural} "
        f"alone (noise ceiling above {RELIABLE_NOISE_CEILING:g}%)."
    )
    if voxels["subject"].nunique() == 1:
        shown = shown.drop(columns="mean_of_subject_medians")
    return Section(
        name="regions",
        title="Regions at a glance",
        text="",
        tables=(Table(caption, columns_named(shown, noun)),),
        files={"regions": table},
    )


def geometry_section(geometry: Geometry, drawn: Sequence[ReportFigure], noun: Noun) -> Section:
    """Return the section with the RDMs: their means, and what `draw_geometry` has drawn."""
    undefined = {
        region.region: int(region.n_without_variance.sum())
        for region in geometry.all_voxels
        if region.n_without_variance.any()
    }
    if undefined:
        counted = listed([f"{number} in {region}" for region, number in undefined.items()])
        patterns = (
            f"Some response patterns have no variance over {noun.plural} ({counted}, over all "
            "subjects): they are placed at a distance of 1 from every other."
        )
    else:
        patterns = "Every response pattern has variance."
    return Section(
        name="geometry",
        title="Representational geometry",
        text=(
            "Images that evoke similar patterns of activity lie close to one another. Blocks along "
            "the diagonal of the clustered matrices are groups of such images. " + patterns
        ),
        pictures=(draw_mean_rdms(geometry), *drawn),
        files={
            f"mean-rdm-{region.region.lower()}": mean_rdm_table(geometry.nsd_ids, region)
            for region in geometry.all_voxels
        },
    )


def agreement_section(geometry: Geometry, noun: Noun) -> Section:
    """Return the section with the correlations between regions and between subjects."""
    pictures = []
    if len(geometry.all_voxels) > 1:
        pictures.append(draw_between_regions(geometry, noun))
    several = any(len(region.subjects) > 1 for region in geometry.all_voxels)
    if several:
        pictures.append(draw_between_subjects(geometry, noun))
    regions, subjects = between_regions_table(geometry), between_subjects_table(geometry)
    ceilings = rdm_noise_ceiling_table(geometry)
    text = (
        "Neighbouring stages of the visual hierarchy should resemble each other more than distant "
        "ones."
        if not several
        else "Neighbouring stages of the visual hierarchy should resemble each other more than "
        "distant ones, and subjects who saw the same images should agree. A subject who "
        "stands out in one region has a mask or trials that deserve a look; one who stands "
        "out everywhere has noisier data, or the trials of someone else."
    )
    if not pictures:
        text = "One region of one subject: there is nothing to compare."
    tables = []
    if len(regions):
        shown = regions.dropna(axis="columns", how="all")
        caption = (
            f"Pearson r between the {'mean ' * several}RDMs of two regions{_interval(shown)}; r "
            f"reliable, the same with reliable {noun.plural} alone."
        )
        tables.append(Table(caption, shown))
    if ceilings["subjects"].max() > 1:
        caption = (
            "The noise ceiling of the RDMs over subjects (Nili et al. 2014): the mean correlation "
            "of a subject's RDM with the mean of the others' (lower bound), and with the mean of "
            "all (upper bound). No model of a region agrees better with all subjects on average."
        )
        tables.append(Table(caption, ceilings))
    return Section(
        name="agreement",
        title=f"Agreement between regions{' and subjects' * several}",
        text=text,
        pictures=tuple(pictures),
        tables=tuple(tables),
        files={
            name: table
            for name, table in (
                ("between-regions", regions),
                ("between-subjects", subjects),
                ("rdm-noise-ceilings", ceilings if several else ceilings[:0]),
            )
            if len(table)
        },
    )


def crossnobis_section(geometry: Geometry, crossnobis: Geometry, noun: Noun) -> Section:
    """Return the section with cross-validated distances beside the RDMs."""
    rows = []
    for region, distances in zip(geometry.all_voxels, crossnobis.all_voxels, strict=True):
        both = np.stack([region.mean_rdm, distances.mean_rdm])
        rows.append(
            {
                "region": region.region,
                "mean_distance": float(distances.mean_rdm.mean(dtype=np.float64)),
                "share_below_0": float((distances.mean_rdm < 0).mean()),
                "r_with_1_minus_r": float(correlations(both)[0, 1]),
            }
        )
    ceilings = rdm_noise_ceiling_table(crossnobis)
    several = ceilings["subjects"].max() > 1
    table = pd.DataFrame(rows)
    if several:
        table = table.merge(ceilings, on="region", validate="one_to_one")
    regions = between_regions_table(crossnobis)
    shown = regions.dropna(axis="columns", how="all")
    return Section(
        name="crossnobis",
        title="Cross-validated distances",
        text=(
            "Distances that noise does not inflate: for two images that evoke the same response "
            "they are 0 on average, and some are negative. If they order images as the "
            "correlation distances do, noise does not drive the latter."
        ),
        pictures=(draw_mean_rdms(crossnobis, crossnobis_distance(noun)),),
        tables=(
            Table(
                "Each region: mean and share below 0 of the mean distances, their Pearson r with "
                "the mean RDM, and the bounds of their noise ceiling over subjects."
                if several
                else "Each region: mean and share below 0 of the distances, and their Pearson r "
                "with the RDM.",
                table,
            ),
            *(
                (
                    Table(
                        f"Pearson r between two regions{_interval(shown)}.",
                        shown,
                    ),
                )
                if len(regions)
                else ()
            ),
        ),
        files={"crossnobis": table}
        | ({"crossnobis-between-regions": regions} if len(regions) else {}),
    )


def noise_ceiling_section(geometry: Geometry, voxels: pd.DataFrame, noun: Noun) -> Section:
    """Return the section with the noise ceilings and a row for each subject and region."""
    table = subject_table(geometry, voxels)
    return Section(
        name="noise-ceilings",
        title="Noise ceilings",
        text=(
            f"The share of a {noun.singular}'s variance over images that a perfect model could "
            "explain. Early visual areas are expected to be highest, and high-level regions, many "
            f"of whose {noun.plural} respond to few images, lowest. GLMdenoise and ridge "
            "regression share parameters between trials, so that repetitions in betas of the "
            "preparation b3 are not quite independent, and what is estimated from them is "
            "slightly too high."
        ),
        pictures=(draw_noise_ceilings(voxels, noun),),
        tables=(
            Table(
                "Each subject in each region; noise ceilings in percent.",
                columns_named(table.dropna(axis="columns", how="all"), noun),
            ),
        ),
        files={"subjects": table, "noise-ceiling-histogram": noise_ceiling_histogram(voxels)},
    )


def session_section(sessions: pd.DataFrame, noun: Noun) -> Section:
    """Return the section with a cell for each session and subject."""
    return Section(
        name="sessions",
        title="Sessions",
        text=(
            "Every session should agree with the other sessions of its subject about the same "
            f"images: one at 0 is another session's or subject's file. {noun.plural.capitalize()} "
            "without data should be few, and the spread of the betas even; a session that stands "
            "out in all panels was processed or copied wrongly, one that is only weaker may have "
            "had a tired subject."
        ),
        pictures=(draw_sessions(sessions, noun),),
        files={"session-means": sessions},
    )


def places_section(anatomies: Mapping[str, Anatomy], drawn: Sequence[ReportFigure]) -> Section:
    """Return the section with the voxels on slices, as `draw_places` has drawn them."""
    wrong = (
        "Voxels outside the brain, or deep in its white matter,"
        if all(anatomy.kind == "T1" for anatomy in anatomies.values())
        else "Voxels on white, or beside the dark band of responsive cortex,"
    )
    return Section(
        name="voxels",
        title="Voxels in the brain",
        text=(
            "A region should lie on the cortex, in both hemispheres unless it is defined in one, "
            f"and at about the same place in every subject. {wrong} would mean a mask that does "
            "not lie on the betas."
        ),
        pictures=tuple(drawn),
    )


def cortex_section(drawn: Sequence[ReportFigure]) -> Section:
    """Return the section with maps on the inflated cortex, as `draw_maps` has drawn them."""
    return Section(
        name="cortex",
        title="Maps on the cortex",
        text=(
            "Early visual areas lie around the occipital pole, on the medial side; high-level "
            "regions on the ventral and the lateral side. A region that is scattered, or lies "
            "elsewhere, or on one side alone where both are expected, has labels of another "
            "surface or hemisphere."
        ),
        pictures=tuple(drawn),
    )


def repetition_section(counts: pd.DataFrame) -> Section:
    """Return the section with how often each subject saw the shared images."""
    table = counts.rename(
        index="subj{:02d}".format,
        columns={times: word.replace(" ", "_") for times, word in TIMES.items()},
    )
    return Section(
        name="repetitions",
        title="Repetitions",
        text=(
            "Subjects with fewer sessions saw fewer shared images three times, and the images that "
            "all saw three times are those of the subject with fewest."
        ),
        pictures=(draw_repetitions(counts),),
        files={"repetitions": table.rename_axis(index="subject").reset_index()},
    )
