"""Packages: the files that Brain-Score loads, told apart by the SHA-1 of their bytes."""

import hashlib
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Self

import pandas as pd
import xarray as xr
from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    computed_field,
    model_validator,
)

from nsd_prep.assembly import read_assembly, write_assembly
from nsd_prep.brainscore.identifiers import (
    NSD,
    REGION_PATTERN,
    SPLITS,
    STIMULUS_PATTERN,
    SUBJECT_PATTERN,
    Split,
    assembly_file,
    assembly_identifier,
    base_name,
    registry_prefix,
    stimulus_folder,
    stimulus_metadata_file,
    stimulus_set_identifier,
)
from nsd_prep.brainscore.provenance import verified_checks
from nsd_prep.errors import InputFileError, MissingFilesError
from nsd_prep.files import read_table, write_json, write_text, written_whole

INDEX_FILE: Final = "index.json"
#: A date that says nothing: the earliest that a zip can hold.
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_COMPRESSION_LEVEL: Final = 4
#: Chunks of at most 1 MiB, HDF5's chunk cache.
_CHUNK: Final = (64, 4096, 1)

Kind = Literal["assembly", "stimulus table", "stimulus images"]
KINDS: Final[tuple[Kind, ...]] = ("assembly", "stimulus table", "stimulus images")

# The plugin is written from the index, and the index may come from anywhere.
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_Region = Annotated[str, StringConstraints(pattern=f"^{REGION_PATTERN}$")]
_Subject = Annotated[str, StringConstraints(pattern=f"^{SUBJECT_PATTERN}$")]
_SHA1 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")]


class PackagedFile(BaseModel):
    """A file of a package.

    Attributes
    ----------
    file : str
        Name within the folder of the packages.
    kind : {"assembly", "stimulus table", "stimulus images"}
        What it is.
    split : {"train", "test"}
        Which half.
    identifier : str
        The identifier under which Brain-Score knows it.
    content : str
        What it holds, in words.
    sha1 : str
        40 hexadecimal digits.
    bytes : int
        Size.
    version_id : str or None
        Which version of the object it is in the bucket; None before it is uploaded, and where the
        bucket keeps no versions.
    """

    model_config = ConfigDict(frozen=True)

    file: _Name
    kind: Kind
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
    subjects: tuple[_Subject, ...]
    regions: tuple[_Region, ...]
    presentations: dict[Split, int]
    neuroids: int
    location: str | None = None
    files: tuple[PackagedFile, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        found = sorted((one.kind, one.split) for one in self.files)
        if found != sorted((kind, split) for kind in KINDS for split in SPLITS):
            raise ValueError("files: expected one of each kind and half")
        base_name(self.dataset)
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def registry_prefix(self) -> str:
        """What the registry entries begin with."""
        return registry_prefix(self.dataset, self.subjects)

    @property
    def is_nsd(self) -> bool:
        """Whether the data were made from NSD itself."""
        return self.dataset == NSD

    def file(self, kind: Kind, split: Split) -> PackagedFile:
        """Return the file of a kind and a half."""
        return next(one for one in self.files if (one.kind, one.split) == (kind, split))

    def write(self, folder: Path) -> None:
        """Write the index to a folder of packages."""
        write_json(folder / INDEX_FILE, self.model_dump())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the index of a folder of packages.

        Raises
        ------
        MissingFilesError
            There is none.
        InputFileError
            It is not one.
        """
        path = folder / INDEX_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise MissingFilesError(
                f"{path} is missing: expected the index of the packages there; make them first, "
                "with nsd-prep package."
            ) from error
        except ValidationError as error:
            raise InputFileError(
                f"{path} is not an index of packages ({error.error_count()} entries are not as "
                "they should be): make the packages again, with nsd-prep package."
            ) from error


class _Half(NamedTuple):
    """The train or the test half of what a run wrote for Brain-Score."""

    split: Split
    assembly: xr.DataArray
    image_files: dict[str, Path]  # by stimulus_id, in the order of the table
    table: pd.DataFrame


def write_packages(
    folder: Path, target: Path, *, suffix: str = "", unchecked: bool = False
) -> PackageIndex:
    """Package what a run wrote for Brain-Score.

    Writes ``assy_IDENTIFIER.nc``, ``stimulus_IDENTIFIER.csv`` and ``stimulus_IDENTIFIER.zip`` of
    train and test, and last ``index.json``. The same inputs give the same bytes with the same
    versions of the libraries.

    Parameters
    ----------
    folder : Path
        ``OUT/brainscore`` of a run.
    target : Path
        Where the packages go.
    suffix : str
        What the run put before the extension of its files.
    unchecked : bool
        Package without a look at the run's manifest and checks; the index then says so.

    Returns
    -------
    PackageIndex
        What was written.

    Raises
    ------
    MissingFilesError
        The run left no assemblies, stimulus sets or manifest, or images are missing.
    InputFileError
        A file is not the one that the manifest lists; a check of the run failed; a stimulus set is
        not that of its assembly; a name cannot be part of a plugin.
    """
    _require(folder, suffix)
    halves = [_read_half(folder, split, suffix) for split in SPLITS]
    dataset, subjects, regions = _require_same_neuroids(folder, halves)
    checks = None
    if not unchecked:
        sources = [
            path
            for half in halves
            for path in (
                assembly_file(folder, half.split, suffix),
                stimulus_metadata_file(folder, half.split, suffix),
                *half.image_files.values(),
            )
        ]
        checks = verified_checks(folder.parent, sources)
    files: list[PackagedFile] = []
    for half in halves:
        files += [
            _package_assembly(half, dataset, subjects, target),
            *_package_stimuli(half, dataset, subjects, target),
        ]
    index = PackageIndex(
        dataset=dataset,
        checks=checks,
        subjects=subjects,
        regions=regions,
        presentations={half.split: half.assembly.sizes["presentation"] for half in halves},
        neuroids=halves[0].assembly.sizes["neuroid"],
        files=tuple(files),
    )
    index.write(target)
    return index


def fill_local_cache(packages: Path, cache: Path) -> list[Path]:
    """Put packages where Brain-Score looks before it asks any bucket.

    Parameters
    ----------
    packages : Path
        A folder as `write_packages` leaves it.
    cache : Path
        What the environment variable ``BRAINIO_HOME`` names.

    Returns
    -------
    list of Path
        The copies, ``CACHE/SHA1/FILE``.
    """
    copies = []
    for one in PackageIndex.read(packages).files:
        path = cache / one.sha1 / one.file
        with written_whole(path) as partial:
            shutil.copyfile(packages / one.file, partial)
        copies.append(path)
    return copies


def sha1_of_file(path: Path) -> str:
    """Return the SHA-1 of a file's bytes, in 40 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def is_whole(packages: Path, one: PackagedFile) -> bool:
    """Return whether a packaged file is there with the bytes that were written."""
    try:
        return sha1_of_file(packages / one.file) == one.sha1
    except OSError:
        return False


def _require(folder: Path, suffix: str) -> None:
    """Raise one error that names all that a package would lack."""
    missing = [
        path
        for split in SPLITS
        for path in (
            assembly_file(folder, split, suffix),
            stimulus_metadata_file(folder, split, suffix),
        )
        if not path.is_file()
    ]
    if missing:
        raise MissingFilesError(
            f"The folder {folder} is not ready to be packaged: expected "
            f"{', '.join(path.name for path in missing)}, found none of this name; run "
            "the flow without --no-brainscore and with NSD's stimulus file, and give the same "
            "--suffix."
        )


def _read_half(folder: Path, split: Split, suffix: str) -> _Half:
    """Read an assembly and its stimulus set, and require that they belong together."""
    path = stimulus_metadata_file(folder, split, suffix)
    assembly, table = read_assembly(assembly_file(folder, split, suffix)), read_table(path)
    in_assembly = list(dict.fromkeys(assembly["stimulus_id"].to_numpy().tolist()))
    in_table = table["stimulus_id"].astype(str).tolist()
    if in_assembly != in_table:
        raise InputFileError(
            f"The stimulus table {path} is not that of the {split} assembly: expected its "
            f"{len(in_assembly)} images in its order, found {len(in_table)} images of which "
            f"{len(set(in_table) & set(in_assembly))} are in it; run the flow again."
        )
    names = table["image_file_name"].astype(str).tolist()
    for stimulus_id, name in zip(in_table, names, strict=True):
        # They become names in a zip, and paths of files to read.
        allowed = (f"{stimulus_id}.png", f"{stimulus_id}.jpg")
        if not re.fullmatch(STIMULUS_PATTERN, stimulus_id) or name not in allowed:
            raise InputFileError(
                f"The stimulus table {path} names the image {stimulus_id!r} with the file "
                f"{name!r}: expected nsd_ with five digits, and the same with .png or .jpg; run "
                "the flow again."
            )
    images = {
        stimulus_id: stimulus_folder(folder, split) / name
        for stimulus_id, name in zip(in_table, names, strict=True)
    }
    missing = [image for image in images.values() if not image.is_file()]
    if missing:
        raise MissingFilesError(
            f"{len(missing)} of {len(images)} images of the {split} stimulus set are missing, "
            f"{missing[0]} first: run the flow again."
        )
    return _Half(split, assembly, images, table)


def _require_same_neuroids(
    folder: Path, halves: Sequence[_Half]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return dataset, subjects and regions of both halves, after a look at every name."""
    train, test = (half.assembly for half in halves)
    if train["neuroid_id"].to_numpy().tolist() != test["neuroid_id"].to_numpy().tolist() or (
        train.attrs.get("dataset") != test.attrs.get("dataset")
    ):
        raise InputFileError(
            f"The assemblies in {folder} are of different runs: expected the same dataset and "
            "neuroids in train and test; run the flow again."
        )
    dataset = train.attrs.get("dataset")
    if not isinstance(dataset, str):
        raise InputFileError(
            f"The assemblies in {folder} do not name the dataset that they were made from: "
            "expected an attribute 'dataset'; run the flow again."
        )
    base_name(dataset)
    names: dict[str, tuple[str, ...]] = {}
    for what, pattern in (("subject", SUBJECT_PATTERN), ("region", REGION_PATTERN)):
        names[what] = tuple(dict.fromkeys(map(str, train[what].to_numpy().tolist())))
        strange = [name for name in names[what] if not re.fullmatch(pattern, name)]
        if strange:
            raise InputFileError(
                f"The assemblies in {folder} hold a {what} {strange[0]!r}, which cannot be part "
                "of a plugin: expected letters, digits, dashes and underscores; run the flow again."
            )
    return dataset, names["subject"], names["region"]


def _package_assembly(
    half: _Half, dataset: str, subjects: Sequence[str], target: Path
) -> PackagedFile:
    split = half.split
    identifier = assembly_identifier(dataset, subjects, split)
    packaged = half.assembly.assign_attrs(
        stimulus_set_identifier=stimulus_set_identifier(dataset, subjects, split)
    )
    path = target / f"assy_{_file_name(identifier)}.nc"
    chunk = tuple(min(size, most) for size, most in zip(packaged.shape, _CHUNK, strict=True))
    write_assembly(
        packaged, path, {"zlib": True, "complevel": _COMPRESSION_LEVEL, "chunksizes": chunk}
    )
    rows = {
        "train": "repetition-averaged responses to the train images",
        "test": "single-trial responses to the test images, three rows each",
    }[split]
    return _packaged(path, "assembly", split, identifier, f"NeuroidAssembly: {rows}", dataset)


def _package_stimuli(
    half: _Half, dataset: str, subjects: Sequence[str], target: Path
) -> list[PackagedFile]:
    split = half.split
    identifier = stimulus_set_identifier(dataset, subjects, split)
    csv_path = target / f"stimulus_{_file_name(identifier)}.csv"
    names = half.table["image_file_name"]
    packaged = half.table[["stimulus_id", "nsd_id"]].assign(filename=names)
    write_text(csv_path, packaged.to_csv(index=False, lineterminator="\n"))
    zip_path = csv_path.with_suffix(".zip")
    with written_whole(zip_path) as partial, zipfile.ZipFile(partial, "w") as archive:
        if dataset != NSD:
            archive.comment = f"{dataset}, not NSD".encode()
        for source in half.image_files.values():
            entry = zipfile.ZipInfo(source.name, date_time=_ZIP_DATE)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, source.read_bytes())
    n_images = f"{len(names)} images"
    table = f"StimulusSet: {n_images}"
    return [
        _packaged(csv_path, "stimulus table", split, identifier, table, dataset),
        _packaged(zip_path, "stimulus images", split, identifier, n_images, dataset),
    ]


def _packaged(
    path: Path, kind: Kind, split: Split, identifier: str, content: str, dataset: str
) -> PackagedFile:
    return PackagedFile(
        file=path.name,
        kind=kind,
        split=split,
        identifier=identifier,
        content=content if dataset == NSD else f"{content} ({dataset}, not NSD)",
        sha1=sha1_of_file(path),
        bytes=path.stat().st_size,
    )


def _file_name(identifier: str) -> str:
    return identifier.replace(".", "_")
