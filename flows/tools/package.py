"""The command ``package``: a run's output for Brain-Score."""

from pathlib import Path

from nsd_prep.flows.options import Flag


def package(
    output: Path,
    *,
    target: Path | None = None,
    suffix: str = "",
    unchecked: Flag = False,
    replace: Flag = False,
) -> int:
    """Package a run's output for Brain-Score.

    Writes the packaged assemblies and stimulus sets with their SHA-1, an index, and a plugin
    folder that is ready to be registered. The files must match the run's manifest, and no check
    may have failed. The same inputs always give the same bytes.

    Args:
        output: Output folder of a run, or the folder brainscore-ID that was kept
            from an earlier one.
        target: Folder to write to; by default, 'packages' plus the suffix, in the output folder.
        suffix: Suffix that the run was given.
        unchecked: Ignore the run's manifest and checks; the package records that.
        replace: Replace packages of other data, or of more subjects or regions.
    """
    from nsd_prep.assemblies.brainscore.package import package_output, packages_folder
    from nsd_prep.core.progress import Stages

    target = target or packages_folder(output, suffix)
    with Stages().stage("packaging"):
        index = package_output(output, target, suffix=suffix, unchecked=unchecked, replace=replace)
    for file in index.files:
        print(f"{file.sha1}  {file.file}")  # noqa: T201
    print(f"Written: {target}")  # noqa: T201
    return 0
