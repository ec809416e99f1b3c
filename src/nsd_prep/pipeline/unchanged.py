"""Whether a run has anything to do: told by the manifest of the run before, without its libraries.

What is imported here is there in a second.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import nsd_prep
from nsd_prep.core.check_table import read_checks
from nsd_prep.core.digests import digest_of_bytes, digest_of_json, read_whole
from nsd_prep.core.file_states import are_as_noted
from nsd_prep.core.folders import absolute
from nsd_prep.core.records import Digested
from nsd_prep.core.threads import each_in_threads
from nsd_prep.core.versions import software_versions
from nsd_prep.pipeline import outputs
from nsd_prep.pipeline.earlier import UNFINISHED
from nsd_prep.pipeline.locks import only_run_in
from nsd_prep.pipeline.summary import Summary

_PATHS: Final = (
    "nsd_root",
    "output_dir",
    "regions_file",
    "cache_dir",
    "features",
    "split_file",
    "coco_annotations",
)
#: Parameters with which a run always looks at everything: files that are not noted, and a cache
#: that is to be filled.
_ALWAYS: Final = ("refresh", "check", "keep_voxels", "coco_annotations")


class ShownTable(BaseModel):
    """A table of a summary."""

    model_config = ConfigDict(frozen=True)

    title: str
    columns: list[str]
    rows: list[list[str]]

    @model_validator(mode="after")
    def _check_rows(self) -> "ShownTable":
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row has another number of cells than there are columns")
        return self

    @classmethod
    def of(cls, title: str, table: pd.DataFrame) -> "ShownTable":
        """Return the record of a table of texts."""
        rows = table.astype(str).to_numpy(dtype=object).tolist()
        return cls(title=title, columns=list(table.columns), rows=rows)

    def as_frame(self) -> pd.DataFrame:
        """Return the table."""
        return pd.DataFrame(self.rows, columns=self.columns)


class State(BaseModel):
    """What a run was made from and what it showed, as its manifest keeps it.

    Attributes
    ----------
    parameters : dict
        As they were given: `given_parameters`.
    code : str
        `digest_of_code`.
    libraries : str
        `digest_of_libraries`.
    files : dict of str to dict
        What was noted of files: `nsd_prep.core.file_states.FileStates`.
    tables : list of ShownTable
        Of the summary.
    remarks : list of str
        Of the summary.
    """

    model_config = ConfigDict(frozen=True)

    parameters: dict[str, Any]
    code: str
    libraries: str
    files: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tables: list[ShownTable] = Field(default_factory=list)
    remarks: list[str] = Field(default_factory=list)

    @classmethod
    def at_begin(cls, parameters: Mapping[str, Any]) -> "State":
        """Return what is known when a run begins."""
        return cls(
            parameters=given_parameters(parameters),
            code=digest_of_code(),
            libraries=digest_of_libraries(),
        )

    def at_end(
        self,
        files: dict[str, dict[str, Any]],
        tables: Sequence[tuple[str, pd.DataFrame]],
        remarks: Sequence[str],
    ) -> "State":
        """Return it with what was noted of files, and what the summary shows."""
        shown = [ShownTable.of(*table) for table in tables]
        return self.model_copy(update={"files": files, "tables": shown, "remarks": list(remarks)})


class _Output(Digested):
    bytes: int
    run: str


class _Images(BaseModel):
    number: int


class _Manifest(BaseModel):
    id: str
    software: dict[str, str]
    written: str
    images: _Images
    outputs: dict[str, _Output]
    state: State


@dataclass(frozen=True)
class UnchangedRun:
    """A run that has ended, whose results are what the same run would make now.

    Attributes
    ----------
    output_dir : Path
        The output folder.
    written : str
        When it ended.
    n_images : int
        How many images the subjects share, each seen three times by all.
    files : dict of str to str
        Digest of what it made, by name in the output folder.
    checks : DataFrame
        What was checked, as in ``checks.csv``.
    """

    output_dir: Path
    written: str
    n_images: int
    files: dict[str, str]
    checks: pd.DataFrame
    _state: State

    @property
    def sentence(self) -> str:
        """What people are told."""
        return (
            f"Nothing has changed since the run of {self.written.replace('T', ' ')}: its files are "
            "as it wrote them."
        )

    def summary(self, seconds: float) -> Summary:
        """Return what the run showed at its end.

        Parameters
        ----------
        seconds : float
            How long it took to find out that nothing has changed.
        """
        return Summary(
            self.output_dir,
            str(self._state.parameters["suffix"]),
            [(table.title, table.as_frame()) for table in self._state.tables],
            self._state.remarks,
            self.files,
            self.checks,
            seconds,
        )


def unchanged_run(parameters: Mapping[str, Any]) -> UnchangedRun | None:
    """Return the last run into an output folder where the same one would make the same again.

    That is where parameters, libraries and the code of this one are the same; each small input file
    has its content, each large one its size and times, and no file has come or gone that was looked
    for; and each file that the manifest lists is whole.

    Parameters
    ----------
    parameters : mapping
        As `nsd_prep.core.parameters.parameters` returns them.

    Returns
    -------
    UnchangedRun or None
        None where something is not the same or cannot be told, as of a dataset at an address or
        COCO's annotations; where the run is to refresh or only to check; and where it is to fill a
        cache (``keep_voxels``).

    Raises
    ------
    ParameterError
        Another run is writing into the folder, or a path cannot be used.
    """
    if any(parameters[name] for name in _ALWAYS):
        return None
    folder = outputs.OutputFolder(path=absolute(parameters["output_dir"]))
    if not folder.is_own(outputs.MANIFEST):
        return None
    with only_run_in(folder.path):
        return _unchanged_run(given_parameters(parameters), folder)


def _unchanged_run(stated: dict[str, Any], folder: outputs.OutputFolder) -> UnchangedRun | None:
    try:
        manifest = _Manifest.model_validate_json(read_whole(folder.path / outputs.MANIFEST))
    except (OSError, ValidationError):  # gone, of an earlier version, or of a remote dataset
        return None
    state = manifest.state
    is_same = (
        state.parameters == stated
        and manifest.software == software_versions()
        and not (folder.path / UNFINISHED).exists()
        and state.libraries == digest_of_libraries()
        and state.code == digest_of_code()
        and are_as_noted(state.files)
        and all(each_in_threads(folder.holds, _in_halves(manifest.outputs)))
    )
    files = {
        name: output.file_digest
        for name, output in manifest.outputs.items()
        if output.run == manifest.id
    }
    if not is_same or outputs.CHECKS not in files:
        return None
    return UnchangedRun(
        folder.path,
        manifest.written,
        manifest.images.number,
        files,
        read_checks(folder.path / outputs.CHECKS),
        state,
    )


def _in_halves(outputs: Mapping[str, _Output]) -> list[dict[str, str]]:
    """Return the digests of files in two parts with about as many bytes, a store in one of them."""
    halves: list[dict[str, str]] = [{}, {}]
    sizes = [0, 0]
    half_of_store: dict[str, int] = {}
    for name, output in sorted(outputs.items(), key=lambda item: -item[1].bytes):
        store = name[: name.index(".zarr/")] if ".zarr/" in name else name
        half = half_of_store.setdefault(store, sizes.index(min(sizes)))
        halves[half][name] = output.file_digest
        sizes[half] += output.bytes
    return halves


def given_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as a manifest keeps them: absolute paths, and not whether to refresh."""
    stated = {name: value for name, value in parameters.items() if name != "refresh"}
    for name in _PATHS:
        if stated[name] and "://" not in str(stated[name]):
            stated[name] = str(absolute(stated[name]))
    values: dict[str, Any] = json.loads(json.dumps(stated))
    return values


def digest_of_code() -> str:
    """Return the digest of all files of this library, whose version alone may not tell."""
    root = Path(nsd_prep.__file__).parent
    paths = [
        Path(folder) / name
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if not name.endswith(".pyc")
    ]
    return digest_of_json(
        [
            [path.relative_to(root).as_posix(), digest_of_bytes(path.read_bytes())]
            for path in sorted(paths)
        ]
    )


def digest_of_libraries() -> str:
    """Return the digest of the names and versions of all that is installed.

    What a run makes depends on libraries that need not be there, too.
    """
    packages = {
        name
        for folder in map(Path, filter(None, sys.path))
        if folder.is_dir()
        for name in (path.name for path in folder.iterdir())
        if name.endswith((".dist-info", ".egg-info"))
    }
    return digest_of_json(sorted(packages))
