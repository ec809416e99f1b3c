"""Packages: the files that Brain-Score loads, told apart by the SHA-1 of their bytes."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from nsd_prep.assemblies.assembly_file import read_assembly, write_assembly
from nsd_prep.assemblies.brainscore.index import (
    INDEX_FILE,
    PackagedFile,
    PackagedKind,
    PackageIndex,
    file_name,
    is_whole,
    sha1_of_file,
)
from nsd_prep.assemblies.brainscore.plugin import PLUGIN_FOLDER, remove_plugin, write_plugin
from nsd_prep.assemblies.brainscore.provenance import verified_checks
from nsd_prep.assemblies.identifiers import (
    NSD,
    REGION_PATTERN,
    SPLITS,
    STIMULUS_PATTERN,
    SUBJECT_PATTERN,
    Split,
    assembly_identifier,
    base_name,
    packaged_assembly_file,
    stimulus_folder,
    stimulus_metadata_file,
    stimulus_set_identifier,
)
from nsd_prep.core.atomic import write_table, written_whole
from nsd_prep.core.counts import counted
from nsd_prep.core.digests import read_table
from nsd_prep.core.errors import InputFileError, MissingFilesError, OutputError
from nsd_prep.core.folders import require_folder
from nsd_prep.core.progress import current_stage
from nsd_prep.core.records import Folder
from nsd_prep.dataset.space import FSAVERAGE, FUNC1PT8MM

#: A date that says nothing: the earliest that a zip can hold.
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_COMPRESSION_LEVEL: Final = 4
#: Chunks of at most 1 MiB, HDF5's chunk cache.
_CHUNK: Final = (64, 4096, 1)
_TABLE_COLUMNS: Final = ["stimulus_id", "nsd_id", "image_file_name"]
_ROWS: Final = {
    "train": "repetition-averaged responses to the train images",
    "test": "single-trial responses to the test images, three rows each",
}


class _Half(NamedTuple):
    """The train or the test half of what a run wrote for Brain-Score."""

    split: Split
    files: tuple[Path, Path]  # of the assembly, and of the table
    assembly: xr.DataArray
    table: pd.DataFrame
    images: list[Path]  # in the order of the table


def package_output(
    output: Path,
    target: Path,
    *,
    suffix: str = "",
    unchecked: bool = False,
    replace: bool = False,
) -> PackageIndex:
    """Write the packages of a run's output folder, and their plugin, into another folder.

    A folder brainscore-ID, which was kept from an earlier run, is taken as it is. Errors are those
    of `write_packages`.
    """
    folder = output / "brainscore"
    if not folder.is_dir() and output.resolve().name.startswith("brainscore-"):
        folder = output
    index = write_packages(folder, target, suffix=suffix, unchecked=unchecked, replace=replace)
    write_plugin(index, target / PLUGIN_FOLDER)
    return index


def packages_folder(output: Path, suffix: str) -> Path:
    """Return where the packages of an output folder go, in it; errors as `require_folder`."""
    folder = output / f"packages{suffix}"
    require_folder(folder, "packaging", "give another as target=")
    return folder


def write_packages(
    folder: Path,
    target: Path,
    *,
    suffix: str = "",
    unchecked: bool = False,
    replace: bool = False,
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
    replace : bool
        Replace packages that hold more than these do, or other data.

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
    OutputError
        `target` holds packages of which something would be lost, or an index of something else.
    """
    space = _space_of_assemblies(folder, suffix)
    paths = {
        split: (
            packaged_assembly_file(folder, split, suffix, space),
            stimulus_metadata_file(folder, split, suffix),
        )
        for split in SPLITS
    }
    if not folder.is_dir():
        raise MissingFilesError(
            f"There is no folder {folder}: expected what a run without brainscore=False "
            "and assemblies=False writes into its output folder; give that run's folder."
        )
    missing = [path.name for pair in paths.values() for path in pair if not path.is_file()]
    if missing:
        raise MissingFilesError(
            f"The folder {folder} is not ready to be packaged: expected {', '.join(missing)}, "
            "found no such file; run the flow without brainscore=False and with NSD's stimulus "
            "file, and give the same suffix=."
        )
    _require_own(folder, [path for pair in paths.values() for path in pair])
    halves = [_read_half(folder, split, pair) for split, pair in paths.items()]
    dataset, subjects, regions = _common_names(folder, *(half.assembly for half in halves))
    space = str(halves[0].assembly.attrs.get("space", FUNC1PT8MM))
    earlier = _index_in(target, replace=replace)
    if earlier is not None and not replace:
        _require_nothing_lost(target, earlier, dataset, space, subjects, regions)
    sources = [path for half in halves for path in (*half.files, *half.images)]
    checks = None if unchecked else verified_checks(folder.parent, sources)
    current_stage().total = sum(1 + len(half.images) for half in halves)
    files = [
        file for half in halves for file in _package_half(half, dataset, subjects, space, target)
    ]
    index = PackageIndex(
        dataset=dataset,
        checks=checks,
        space=space,
        subjects=subjects,
        regions=regions,
        presentations={half.split: half.assembly.sizes["presentation"] for half in halves},
        neuroids=halves[0].assembly.sizes["neuroid"],
        files=tuple(files),
    )
    if earlier is not None:
        index = index.uploaded_as(earlier)
    index.write(target)
    if earlier is not None:
        _remove_replaced(target, earlier, index)
    return index


def _index_in(target: Path, *, replace: bool) -> PackageIndex | None:
    """Return the index of the packages that a folder holds, if it does.

    OutputError where it holds an index of something else, which is not to be replaced.
    """
    try:
        return PackageIndex.read(target)
    except MissingFilesError:
        return None
    except InputFileError as error:
        if replace:
            return None
        raise OutputError(
            f"{target} holds an {INDEX_FILE} that is no index of packages: expected none, or that "
            "of earlier packages; give another folder with target=, or replace it with "
            "replace=True."
        ) from error


def _remove_replaced(target: Path, earlier: PackageIndex, index: PackageIndex) -> None:
    """Remove packages of an earlier index, and their plugin, that others with new names replace.

    What is not as it was written stays, and so does a file that has not the name of a package:
    the earlier index may come from anywhere.
    """
    kept = {packaged.file for packaged in index.files}
    for packaged in earlier.files:
        is_package = packaged.file == file_name(packaged.kind, packaged.identifier)
        if is_package and packaged.file not in kept and is_whole(target, packaged):
            (target / packaged.file).unlink()
    if earlier.registry_prefix != index.registry_prefix:
        remove_plugin(earlier, target / PLUGIN_FOLDER)


def _require_nothing_lost(
    target: Path,
    there: PackageIndex,
    dataset: str,
    space: str,
    subjects: Sequence[str],
    regions: Sequence[str],
) -> None:
    """Raise OutputError where a folder's packages hold what those to be written do not."""
    is_other = (there.dataset, there.space) != (dataset, space)
    if (
        is_other
        or not set(subjects) >= set(there.subjects)
        or not set(regions) >= set(there.regions)
    ):
        raise OutputError(
            f"{target} holds packages of {_described(there.dataset, there.space, there.subjects)} "
            f"in {' '.join(there.regions)}, and this run's are of "
            f"{_described(dataset, space, subjects)} in {' '.join(regions)}: give another folder "
            "with target=, or replace them with replace=True."
        )


def _described(dataset: str, space: str, subjects: Sequence[str]) -> str:
    return f"{dataset} ({space}), {' '.join(subjects)},"


def _space_of_assemblies(folder: Path, suffix: str) -> str:
    """Return a space whose train and test assemblies a folder holds, as their names tell.

    A volume where it holds neither; InputFileError where it holds both.
    """
    spaces = [
        space
        for space in (FUNC1PT8MM, FSAVERAGE)
        if packaged_assembly_file(folder, "train", suffix, space).is_file()
    ]
    if len(spaces) > 1:
        raise InputFileError(
            f"The folder {folder} holds assemblies of a volume and of surfaces: expected those of "
            "one run, whose stimulus sets are beside them; run the flow again into another folder "
            "for each."
        )
    return spaces[0] if spaces else FUNC1PT8MM


def _read_half(folder: Path, split: Split, files: tuple[Path, Path]) -> _Half:
    """Read an assembly and its stimulus set, and require that they belong together."""
    assembly, table = read_assembly(files[0]), read_table(files[1])
    shown = list(dict.fromkeys(map(str, assembly["stimulus_id"].to_numpy().tolist())))
    if table.columns.tolist() != _TABLE_COLUMNS or table["stimulus_id"].tolist() != shown:
        raise InputFileError(
            f"The stimulus table {files[1]} is not that of the {split} assembly: expected the "
            f"columns {', '.join(_TABLE_COLUMNS)} and its {len(shown)} images in its order, found "
            f"{', '.join(table.columns)} and {len(table)} images; run the flow again."
        )
    for row in table.itertuples():
        # They become names in a zip, and paths of files to read.
        allowed = (f"{row.stimulus_id}.png", f"{row.stimulus_id}.jpg")
        if (
            not re.fullmatch(STIMULUS_PATTERN, row.stimulus_id)
            or row.stimulus_id != f"nsd_{row.nsd_id:05}"
            or row.image_file_name not in allowed
        ):
            raise InputFileError(
                f"The stimulus table {files[1]} names the image {row.stimulus_id!r} with the id "
                f"{row.nsd_id!r} and the file {row.image_file_name!r}: expected nsd_ with the id "
                "in five digits, and the same with .png or .jpg; run the flow again."
            )
    images = [stimulus_folder(folder, split) / name for name in table["image_file_name"]]
    missing = [image for image in images if not image.is_file()]
    if missing:
        raise MissingFilesError(
            f"{len(missing)} of {len(images)} images of the {split} stimulus set are missing, "
            f"{missing[0]} first: run the flow again."
        )
    _require_own(folder, images)
    return _Half(split, files, assembly, table, images)


def _require_own(folder: Path, paths: Sequence[Path]) -> None:
    """Raise InputFileError where a file is a link: what it leads to would be given out."""
    own = Folder(path=folder)
    links = [path for path in paths if not own.is_own(path.relative_to(folder).as_posix())]
    if links:
        one, several = "is a link, or lies behind one", "are links, or lie behind one"
        found = counted(len(links), f"file that {one}", f"files that {several}")
        raise InputFileError(
            f"{folder} holds {found}, {links[0]} first: expected the files that a run wrote; run "
            "the flow again, or put copies in their place."
        )


def _common_names(
    folder: Path, train: xr.DataArray, test: xr.DataArray
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return dataset, subjects and regions of both assemblies, after a look at every name."""
    dataset = train.attrs.get("dataset")
    if (
        dataset != test.attrs.get("dataset")
        or not all(
            np.array_equal(train[name], test[name]) for name in ("neuroid_id", "subject", "region")
        )
        or train.attrs.get("space") != test.attrs.get("space")
    ):
        raise InputFileError(
            f"The assemblies in {folder} are of different runs: expected the same dataset, space "
            "and neuroids in train and test; run the flow again."
        )
    if not isinstance(dataset, str):
        raise InputFileError(
            f"The assemblies in {folder} do not name the dataset that they were made from: "
            "expected an attribute 'dataset'; run the flow again."
        )
    base_name(dataset)
    names = []
    for what, pattern in (("subject", SUBJECT_PATTERN), ("region", REGION_PATTERN)):
        names.append(tuple(dict.fromkeys(map(str, train[what].to_numpy().tolist()))))
        strange = [name for name in names[-1] if not re.fullmatch(pattern, name)]
        if strange:
            raise InputFileError(
                f"The assemblies in {folder} hold a {what} {strange[0]!r}, which cannot be part "
                "of a plugin: expected letters, digits, dashes and underscores; run the flow again."
            )
    return dataset, names[0], names[1]


def _package_half(
    half: _Half, dataset: str, subjects: Sequence[str], space: str, target: Path
) -> list[PackagedFile]:
    assembly_id = assembly_identifier(dataset, subjects, half.split, space)
    stimuli_id = stimulus_set_identifier(dataset, subjects, half.split)
    nc_path = target / file_name("assembly", assembly_id)
    csv_path = target / file_name("stimulus table", stimuli_id)
    zip_path = target / file_name("stimulus images", stimuli_id)

    packaged = half.assembly.assign_attrs(stimulus_set_identifier=stimuli_id)
    chunk = tuple(min(size, most) for size, most in zip(packaged.shape, _CHUNK, strict=True))
    write_assembly(
        packaged, nc_path, {"zlib": True, "complevel": _COMPRESSION_LEVEL, "chunksizes": chunk}
    )
    stage = current_stage()
    stage.advance()
    table = half.table.rename(columns={"image_file_name": "filename"})
    write_table(csv_path, table)
    with written_whole(zip_path) as partial, zipfile.ZipFile(partial, "w") as archive:
        if dataset != NSD:
            archive.comment = f"{dataset}, not NSD".encode()
        for image in half.images:
            entry = zipfile.ZipInfo(image.name, date_time=_ZIP_DATE)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, image.read_bytes())
            stage.advance()

    n_images = counted(len(table), "image")
    written: tuple[tuple[Path, PackagedKind, str, str], ...] = (
        (nc_path, "assembly", assembly_id, f"NeuroidAssembly: {_ROWS[half.split]}"),
        (csv_path, "stimulus table", stimuli_id, f"StimulusSet: {n_images}"),
        (zip_path, "stimulus images", stimuli_id, n_images),
    )
    return [
        PackagedFile(
            file=path.name,
            kind=kind,
            split=half.split,
            identifier=identifier,
            content=content if dataset == NSD else f"{content} ({dataset}, not NSD)",
            sha1=sha1_of_file(path),
            bytes=path.stat().st_size,
        )
        for path, kind, identifier, content in written
    ]
