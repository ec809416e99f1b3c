"""Validation: what was written is read back and checked."""

from collections.abc import Mapping

from nsd_prep import outputs
from nsd_prep.assemblies.assembly import read_assembly
from nsd_prep.checks import assembly as assembly_checks
from nsd_prep.core.digests import read_table
from nsd_prep.core.records import Folder, Made
from nsd_prep.prepared import Prepared


def validate(
    prepared: Prepared,
    tables: Made,  # noqa: ARG001 (part of the key)
    assemblies: Mapping[str, Made],
    folder: Folder,
) -> Made:
    """Check the assemblies and tables as they were written.

    Failed checks are the caller's to act on.
    """
    nsd_ids = prepared.nsd_ids
    found = assembly_checks.check_split(nsd_ids, read_table(folder.path / outputs.SPLIT))
    n_sessions = {
        f"subj{subject:02d}": sum(record.subject == subject for record in prepared.sessions)
        for subject in prepared.subjects
    }
    for region in assemblies:
        voxels = prepared.voxels[prepared.voxels["region"] == region]
        assembly = read_assembly(folder.path / outputs.assembly_file(region))
        subjects = prepared.subjects_with(region)
        found += assembly_checks.check_form(region, assembly, subjects, nsd_ids)
        found += assembly_checks.check_signal(region, assembly, voxels[voxels["kept"]])
        found += assembly_checks.check_coverage(region, voxels, n_sessions)
    return Made(checks=tuple(found))
