"""Packages: the files that Brain-Score loads, told apart by the SHA-1 of their bytes."""

import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

import pandas as pd
import xarray as xr
from pydantic import BaseModel, ConfigDict, ValidationError

from nsd_prep.assembly import read_assembly, write_assembly
from nsd_prep.brainscore.identifiers import (
    SPLITS,
    Split,
    assembly_file,
    assembly_identifier,
    registry_prefix,
    stimulus_folder,
    stimulus_metadata_file,
    stimulus_set_identifier,
)
from nsd_prep.brainscore.stimulus_sets import missing_pictures
from nsd_prep.errors import InputFileError, MissingFilesError
from nsd_prep.files import write_json, write_text, written_whole

INDEX_FILE: Final = "index.json"
#: A date that says nothing: the earliest that a zip can hold.
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_COMPRESSION_LEVEL: Final = 4
#: Chunks of at most 1 MiB, HDF5's chunk cache.
_CHUNK: Final = (64, 4096, 1)

Kind = Literal["assembly", "stimulus table", "stimulus images"]


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

    file: str
    kind: Kind
    split: Split
    identifier: str
    content: str
    sha1: str
    bytes: int
    version_id: str | None = None


class PackageIndex(BaseModel):
    """What lies in a folder of packages.

    Attributes
    ----------
    registry_prefix : str
        What the registry entries begin with.
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

    registry_prefix: str
    subjects: tuple[str, ...]
    regions: tuple[str, ...]
    presentations: dict[str, int]
    neuroids: int
    location: str | None = None
    files: tuple[PackagedFile, ...]

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


def write_packages(folder: Path, target: Path, *, suffix: str = "") -> PackageIndex:
    """Package what a run left for Brain-Score.

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

    Returns
    -------
    PackageIndex
        What was written.

    Raises
    ------
    MissingFilesError
        The run left no assemblies, or no stimulus sets, or images are missing.
    InputFileError
        A stimulus set is not that of its assembly.
    """
    _require(folder, suffix)
    files: list[PackagedFile] = []
    described: dict[str, Any] = {}
    for split in SPLITS:
        assembly = read_assembly(assembly_file(folder, split, suffix))
        table = pd.read_csv(stimulus_metadata_file(folder, split, suffix))
        _require_same_images(assembly, table, split, stimulus_metadata_file(folder, split, suffix))
        subjects = tuple(dict.fromkeys(assembly["subject"].to_numpy().tolist()))
        files += [
            _package_assembly(assembly, subjects, split, target),
            *_package_stimuli(table, stimulus_folder(folder, split), subjects, split, target),
        ]
        described |= {
            "registry_prefix": registry_prefix(subjects),
            "subjects": subjects,
            "regions": tuple(dict.fromkeys(assembly["region"].to_numpy().tolist())),
            "neuroids": assembly.sizes["neuroid"],
            "presentations": {
                **described.get("presentations", {}),
                split: assembly.sizes["presentation"],
            },
        }
    index = PackageIndex(files=tuple(files), **described)
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


def _require_same_images(
    assembly: xr.DataArray, table: pd.DataFrame, split: Split, path: Path
) -> None:
    in_assembly = list(dict.fromkeys(assembly["stimulus_id"].to_numpy().tolist()))
    in_table = table["stimulus_id"].tolist()
    if in_assembly != in_table:
        raise InputFileError(
            f"The stimulus table {path} is not that of the {split} assembly: expected its "
            f"{len(in_assembly)} images in its order, found {len(in_table)} images of which "
            f"{len(set(in_table) & set(in_assembly))} are in it; run the flow again."
        )


def _package_assembly(
    assembly: xr.DataArray, subjects: Sequence[str], split: Split, target: Path
) -> PackagedFile:
    identifier = assembly_identifier(subjects, split)
    packaged = assembly.assign_attrs(
        stimulus_set_identifier=stimulus_set_identifier(subjects, split)
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
    return _packaged(path, "assembly", split, identifier, f"NeuroidAssembly: {rows}")


def _package_stimuli(
    table: pd.DataFrame, pictures: Path, subjects: Sequence[str], split: Split, target: Path
) -> list[PackagedFile]:
    identifier = stimulus_set_identifier(subjects, split)
    sources = table["image_file_name"].tolist()
    missing = missing_pictures(pictures, sources)
    if missing:
        raise MissingFilesError(
            f"{len(missing)} of {len(sources)} images of the {split} stimulus set are missing, "
            f"{missing[0]} first: run the flow again."
        )
    names = [
        f"{stimulus_id}{Path(source).suffix}"
        for stimulus_id, source in zip(table["stimulus_id"], sources, strict=True)
    ]
    csv_path = target / f"stimulus_{_file_name(identifier)}.csv"
    packaged = table[["stimulus_id", "nsd_id"]].assign(filename=names)
    write_text(csv_path, packaged.to_csv(index=False, lineterminator="\n"))
    zip_path = csv_path.with_suffix(".zip")
    with written_whole(zip_path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, source in zip(names, sources, strict=True):
            entry = zipfile.ZipInfo(name, date_time=_ZIP_DATE)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, (pictures / source).read_bytes())
    n_images = f"{len(names)} images"
    return [
        _packaged(csv_path, "stimulus table", split, identifier, f"StimulusSet: {n_images}"),
        _packaged(zip_path, "stimulus images", split, identifier, n_images),
    ]


def _packaged(path: Path, kind: Kind, split: Split, identifier: str, content: str) -> PackagedFile:
    return PackagedFile(
        file=path.name,
        kind=kind,
        split=split,
        identifier=identifier,
        content=content,
        sha1=sha1_of_file(path),
        bytes=path.stat().st_size,
    )


def _file_name(identifier: str) -> str:
    return identifier.replace(".", "_")


def is_whole(packages: Path, one: PackagedFile) -> bool:
    """Return whether a packaged file is there with the bytes that were written.

    Parameters
    ----------
    packages : Path
        A folder as `write_packages` leaves it.
    one : PackagedFile
        Of its index.

    Returns
    -------
    bool
        False also where the file cannot be read.
    """
    try:
        return sha1_of_file(packages / one.file) == one.sha1
    except OSError:
        return False
