"""From responses to the assembly of a region, and the RDMs of all assemblies."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.analysis.geometry import Geometry, RegionGeometry, combined, geometry_of
from nsd_prep.analysis.rdm import upper_triangle
from nsd_prep.analysis.rdm_statistics import crossnobis, noise_precision
from nsd_prep.assemblies.assembly import build_assembly, without_gaps, without_values
from nsd_prep.assemblies.assembly_file import assembly_in_columns, opened_assembly
from nsd_prep.checks.assembly_values import ValuesOfNeuroids, values_of_neuroids
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.core.threads import each_in_threads
from nsd_prep.extraction.repetitions import averaged
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.pipeline.steps.evidence import gather_evidence


def assemble_region(prepared: Prepared, region: str, folder: Folder) -> StepOutput:
    """Average a region over repetitions, and write its assembly: ``Allen2022.REGION.nc``.

    On surfaces ``Allen2022_surface.REGION.nc``. What checks take from single trials is gathered
    meanwhile, in `Prepared.evidence`.
    """
    subjects = prepared.subjects_with(region)
    voxels = prepared.voxels[prepared.voxels["region"].eq(region) & prepared.voxels["kept"]]
    attributes = prepared.attributes | {
        "region": region,
        "region_definition": prepared.regions[region],
    }
    if without := prepared.subjects_without.get(region):
        attributes |= {"subjects_without_region": " ".join(map(str, without))}
    form = build_assembly(
        np.broadcast_to(np.float32(0), (len(prepared.nsd_ids), len(voxels))),
        prepared.nsd_ids,
        voxels,
        attributes,
        prepared.coordinates,
    )
    keep = [prepared.kept(subject, region) for subject in subjects]
    starts = np.cumsum([0, *(int(kept.sum()) for kept in keep)])
    name = prepared.assembly_file(region)
    with assembly_in_columns(form, folder.path / name) as file:

        def fill(position: int) -> None:
            subject, kept = subjects[position], keep[position]
            single_trials = prepared.repetitions(subject, region)
            averages = averaged(single_trials)
            # One writes while the other computes.
            file.write(int(starts[position]), averages if kept.all() else averages[:, kept])
            evidence = gather_evidence(prepared, subject, region, single_trials)
            prepared.evidence[subject, region] = evidence

        each_in_threads(fill, range(len(subjects)))
    return StepOutput.in_folder(folder, [name])


@dataclass(frozen=True, eq=False)
class Representations:
    """The RDMs of a run's assemblies, and what is checked of their values: each is read once.

    Attributes
    ----------
    assemblies : mapping of str to StepOutput
        The assembly of each region.
    folder : Folder
        The output folder.
    with_reliable : bool
        Whether RDMs of reliable voxels are needed, as they are for the report.
    """

    assemblies: Mapping[str, StepOutput]
    folder: Folder
    with_reliable: bool = field(default=True, compare=False)
    _regions: dict[str, Geometry] = field(default_factory=dict, init=False, compare=False)

    def summarise(self, region: str) -> tuple[xr.DataArray, ValuesOfNeuroids]:
        """Read an assembly as it was written, and compute its RDMs.

        Returns
        -------
        form : DataArray
            The assembly without its values: 0 that take no memory.
        values : ValuesOfNeuroids
            What is checked of the values.
        """
        (name,) = self.assemblies[region].files

        with opened_assembly(self.folder.path / name) as assembly:
            form = without_values(assembly)

            def summarise(neuroids: slice) -> tuple[ValuesOfNeuroids, Geometry]:
                values = assembly.variable.isel(neuroid=neuroids).to_numpy()
                part = form.isel(neuroid=neuroids).copy(deep=False, data=values)
                part = part.transpose("presentation", "neuroid")
                geometry = geometry_of(region, without_gaps(part), with_reliable=self.with_reliable)
                return values_of_neuroids(part.to_numpy()), geometry

            parts = each_in_threads(summarise, _subjects_in_columns(form["subject"].to_numpy()))
        of_all, of_reliable = (
            tuple(RegionGeometry.of_subjects(own) for own in zip(*of_parts, strict=True))
            for of_parts in (
                [geometry.all_voxels for _, geometry in parts],
                [geometry.reliable_voxels for _, geometry in parts],
            )
        )
        self._regions[region] = Geometry(form["nsd_id"].to_numpy(), of_all, of_reliable)
        return form, ValuesOfNeuroids.joined([values for values, _ in parts])

    @cached_property
    def geometry(self) -> Geometry:
        """The RDMs of every region and subject."""
        for region in self.assemblies:
            if region not in self._regions:  # it was checked in an earlier run
                self.summarise(region)
        return combined(self._regions[region] for region in self.assemblies)


def _subjects_in_columns(names: NDArray[np.object_]) -> list[slice]:
    """Return where each subject's neuroids stand; all in one, where they are not together."""
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1])).tolist()
    if len(starts) > len(set(names.tolist())):
        return [slice(None)]
    return [slice(*ends) for ends in itertools.pairwise([*starts, len(names)])]


def crossnobis_geometry(prepared: Prepared) -> Geometry:
    """Compute cross-validated distances of every region and subject, from single trials.

    In place of RDMs the geometry has upper triangles of
    `nsd_prep.analysis.rdm_statistics.crossnobis`, each voxel weighted by the inverse of its noise
    variance; of reliable voxels nothing.
    """
    region_subjects = [
        (region, subject)
        for region in prepared.regions
        for subject in prepared.subjects_with(region)
    ]

    def distances(region_subject: tuple[str, int]) -> tuple[int, NDArray[np.float32]]:
        region, subject = region_subject
        kept = prepared.kept(subject, region)
        responses = prepared.repetitions_without_gaps(subject, region)[:, :, kept]
        squared = crossnobis(responses, noise_precision(responses))
        return responses.shape[2], upper_triangle(squared.astype(np.float32))

    geometries = dict(
        zip(region_subjects, each_in_threads(distances, region_subjects), strict=True)
    )
    regions = []
    for region in prepared.regions:
        subjects = prepared.subjects_with(region)
        own = [geometries[region, subject] for subject in subjects]
        n_voxels = np.array([number for number, _ in own])
        names = tuple(f"subj{subject:02d}" for subject in subjects)
        rdms = np.stack([pairs for _, pairs in own])
        regions.append(RegionGeometry(region, names, n_voxels, np.zeros_like(n_voxels), rdms))
    return Geometry(prepared.nsd_ids, tuple(regions), ())
