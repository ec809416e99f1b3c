"""The index of a folder of packages: what each file is, and what it was made from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    computed_field,
    model_serializer,
    model_validator,
)

from nsd_prep.assemblies.identifiers import (
    NSD,
    REGION_PATTERN,
    SPLITS,
    SUBJECT_PATTERN,
    Split,
    base_name,
    registry_prefix,
)
from nsd_prep.core.atomic import write_json
from nsd_prep.core.errors import InputFileError, MissingFilesError
from nsd_prep.dataset.space import FUNC1PT8MM

INDEX_FILE: Final = "index.json"

PackagedKind = Literal["assembly", "stimulus table", "stimulus images"]

# The plugin is written from the index, and the index may come from anywhere.
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_Region = Annotated[str, StringConstraints(pattern=f"^{REGION_PATTERN}$")]
_Subject = Annotated[str, StringConstraints(pattern=f"^{SUBJECT_PATTERN}$")]
_SHA1 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")]


_FILE_NAMES: Final[Mapping[PackagedKind, str]] = MappingProxyType(
    {
        "assembly": "assy_{}.nc",
        "stimulus table": "stimulus_{}.csv",
        "stimulus images": "stimulus_{}.zip",
    }
)


def file_name(kind: PackagedKind, identifier: str) -> str:
    """Return the name of a packaged file, as Brain-Score expects it."""
    return _FILE_NAMES[kind].format(identifier)


class PackagedFile(BaseModel):
    """A file of a package.

    ``version_id`` tells which version of the object it is in the bucket; None before it is
    uploaded, and where the bucket keeps no versions.
    """

    model_config = ConfigDict(frozen=True)

    file: _Name
    kind: PackagedKind
    split: Split
    identifier: _Name
    content: str
    sha1: _SHA1
    bytes: int
    version_id: str | None = None


class PackageIndex(BaseModel):
    """What lies in a folder of packages.

    Attributes
    ----------
    dataset : str
        ``NSD``, or the name of what the data were made from instead.
    checks : dict of str to int, or None
        Number of the run's checks by verdict; None where neither the checks nor the digests of the
        run were looked at.
    space : str
        Where responses lie; in files it stands only where that is not func1pt8mm.
    subjects, regions : tuple of str
        In the order of the neuroids.
    presentations : dict of str to int
        Rows of the train and of the test assembly.
    neuroids : int
        Columns of both.
    location : str or None
        ``BUCKET/PREFIX`` of the objects; None before they are uploaded.
    files : tuple of PackagedFile
        In a fixed order.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    checks: dict[str, int] | None
    space: _Name = FUNC1PT8MM
    subjects: tuple[_Subject, ...]
    regions: tuple[_Region, ...]
    presentations: dict[Split, int]
    neuroids: int
    location: str | None = None
    files: tuple[PackagedFile, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        kinds = sorted((packaged.kind, packaged.split) for packaged in self.files)
        if kinds != sorted((kind, split) for kind in get_args(PackagedKind) for split in SPLITS):
            raise ValueError("files: expected one of each kind and half")
        base_name(self.dataset)
        return self

    @model_serializer(mode="wrap")
    def _without_usual_space(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        if self.space == FUNC1PT8MM:
            del fields["space"]
        return fields

    @computed_field  # type: ignore[prop-decorator]
    @property
    def registry_prefix(self) -> str:
        """What the registry entries begin with."""
        return registry_prefix(self.dataset, self.subjects, self.space)

    @property
    def stimuli_prefix(self) -> str:
        """What the registry entries of the stimulus sets begin with, whatever the space."""
        return registry_prefix(self.dataset, self.subjects)

    @property
    def is_nsd(self) -> bool:
        """Whether the data were made from NSD itself."""
        return self.dataset == NSD

    def file(self, kind: PackagedKind, split: Split) -> PackagedFile:
        """Return the file of a kind and a half."""
        return next(
            packaged for packaged in self.files if (packaged.kind, packaged.split) == (kind, split)
        )

    def uploaded_as(self, earlier: "PackageIndex") -> "PackageIndex":
        """Return this index with where the same files were uploaded, as an earlier one says."""
        if [(own.file, own.sha1) for own in self.files] != [
            (its.file, its.sha1) for its in earlier.files
        ]:
            return self
        return self.model_copy(update={"location": earlier.location, "files": earlier.files})

    def write(self, folder: Path) -> None:
        """Write the index to a folder of packages."""
        write_json(folder / INDEX_FILE, self.model_dump())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the index of a folder of packages; InputFileError where it is none."""
        path = folder / INDEX_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise MissingFilesError(
                f"{path} is missing: expected the index of the packages there; create them first "
                "with nsd-prep package."
            ) from error
        except ValidationError as error:
            raise InputFileError(
                f"{path} is not an index of packages ({error.error_count()} invalid entries): "
                "create the packages again with nsd-prep package."
            ) from error


def sha1_of_file(path: Path) -> str:
    """Return the SHA-1 of a file's bytes, in 40 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def is_whole(packages: Path, packaged: PackagedFile) -> bool:
    """Return whether a packaged file is there with the bytes that were written."""
    try:
        return sha1_of_file(packages / packaged.file) == packaged.sha1
    except OSError:
        return False
