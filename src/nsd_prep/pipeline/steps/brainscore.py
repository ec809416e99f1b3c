"""What Brain-Score packages: train and test assemblies, stimulus sets."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nsd_prep.assemblies.assembly_file import assembly_in_columns, opened_assembly
from nsd_prep.assemblies.identifiers import SPLITS, packaged_assembly_file
from nsd_prep.assemblies.stimulus_sets import write_stimulus_sets
from nsd_prep.assemblies.train_test import (
    TrainAndTest,
    fill_train_and_test,
    train_and_test_form,
)
from nsd_prep.checks.train_test import check_agreement, check_train_and_test
from nsd_prep.core.digests import read_table
from nsd_prep.core.parameters import ZScoreImages
from nsd_prep.core.progress import current_stage
from nsd_prep.core.records import FileIdentity, Folder, StepOutput
from nsd_prep.core.threads import return_freed_memory
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.source import Identity, Source
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.prepared import Prepared


def make_train_and_test(
    prepared: Prepared, zscore_images: ZScoreImages, suffix: str, folder: Folder
) -> StepOutput:
    """Write the train and the test assembly of all regions.

    Two regions of subjects are in memory at a time.

    Parameters
    ----------
    prepared : Prepared
        What was extracted.
    zscore_images : {"all", "train"}
        Over which images they are z-scored once more.
    suffix : str
        What stands before the extension.
    folder : Folder
        The output folder.
    """
    stage = current_stage()
    stage.total = len(prepared.regions_of_subjects)

    def repetitions(subject: int, region: str) -> NDArray[np.float32]:
        stage.advance()
        responses, kept = prepared.repetitions(subject, region), prepared.kept(subject, region)
        return responses if kept.all() else responses[:, :, kept]

    attributes = prepared.attributes
    if without := prepared.subjects_without:
        described = [f"{region}: {' '.join(map(str, who))}" for region, who in without.items()]
        attributes = attributes | {"subjects_without_region": "; ".join(described)}
    forms = train_and_test_form(
        prepared.voxels[prepared.voxels["kept"]],
        prepared.nsd_ids,
        prepared.is_train,
        zscore_images=zscore_images,
        attributes=attributes,
    )
    files = train_and_test_files(folder, suffix, prepared.space)
    with ExitStack() as opened:
        written = [
            opened.enter_context(assembly_in_columns(form, file))
            for form, file in zip(forms, files, strict=True)
        ]

        def write(start: int, *values: NDArray[np.float32]) -> None:
            for assembly, columns in zip(written, values, strict=True):
                assembly.write(start, columns)

        return_freed_memory()  # of the coordinates, while they were put together
        fill_train_and_test(forms, repetitions, prepared.is_train, zscore_images, write)
    return StepOutput.from_paths(folder, files)


def check_written_train_and_test(
    prepared: Prepared,
    assemblies: Mapping[str, StepOutput],
    train_and_test: StepOutput,  # noqa: ARG001 (part of the key)
    suffix: str,
    folder: Folder,
) -> StepOutput:
    """Check the train and the test assembly as they were written.

    Parameters
    ----------
    prepared, suffix, folder
        As `make_train_and_test` takes them.
    assemblies : mapping of str to StepOutput
        The assembly of each region, with which they must agree.
    train_and_test : StepOutput
        What it returned.
    """
    files = train_and_test_files(folder, suffix, prepared.space)
    kept = prepared.voxels[prepared.voxels["kept"]]
    with ExitStack() as opened:
        written = TrainAndTest(*(opened.enter_context(opened_assembly(file)) for file in files))
        checks = check_train_and_test(written, prepared.nsd_ids, prepared.is_train, kept)
        for region in assemblies:
            with opened_assembly(folder.path / prepared.assembly_file(region)) as assembly:
                checks.append(check_agreement(written, region, assembly, prepared.is_train, kept))
    return StepOutput(checks=tuple(checks))


@dataclass(frozen=True)
class Images:
    """The images of a dataset.

    Attributes
    ----------
    source : Source
        Where they come from.
    path : Path
        Their file, as the source knows it.
    identity : FileIdentity, RemoteIdentity or None
        What tells whether it is still the same; None where it is not there.
    changed : int or None
        When the inode of a file on a disk was last changed, nanoseconds since 1970: of the
        modification time whoever corrects a file may say anything.
    """

    source: Source = field(compare=False)
    path: Path = field(compare=False)
    identity: Identity | None
    changed: int | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Return the images of a dataset as they are now."""
        source, path = dataset.source, dataset.images_file
        if not source.exists(path):
            return cls(source, path, None)
        identity = source.identity(path)
        is_on_disk = isinstance(identity, FileIdentity)
        return cls(source, path, identity, path.stat().st_ctime_ns if is_on_disk else None)


def make_stimulus_sets(
    images: Images,
    nsd_ids: NDArray[np.int64],
    is_train: NDArray[np.bool_],
    suffix: str,
    folder: Folder,
) -> StepOutput:
    """Write the images of train and test, and their tables.

    Parameters
    ----------
    images : Images
        Of the dataset.
    nsd_ids : ndarray of int64, shape (n_images,)
        The images of the run (0-based), ascending.
    is_train : ndarray of bool, shape (n_images,)
        The split.
    suffix : str
        What stands before the extension of the tables.
    folder : Folder
        The output folder.

    Raises
    ------
    MissingFilesError, InputFileError
        The file of images is not there, or too short.
    """
    target = folder.path / outputs.BRAINSCORE
    pixels = images.source.images(images.path, nsd_ids)
    tables = write_stimulus_sets(pixels, target, nsd_ids, is_train, suffix=suffix)
    pictures = [
        target / f"stimuli_{split}" / name
        for split, table in zip(SPLITS, tables, strict=True)
        for name in read_table(table)["image_file_name"]
    ]
    return StepOutput.from_paths(folder, [*tables, *pictures])


def train_and_test_files(folder: Folder, suffix: str, space: str) -> list[Path]:
    """Return where an output folder has the train and the test assembly."""
    return [
        packaged_assembly_file(folder.path / outputs.BRAINSCORE, split, suffix, space)
        for split in SPLITS
    ]
