"""The cortex that a report draws its maps on, where it can."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Final

from nsd_prep.core.errors import InputFileError, RemoteFaultError
from nsd_prep.dataset.cortex import (
    MESH_FILES,
    TRANSFORMS_TO_FSAVERAGE,
    Cortex,
    FsaverageIndex,
    leads_to_fsaverage,
    read_fsaverage_index,
    read_meshes,
    transform_files,
)
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.published import FSAVERAGE_VERTICES
from nsd_prep.dataset.space import HEMISPHERES
from nsd_prep.pipeline.inputs import Masks
from nsd_prep.pipeline.run import Run
from nsd_prep.sources.recorder import Recorder

_logger: Final = logging.getLogger(__name__)


def load_cortex(run: Run, masks: Mapping[int, Masks]) -> Cortex | None:
    """Read what a report needs to draw maps on fsaverage.

    None where no report is written, nilearn is not installed, or the dataset lacks the transforms
    of every subject or the mesh; with a warning where it is at an address that does not answer.

    Raises
    ------
    InputFileError
        A transform or a mesh is not sound, or of another size than the others.
    """
    if not (run.assemblies and run.report) or find_spec("nilearn") is None:
        return None
    dataset = run.dataset()
    try:
        return _read_cortex(dataset, masks)
    except RemoteFaultError as error:  # a run needs no pictures, and may have all else in its cache
        _logger.warning("Maps on the cortex are left out: %s", error)
        return None


def _read_cortex(dataset: Dataset, masks: Mapping[int, Masks]) -> Cortex | None:
    recorder = Recorder(dataset.source)
    dataset = replace(dataset, source=recorder)
    if dataset.space in TRANSFORMS_TO_FSAVERAGE:
        files = [transform_files(dataset, subject, dataset.space) for subject in masks]
        dataset.source.fetch_files(list(chain.from_iterable(files)))
    indices: dict[str, FsaverageIndex] = {}
    for subject, own in masks.items():
        space = own.selection.space
        if leads_to_fsaverage(dataset, subject, space.name):
            indices[f"subj{subject:02d}"] = read_fsaverage_index(dataset, subject, space)
    sizes = {len(index.sites) // 2 for index in indices.values()}
    if len(sizes) > 1:
        raise InputFileError(
            f"The transforms of the subjects lead to different surfaces: expected one fsaverage, "
            f"found hemispheres of {', '.join(map(str, sorted(sizes)))} vertices; download the "
            f"transforms of {', '.join(indices)} again."
        )
    # FreeSurfer's own is drawn on fsaverage5: at its full size a view takes half a minute.
    if sizes == set(FSAVERAGE_VERTICES):
        return Cortex(indices, None, tuple(recorder.files.values()))
    if not sizes or not all(map(dataset.exists, _mesh_files(dataset))):
        return None
    for path in _mesh_files(dataset):
        dataset.read(path)  # it is fetched, and its digest is recorded
    meshes = read_meshes(dataset)
    for hemisphere, mesh in zip(HEMISPHERES, meshes, strict=True):
        if {len(mesh.coordinates)} != sizes:
            raise InputFileError(
                f"{dataset.mesh_file('inflated', hemisphere)} is not the surface that the "
                f"transforms lead to: expected {sizes.pop()} vertices, found "
                f"{len(mesh.coordinates)}; download both again."
            )
    return Cortex(indices, meshes, tuple(recorder.files.values()))


def _mesh_files(dataset: Dataset) -> list[Path]:
    return [
        dataset.mesh_file(name, hemisphere) for name in MESH_FILES for hemisphere in HEMISPHERES
    ]
