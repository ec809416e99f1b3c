"""The command ``compare``: where assemblies differ."""

from pathlib import Path


def compare(first: Path, second: Path, *, tolerance: float = 1e-5) -> int:
    """Compare two assemblies, or the assemblies of two output folders.

    Shows where they differ (shapes, coordinates, images, voxels, values by subject and region) and
    a likely reason. The exit status is 0 if they are equal and 1 if they differ.

    Args:
        first: A .nc file, or a folder of them.
        second: What to compare it with, of the same kind.
        tolerance: Largest difference that counts as equal.
    """
    from nsd_prep.analysis.compare.compare import compare
    from nsd_prep.core.progress import Stages
    from nsd_prep.core.terminal import print_rendered
    from nsd_prep.report.compare_text import as_text

    with Stages().stage("comparing"):
        comparison = compare(first, second, tolerance)
    print_rendered(as_text(comparison))
    return 0 if comparison.equal else 1
