"""Exports of the subjects of an open dataset, whose single trials are made for them."""

from collections.abc import Sequence
from pathlib import Path

from nsd_prep.core.progress import Stages
from nsd_prep.dataset.atlases import labelled_regions
from nsd_prep.exports.export import NEEDS, Like, opened_trials, require_like, write_export
from nsd_prep.exports.folder import opened_export
from nsd_prep.pipeline.inputs import design_of
from nsd_prep.pipeline.open_subjects import OpenSubjects
from nsd_prep.pipeline.run import refuse_dataset
from nsd_prep.single_trials.reliability import VoxelMinima
from nsd_prep.single_trials.subject import SingleTrialOptions


def export_subjects(
    opened: OpenSubjects,
    like: Like,
    target: Path,
    subjects: Sequence[int] | None,
    minima: VoxelMinima,
) -> list[Path]:
    """Write the files of an export, of all open subjects where none are given; return all."""
    require_like(like)
    dataset, needs = opened.run.dataset(), NEEDS[like]
    needs.require_space(like, dataset.space)
    refuse_dataset(target, dataset)
    options = SingleTrialOptions(normalise=needs.normalise)
    chosen = opened.chosen(subjects)
    made_from = {
        "dataset": dataset.name,
        "preparation": dataset.preparation,
        **dataset.origin,
        **dict.fromkeys(VoxelMinima(0, 0, 0).attributes()),
        **minima.attributes(),
    }
    with opened_export(target, like) as folder:
        # Now, and not after the hours that extraction may take.
        folder.require(chosen, made_from, design_of(opened.all_trials, dataset).get("design"))
        files = [
            opened.single_trials_file(
                subject, labelled_regions(dataset, subject, needs.regions), options, minima, "skip"
            )
            for subject in chosen
        ]
        images = dataset.images_file if dataset.images_file.is_file() else None
        with opened_trials(files, like) as trials, Stages().stage("exporting"):
            return write_export(folder, like, trials, images)
