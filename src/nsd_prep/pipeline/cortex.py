"""The cortex that a report draws its maps on, where it can."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from nsd_prep.core.errors import InputFileError
from nsd_prep.dataset.cortex import (
    MESH_FILES,
    Cortex,
    FsaverageIndex,
    leads_to_fsaverage,
    read_fsaverage_index,
    read_meshes,
)
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.published import FSAVERAGE_VERTICES
from nsd_prep.dataset.space import FSAVERAGE, HEMISPHERES
from nsd_prep.pipeline.inputs import Masks
from nsd_prep.pipeline.run import Run
from nsd_prep.sources.recorder import Recorder


def load_cortex(run: Run, masks: Mapping[int, Masks]) -> Cortex | None:
    """Read what a report needs to draw maps on fsaverage.

    None where no report is written, nilearn is not installed, or the dataset's folder lacks the
    transforms of every subject or the mesh.

    Raises
    ------
    InputFileError
        A transform or a mesh is not sound, or of another size than the others.
    """
    dataset = run.dataset()
    recorder = Recorder(dataset.source)
    dataset = replace(dataset, source=recorder)
    if not (run.assemblies and run.report) or find_spec("nilearn") is None:
        return None
    is_remote = dataset.source.transfer is not None
    indices: dict[str, FsaverageIndex] = {}
    for subject, own in masks.items():
        space = own.selection.space
        # Of a dataset at an address nothing is fetched for pictures alone.
        is_at_hand = space.name == FSAVERAGE or not is_remote
        if is_at_hand and leads_to_fsaverage(dataset, subject, space.name):
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
    if not sizes or is_remote or not all(map(dataset.exists, _mesh_files(dataset))):
        return None
    meshes = read_meshes(dataset)
    for path in _mesh_files(dataset):
        dataset.read(path)  # its digest is recorded
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
