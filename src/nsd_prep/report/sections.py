"""The sections of a report: texts, figures and tables."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from nsd_prep.analysis.encoding import encoding_over_subjects, summarise_encoding
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
from nsd_prep.core.counts import TIMES
from nsd_prep.core.nouns import VOXEL, Noun
from nsd_prep.dataset.published import RELIABLE_NOISE_CEILING
from nsd_prep.report.figures.encoding import draw_encoding
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.noise_ceilings import draw_noise_ceilings, draw_repetitions
from nsd_prep.report.figures.rdms import (
    crossnobis_distance,
    draw_between_regions,
    draw_between_subjects,
    draw_mean_rdms,
)
from nsd_prep.report.figures.sessions import draw_sessions
from nsd_prep.report.figures.slices import Anatomy
from nsd_prep.report.methods import listed
from nsd_prep.report.record import Section, Table

_logger: Final = logging.getLogger(__name__)


def _interval(table: pd.DataFrame) -> str:
    """Say what the columns beside a correlation are, in the words of their headers."""
    over = [
        f"over {what} (low {what}, high {what})"
        for what in ("images", "subjects")
        if f"low_{what}" in table
    ]
    return f", with the ends of its 95% interval {' and '.join(over)}" if over else ""


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
        patterns = "No response pattern is constant."
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
            "all (upper bound). On average over subjects, no model can correlate more highly than "
            "the upper bound."
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
    several = table["subject"].nunique() > 1
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
                f"Each {'subject in each ' * several}region; noise ceilings in percent.",
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
        "Voxels outside the brain, or deep in its white matter, mean"
        if all(anatomy.kind == "T1" for anatomy in anatomies.values())
        else "Voxels on white, or off the dark band of responsive cortex, mean"
    )
    return Section(
        name="voxels",
        title="Voxels in the brain",
        text=(
            "A region should lie on the cortex, in both hemispheres unless it is defined in one, "
            f"and at about the same place in every subject. {wrong} that masks and betas are "
            "misaligned."
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
            if len(table) > 1
            else "A subject with fewer sessions saw fewer shared images three times."
        ),
        pictures=(draw_repetitions(counts),),
        files={"repetitions": table.rename_axis(index="subject").reset_index()},
    )


def encoding_sections(
    scores: pd.DataFrame, shift: int | None, source: str, noun: Noun = VOXEL
) -> list[Section]:
    """Return what a report says about a ridge regression from the images' features.

    Parameters
    ----------
    scores : DataFrame
        As `nsd_prep.analysis.encoding.score_encoding` gives them.
    shift : int or None
        As `nsd_prep.analysis.encoding.shift_of_ids` gives it.
    source : str
        Where the features are from.
    noun : Noun
        What voxels are called.

    Returns
    -------
    list of Section
        One.
    """
    summary = summarise_encoding(scores)
    means = encoding_over_subjects(summary).dropna(axis="columns", how="all")
    wrong = ""
    if shift is not None:
        wrong = (
            f"The ids of {source} are off by one: as they are they predict no region, and with "
            f"{shift:+d} they do. Correct them, and run the same command again. "
        )
        _logger.warning(wrong.rstrip())
    return [
        Section(
            name="encoding",
            title="Encoding baseline",
            text=f"{wrong}Ridge regression from {source} to the train assembly, scored on the test "
            "assembly, as a share of what the noise ceiling allows. With enough images a model "
            f"that knows all that drives the {noun.plural} comes close to 1; with few it stays "
            "below.",
            pictures=(draw_encoding(scores, noun),),
            tables=(
                Table(f"Medians over reliable {noun.plural}.", columns_named(summary, noun)),
                *(
                    [Table(f"The correlations' mean over subjects{_interval(means)}.", means)]
                    if scores["subject"].nunique() > 1
                    else []
                ),
            ),
            files={"encoding": scores},
        )
    ]
