"""What a comparison of assemblies gives: differences of subjects, of files, of folders."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Difference:
    """How a subject's responses in a region differ.

    Attributes
    ----------
    subject, region : str
        As in the assemblies.
    n_images, n_voxels : int
        In common.
    images_differ, voxels_differ : int
        How many of these have a difference above the tolerance.
    largest, typical : float
        Largest and median absolute difference; NaN where nothing is in common.
    correlation : float
        Of all values in common; NaN where they do not vary.
    reasons : tuple of str
        Guesses, the surest first.
    """

    subject: str
    region: str
    n_images: int
    n_voxels: int
    images_differ: int
    voxels_differ: int
    largest: float
    typical: float
    correlation: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class FileComparison:
    """How two assemblies differ.

    Attributes
    ----------
    name : str
        File name, or both where they differ.
    forms : tuple of str
        Dimensions, shape and type of each.
    problems : tuple of str
        Differences of form, coordinates, images and voxels; a phrase each.
    images_only_in_first, images_only_in_second : tuple of int
        nsd_id (0-based).
    differences : tuple of Difference
        For every subject and region of either.
    orders : tuple of str
        What is the same in another order.
    """

    name: str
    forms: tuple[str, str]
    problems: tuple[str, ...]
    images_only_in_first: tuple[int, ...]
    images_only_in_second: tuple[int, ...]
    differences: tuple[Difference, ...]
    orders: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether form, coordinates and values agree."""
        return (
            not self.problems
            and not self.orders
            and not any(difference.images_differ for difference in self.differences)
        )

    @property
    def reasons(self) -> dict[str, list[str]]:
        """The guesses, and for each the subjects and regions that it explains."""
        explained: dict[str, list[str]] = {order: [self.name] for order in self.orders}
        for difference in self.differences:
            for reason in difference.reasons:
                explained.setdefault(reason, []).append(f"{difference.subject} {difference.region}")
        return explained


@dataclass(frozen=True)
class Comparison:
    """How two assemblies, or two folders of assemblies, differ.

    Attributes
    ----------
    first, second : Path
        What was compared.
    only_in_first, only_in_second : tuple of str
        Names of files.
    files : tuple of FileComparison
        Of the files in both.
    """

    first: Path
    second: Path
    only_in_first: tuple[str, ...]
    only_in_second: tuple[str, ...]
    files: tuple[FileComparison, ...]

    @property
    def equal(self) -> bool:
        """Whether both hold the same files, and these agree."""
        return (
            not self.only_in_first
            and not self.only_in_second
            and all(file.equal for file in self.files)
        )
