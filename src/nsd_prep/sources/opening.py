"""Opening a dataset: its source, its layout, and what it says of itself."""

import json
import reprlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    Strict,
    ValidationError,
)

from nsd_prep.core.errors import InputFileError, MissingFilesError, ParameterError
from nsd_prep.core.folders import MIRROR, user_cache
from nsd_prep.core.parameters import Preparation, SpaceName, SurfaceFiles
from nsd_prep.dataset import published
from nsd_prep.dataset.layout import DATASET_FOLDERS, DESCRIPTION_FILE, Dataset, Layout
from nsd_prep.dataset.published import DEFAULT_PREPARATION, PREPARATION_FOLDERS
from nsd_prep.dataset.source import Source
from nsd_prep.dataset.space import FUNC1PT8MM
from nsd_prep.sources.folder import FolderSource


def open_source(
    root: str | Path, mirror_folder: Path | None = None, *, accept_nsd_terms: bool | None = None
) -> Source:
    """Return the source that a dataset's root means; nothing is requested of a server yet.

    A folder, ``s3://BUCKET[/PREFIX]`` or ``http(s)://HOST[/PREFIX]``. Copies of a remote dataset's
    small files go into the mirror's folder.

    Raises
    ------
    ParameterError
        The URL is of another kind, or NSD's terms were not accepted.
    """
    if "://" not in str(root):
        return FolderSource(Path(root).expanduser().absolute())
    # What reads a folder needs nothing of what reads a bucket.
    from nsd_prep.sources.bucket import BucketSource

    folder = mirror_folder or user_cache() / MIRROR
    return BucketSource(str(root), folder, accept_nsd_terms=accept_nsd_terms)


class _Synthetic(BaseModel):
    model_config = ConfigDict(extra="ignore")

    truth: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")


def _not_nsd(name: str) -> str:
    """Refuse a name under which a dataset's results would pass for NSD's own."""
    if name.casefold() == "nsd" or name.casefold().startswith("allen2022"):
        raise ValueError("a dataset that is not NSD itself needs a name of its own")
    return name


class _Description(BaseModel):
    """What ``dataset.json`` says of a dataset that is not NSD itself."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, AfterValidator(_not_nsd)] = Field(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"
    )
    trials_per_session: PositiveInt = Field(strict=True)
    sessions: dict[Annotated[str, Field(pattern="^[1-8]$")], Annotated[PositiveInt, Strict()]] = (
        Field(min_length=1)
    )
    synthetic: _Synthetic | None = None


def open_dataset(
    root: str | Path,
    preparation: Preparation | None = None,
    *,
    mirror_folder: Path | None = None,
    accept_nsd_terms: bool | None = None,
    space: SpaceName = FUNC1PT8MM,
    surface_files: SurfaceFiles = "native",
) -> Dataset:
    """Find out which layout and shape the dataset below a folder has.

    Parameters
    ----------
    root : str or Path
        The folder that holds ``nsddata`` (official layout) or ``metadata`` (flat layout); or the
        address of such a folder, ``s3://BUCKET[/PREFIX]`` or ``http(s)://HOST[/PREFIX]``, in the
        official layout.
    preparation : {"b1", "b2", "b3"}, optional
        Which betas to read, in the official layout; b3 where nothing is said. The flat layout
        holds one preparation, which it does not name.
    mirror_folder : Path, optional
        Where copies of the small files of an address are kept; in the user's own cache where none
        is given.
    accept_nsd_terms : bool, optional
        That the terms of NSD are accepted, which is asked before NSD's own bucket is read.

    space : {"func1pt8mm", "func1mm", "fsaverage", "nativesurface"}
        Where responses lie.
    surface_files : {"native", "mgh"}
        What betas of fsaverage are taken from.

    Returns
    -------
    Dataset
        NSD with its published shape, or the shape that ``dataset.json`` at the root gives.

    Raises
    ------
    MissingFilesError
        The folder is not there, or is in neither layout.
    InputFileError
        ``dataset.json`` is not what it should be.
    ParameterError
        A preparation, or another space than func1pt8mm, is chosen in the flat layout.
    """
    source = open_source(root, mirror_folder, accept_nsd_terms=accept_nsd_terms)
    root, is_folder = source.root, isinstance(source, FolderSource)
    try:
        if is_folder and not root.is_dir():
            raise MissingFilesError(
                f"The NSD root {root} is not a folder: give the folder that holds 'nsddata' "
                "(official layout) or 'metadata' (flat layout) as the root."
            )
        layout = _layout(source) if is_folder else "official"
    except PermissionError as error:
        raise InputFileError(
            f"The NSD root {root} cannot be read, permission is denied: choose a folder that you "
            "may read."
        ) from error
    if layout == "flat" and preparation is not None:
        raise ParameterError(
            f"The betas' preparation {preparation} cannot be chosen: {root} is in the flat layout, "
            "which holds one preparation; choose none."
        )
    if layout == "flat" and space != FUNC1PT8MM:
        raise ParameterError(
            f"The space {space} cannot be chosen: {root} is in the flat layout, which holds "
            f"{FUNC1PT8MM} alone; give a root in the official layout, or choose {FUNC1PT8MM}."
        )
    if layout == "flat":
        folder = "the one of a flat layout"
    else:
        folder = PREPARATION_FOLDERS[preparation or DEFAULT_PREPARATION]
    description = _description(root / DESCRIPTION_FILE, source)
    sessions = (
        {int(subject): number for subject, number in description.sessions.items()}
        if description
        else published.SESSION_COUNTS
    )
    return Dataset(
        root=root,
        layout=layout,
        name=description.name if description else "NSD",
        is_nsd=description is None,
        preparation=folder,
        trials_per_session=(
            description.trials_per_session if description else published.TRIALS_PER_SESSION
        ),
        sessions=dict(sessions),
        truth_folder=description.synthetic.truth if description and description.synthetic else None,
        source=source,
        space=space,
        surface_files=surface_files,
    )


def _layout(source: Source) -> Layout:
    root = source.root
    if source.exists(root / "nsddata") and (root / "nsddata").is_dir():
        return "official"
    if (root / "metadata").is_dir():
        return "flat"
    if near := _datasets_near(root):
        there = "there is one" if len(near) == 1 else "there are datasets"
        raise MissingFilesError(
            f"The NSD root {root} is no dataset; {there} at {', '.join(map(str, near))}: give "
            f"{'that folder' if len(near) == 1 else 'one of these folders'} as the root."
        )
    raise MissingFilesError(
        f"The NSD root {root} holds no dataset: expected a folder 'nsddata' (official layout) or "
        "'metadata' (flat layout) in it; give the folder above them as the root."
    )


def _datasets_near(root: Path) -> list[Path]:
    """Return the dataset that holds a folder, or those that a folder holds, each once."""
    for folder in (root, *root.parents):
        if folder.name in DATASET_FOLDERS and (folder.parent / "nsddata").is_dir():
            return [folder.parent]
    try:
        inside = sorted(root.iterdir(), key=lambda path: (path.is_symlink(), path))
    except OSError:
        return []
    roots: dict[Path, Path] = {}
    for path in inside:
        with suppress(OSError):  # another user's folder
            if (path / "nsddata").is_dir():
                roots.setdefault(path.resolve(), path)
    return sorted(roots.values())


def _description(path: Path, source: Source) -> _Description | None:
    if not source.exists(path):
        return None
    read = source.read(path)
    try:
        content = json.loads(read, object_pairs_hook=_without_duplicates)
        return _Description.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        reason = f"at {where}, {first['msg']}, found {reprlib.repr(first['input'])}"
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested without end
        reason = f"at the whole file, {error}"
    raise InputFileError(
        f"{source.where(path)} does not describe a dataset: {reason}; expected "
        '{"name": "...", "trials_per_session": 30, "sessions": {"1": 6}} with subjects 1 to 8, '
        "correct or remove it."
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given twice")
    return dict(pairs)
