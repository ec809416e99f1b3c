"""The report of a run: its page, figures and tables."""

import logging
import platform
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from nsd_prep import __version__
from nsd_prep.analysis.encoding import (
    FEWEST_IMAGES_FITTED,
)
from nsd_prep.analysis.features import Features, read_features
from nsd_prep.analysis.image_features import image_features
from nsd_prep.assemblies.stimulus_sets import pictures_of, read_picture
from nsd_prep.core.atomic import write_text
from nsd_prep.core.digests import read_table
from nsd_prep.core.processes import Caller, call_here, worker_processes
from nsd_prep.core.progress import current_stage
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.core.threads import each_in_threads
from nsd_prep.dataset.space import VolumeSpace, noun_of
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.inputs import Masks, NoiseCeilings
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.steps.assemblies import crossnobis_geometry
from nsd_prep.pipeline.steps.encoding_scores import encoding_scores
from nsd_prep.pipeline.steps.report_inputs import BegunScores, Drawing, Encoding, ReportInputs
from nsd_prep.pipeline.steps.tables import neuroids
from nsd_prep.report.compose import (
    compose_report,
    draw_matrices,
    draw_voxels,
)
from nsd_prep.report.figures.clusters import images_of_clusters, thumbnail
from nsd_prep.report.figures.figure import ReportFigure
from nsd_prep.report.figures.pixels import draw_places
from nsd_prep.report.figures.sessions import summarise_sessions
from nsd_prep.report.figures.slices import Anatomy
from nsd_prep.report.markdown import artifacts
from nsd_prep.report.methods import RunFacts
from nsd_prep.report.record import Report, Section
from nsd_prep.report.sections import crossnobis_section, encoding_sections
from nsd_prep.report.write import write_report_files
from nsd_prep.synthetic import read_truth

_logger: Final = logging.getLogger(__name__)

#: Of fewer a report is made in a few seconds, of which a second process would take two.
_VOXELS_WORTH_A_PROCESS: Final = 20_000

_LIBRARIES: Final = ("numpy", "scipy", "pandas", "xarray", "matplotlib")


def write_report(inputs: ReportInputs, folder: Folder) -> StepOutput:
    """Write the report with its figures and tables, and as Markdown for the page of the run.

    Returns
    -------
    StepOutput
        All the files.
    """
    report = gather_report(inputs, folder)
    if inputs.drawing is not None:
        inputs.drawing.end()
    target = folder.path / outputs.REPORT
    files = write_report_files(target, report)
    for key, text in artifacts(report).items():
        files.append(target / "markdown" / f"{key}.md")
        write_text(files[-1], text)
    output = StepOutput.from_paths(folder, sorted(files))
    current_stage().advance()
    return output


@contextmanager
def drawing(prepared: Prepared) -> Iterator[Drawing]:
    """Let figures of a report be drawn while a block runs, in a second process if they are large.

    It is to be begun with by `begin_with_voxels` and `begin_with_packages`.
    """
    if len(prepared.voxels) < _VOXELS_WORTH_A_PROCESS:
        with ThreadPoolExecutor(1) as thread:
            yield Drawing(
                call_here, lambda function, *arguments: thread.submit(function, *arguments)
            )
        return
    with ExitStack() as process:
        call = process.enter_context(worker_processes())
        call(import_module, draw_places.__module__)  # it is ready when there is something to draw
        yield Drawing(call, call, end=process.close)


def begin_with_voxels(inputs: ReportInputs, folder: Folder) -> ReportInputs:
    """Begin to draw voxels, where a second process draws: they need nothing but a run's tables.

    Parameters
    ----------
    inputs : ReportInputs
        With what draws.
    folder : Folder
        The output folder.

    Returns
    -------
    ReportInputs
        For `write_report`, which goes on with what was begun.
    """
    begun = inputs.drawing
    if begun is None or begun.draw is call_here:
        return inputs
    figures = draw_voxels(
        begun.draw,
        # No name for the table, which would keep it until all is drawn.
        _drawn_voxels(inputs.prepared, folder),
        anatomies(inputs.masks, inputs.noise_ceilings),
        inputs.cortex,
    )
    return replace(inputs, drawing=replace(begun, voxel_figures=figures))


def begin_with_packages(inputs: ReportInputs, folder: Folder) -> ReportInputs:
    """Begin with what the report shows of packages, where a second process draws.

    Arguments and result are those of `begin_with_voxels`.
    """
    begun = inputs.drawing
    if begun is None or begun.draw is call_here:
        return inputs
    # Matrices first, which the report shows before the scores.
    matrices = _begin_matrices(inputs, folder, begun.draw)
    scores = _begin_scores(inputs, folder, begun.compute)
    return replace(inputs, drawing=replace(begun, matrices=matrices, scores=scores))


def gather_report(inputs: ReportInputs, folder: Folder) -> Report:
    """Put a report together, with its figures drawn."""
    if inputs.drawing is not None:
        return _gather_report(inputs, folder, inputs.drawing)
    with drawing(inputs.prepared) as begun:
        return _gather_report(inputs, folder, begun)


def _drawn_voxels(prepared: Prepared, folder: Folder) -> pd.DataFrame:
    reliability = read_table(folder.path / outputs.RELIABILITY)
    return neuroids(prepared).merge(
        reliability[["neuroid_id", "split_half_correlation"]],
        how="left",
        on="neuroid_id",
        validate="one_to_one",
    )


def _begin_matrices(
    inputs: ReportInputs, folder: Folder, draw: Caller
) -> "Future[tuple[ReportFigure, ...]]":
    geometry, pictures = inputs.representations.geometry, pictures_of(inputs.stimuli, folder)
    shown = [nsd_id for nsd_id in images_of_clusters(geometry).tolist() if nsd_id in pictures]
    thumbnails = {nsd_id: thumbnail(read_picture(pictures[nsd_id])) for nsd_id in shown}
    return draw_matrices(draw, geometry, thumbnails, noun_of(inputs.prepared.space))


def _begin_scores(inputs: ReportInputs, folder: Folder, compute: Caller) -> BegunScores | None:
    prepared, encoding = inputs.prepared, inputs.encoding
    if encoding is None:
        return None
    features, source = _features(encoding, prepared, pictures_of(inputs.stimuli, folder))
    if not features:
        return None
    scores = compute(
        partial(encoding_scores, may_be_shifted=encoding.features is not None),
        folder,
        encoding.suffix,
        prepared.space,
        features,
    )
    return BegunScores(scores, source)


def _gather_report(inputs: ReportInputs, folder: Folder, begun: Drawing) -> Report:
    prepared = inputs.prepared
    facts = facts_of_run(prepared)
    geometry = inputs.representations.geometry
    sessions = read_table(folder.path / outputs.SESSIONS)
    # What was not begun is: the scores first, which are computed while the rest is drawn here.
    matrices, scores = begun.matrices, begun.scores
    if matrices is None:
        scores = _begin_scores(inputs, folder, begun.compute)

    def further() -> list[Section]:
        distances = crossnobis_geometry(prepared) if inputs.crossnobis else None
        return [
            *([crossnobis_section(geometry, distances, facts.noun)] if distances else []),
            *(
                encoding_sections(*scores.future.result(), scores.source, facts.noun)
                if scores
                else []
            ),
        ]

    # One thread of BLAS, as beside anything else that computes.
    with threadpool_limits(1, "blas"):
        if matrices is None:
            matrices = _begin_matrices(inputs, folder, begun.draw)
        return compose_report(
            facts,
            geometry,
            neuroids(prepared) if begun.voxel_figures else _drawn_voxels(prepared, folder),
            prepared.repetition_counts,
            inputs.checks,
            anatomies=anatomies(inputs.masks, inputs.noise_ceilings),
            cortex=inputs.cortex,
            sessions=summarise_sessions(sessions, sessions.drop_duplicates(["subject", "session"])),
            further=further,
            draw=begun.draw,
            voxel_figures=begun.voxel_figures,
            matrices=matrices,
        )


def anatomies(
    masks: Mapping[int, Masks], noise_ceilings: Mapping[int, NoiseCeilings]
) -> dict[str, Anatomy]:
    """Return what each subject's voxels are drawn on: its T1, or its ncsnr where there is none.

    On surfaces there is nothing of the kind.
    """
    drawn = {}
    for subject, own in noise_ceilings.items():
        ncsnr, space = own.ncsnr
        if not isinstance(space, VolumeSpace):
            continue
        t1 = masks[subject].anatomy
        name = f"subj{subject:02d}"
        drawn[name] = Anatomy(ncsnr, space) if t1 is None else Anatomy(t1, space, "T1")
    return drawn


def facts_of_run(prepared: Prepared) -> RunFacts:
    """Gather what the methods of a run depend on."""
    voxels = neuroids(prepared)
    attributes = prepared.attributes
    return RunFacts(
        dataset=str(attributes["dataset"]),
        is_nsd=prepared.is_nsd,
        preparation=str(attributes["preparation"]),
        space=prepared.space,
        surface_files=str(attributes.get("surface_files", "")),
        trials_per_session=prepared.trials_per_session,
        sessions=prepared.dataset_sessions,
        sessions_read={
            subject: sum(record.subject == subject for record in prepared.sessions)
            for subject in prepared.subjects
        },
        shared_images=int(prepared.repetition_counts.iloc[0].sum()),
        images=len(prepared.nsd_ids),
        train_images=int(prepared.is_train.sum()),
        regions=prepared.regions,
        voxels={str(name): len(rows) for name, rows in voxels.groupby("region", sort=False)},
        voxel_sessions_without_data=int(voxels["sessions_without_data"].sum()),
        subjects_without=prepared.subjects_without,
        invalid_voxels=prepared.invalid_voxels,
        seed=int(attributes["seed"]),
        train_fraction=float(attributes["train_fraction"]),
        versions={"nsd-prep": __version__, "Python": platform.python_version()}
        | {library: version(library) for library in _LIBRARIES},
    )


def _features(
    encoding: Encoding, prepared: Prepared, pictures: Mapping[int, Path]
) -> tuple[dict[int, Features], str]:
    """Return features by subject (1-based) and where they are from.

    The user's, else the truth of a synthetic dataset, else the images themselves; none where there
    are fewer images than `FEWEST_IMAGES_FITTED`.
    """
    n_train = np.count_nonzero(prepared.is_train)
    if min(n_train, len(prepared.is_train) - n_train) < FEWEST_IMAGES_FITTED:
        return {}, ""
    if encoding.features:
        features = read_features(Path(encoding.features.path))
        return dict.fromkeys(
            prepared.subjects, features
        ), f"the features of {encoding.features.path}"
    if encoding.truth:
        truth = read_truth(encoding.truth)
        latents = {subject: Features(*truth.latents(subject)) for subject in prepared.subjects}
        return latents, "the synthetic latents"
    if not set(prepared.nsd_ids.tolist()) <= set(pictures):
        return {}, ""
    values = each_in_threads(
        lambda nsd_id: image_features(read_picture(pictures[nsd_id])[np.newaxis]),
        prepared.nsd_ids.tolist(),
    )
    features = Features(prepared.nsd_ids, np.concatenate(values))
    source = "contrast energy of the images, by place, orientation and scale,"
    return dict.fromkeys(prepared.subjects, features), source
