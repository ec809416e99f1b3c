"""A report put together from what a run found."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.analysis.figures import draw_between_regions, draw_between_subjects, draw_mean_rdms
from nsd_prep.analysis.geometry import Geometry
from nsd_prep.analysis.tables import (
    between_regions_table,
    between_subjects_table,
    mean_rdm_table,
    noise_ceiling_histogram,
    region_table,
    subject_table,
)
from nsd_prep.analysis.voxel_figures import draw_noise_ceilings, draw_repetitions, draw_slices
from nsd_prep.checks import Check
from nsd_prep.published import RELIABLE_NOISE_CEILING
from nsd_prep.report.methods import RunFacts, facts_table, methods, references
from nsd_prep.report.record import Report, Section, Table


def compose(
    facts: RunFacts,
    geometry: Geometry,
    voxels: pd.DataFrame,
    repetition_counts: pd.DataFrame,
    backgrounds: Mapping[str, NDArray[np.floating]],
    checks: Sequence[Check],
    further: Sequence[Section] = (),
) -> Report:
    """Put a report together, figures and tables included.

    Parameters
    ----------
    facts : RunFacts
        What the run did.
    geometry : Geometry
        RDMs of its regions.
    voxels : DataFrame
        A row for each neuroid, as `nsd_prep.assembly.voxel_table` gives it.
    repetition_counts : DataFrame of int, shape (n_subjects, 4)
        As `nsd_prep.trials.repetition_counts` gives it.
    backgrounds : mapping of str to ndarray of float, shape (Z, Y, X)
        For each subject (``subj01``) the ncsnr, drawn behind its voxels; NaN outside the brain.
    checks : sequence of Check
        All of the run.
    further : sequence of Section
        Sections of other analyses, placed before the checks.

    Returns
    -------
    Report
        Ready to be written.
    """
    regions = [of.region for of in geometry.all_voxels]
    subjects = len(facts.sessions)
    return Report(
        title=f"{facts.dataset}: neural assemblies",
        summary=(
            f"Responses of {subjects} subject{'s' if subjects > 1 else ''} to {facts.images:,} "
            f"images in {_listed(regions)}: {len(voxels):,} voxels, {facts.train_images:,} train "
            f"and {facts.images - facts.train_images:,} test images."
        ),
        facts=facts_table(facts),
        sections=(
            overview_section(geometry, voxels),
            geometry_section(geometry),
            agreement_section(geometry),
            noise_ceiling_section(geometry, voxels),
            places_section(voxels, backgrounds),
            repetition_section(repetition_counts),
            *further,
        ),
        checks=tuple(checks),
        methods=methods(facts),
        references=references(),
    )


def overview_section(geometry: Geometry, voxels: pd.DataFrame) -> Section:
    """Return the section with one row for each region."""
    table = region_table(geometry, voxels)
    return Section(
        name="regions",
        title="Regions at a glance",
        text="",
        tables=(
            Table(
                "Voxels of all subjects; noise ceilings in percent; mean and SD of the mean RDM "
                "over all pairs of images; mean correlation of RDMs between subjects, with all and "
                f"with reliable voxels (noise ceiling above {RELIABLE_NOISE_CEILING:g} %).",
                table,
            ),
        ),
        files={"regions": table},
    )


def geometry_section(geometry: Geometry) -> Section:
    """Return the section with the mean RDMs."""
    undefined = {
        of.region: int(of.n_without_variance.sum())
        for of in geometry.all_voxels
        if of.n_without_variance.any()
    }
    if undefined:
        counted = _listed([f"{number} in {region}" for region, number in undefined.items()])
        patterns = (
            f"Some response patterns have no variance over voxels ({counted}, over all subjects): "
            "they are placed at a distance of 1 from every other."
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
        pictures=(draw_mean_rdms(geometry),),
        files={
            f"mean-rdm-{of.region.lower()}": mean_rdm_table(geometry.nsd_ids, of)
            for of in geometry.all_voxels
        },
    )


def agreement_section(geometry: Geometry) -> Section:
    """Return the section with the correlations between regions and between subjects."""
    pictures = []
    if len(geometry.all_voxels) > 1:
        pictures.append(draw_between_regions(geometry))
    if any(len(of.subjects) > 1 for of in geometry.all_voxels):
        pictures.append(draw_between_subjects(geometry))
    of_regions, of_subjects = between_regions_table(geometry), between_subjects_table(geometry)
    text = (
        "Neighbouring stages of the visual hierarchy should resemble each other more than distant "
        "ones, and subjects who saw the same images should agree. A subject who stands out in one "
        "region has a mask or trials worth a look; one who stands out everywhere has noisier data, "
        "or the trials of someone else."
    )
    if not pictures:
        text = "One region of one subject: there is nothing to compare."
    tables = (
        (Table("Pearson r between the mean RDMs of two regions.", of_regions),)
        if len(of_regions)
        else ()
    )
    return Section(
        name="agreement",
        title="Agreement between regions and subjects",
        text=text,
        pictures=tuple(pictures),
        tables=tables,
        files={"between-regions": of_regions, "between-subjects": of_subjects},
    )


def noise_ceiling_section(geometry: Geometry, voxels: pd.DataFrame) -> Section:
    """Return the section with the noise ceilings and a row for each subject and region."""
    table = subject_table(geometry, voxels)
    return Section(
        name="noise-ceilings",
        title="Noise ceilings",
        text=(
            "The share of a voxel's variance over images that a perfect model could explain. Early "
            "visual areas are expected to be highest, and high-level regions, which hold many "
            "voxels that answer to few images, lowest."
        ),
        pictures=(draw_noise_ceilings(voxels),),
        tables=(Table("Each subject in each region; noise ceilings in percent.", table),),
        files={"subjects": table, "noise-ceilings": noise_ceiling_histogram(voxels)},
    )


def places_section(
    voxels: pd.DataFrame, backgrounds: Mapping[str, NDArray[np.floating]]
) -> Section:
    """Return the section with the voxels on slices."""
    return Section(
        name="voxels",
        title="Voxels in the brain",
        text=(
            "A region should lie on the cortex, in both hemispheres unless it is defined in one, "
            "and at about the same place in every subject. Voxels on white, or beside the dark "
            "band of responsive cortex, would mean a mask that does not lie on the betas."
        ),
        pictures=tuple(
            draw_slices(str(region), of_region, backgrounds)
            for region, of_region in voxels.groupby("region", sort=False)
        ),
    )


def repetition_section(counts: pd.DataFrame) -> Section:
    """Return the section with how often each subject saw the shared images."""
    table = counts.rename(columns={3: "three_times", 2: "twice", 1: "once", 0: "never"})
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


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
