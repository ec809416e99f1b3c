"""Where a dataset's files come from: a folder of this machine, or a bucket or web server.

A dataset's paths are absolute and lie below a local root in both cases; for a remote dataset that
root is the folder of its mirror.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, SerializerFunctionWrapHandler, WrapSerializer

from nsd_prep.core.errors import NSDPrepError, OutputError
from nsd_prep.core.file_states import FileStates
from nsd_prep.core.records import FileIdentity
from nsd_prep.dataset.identity import RemoteIdentity

#: What tells whether a large file is still the same.
Identity = FileIdentity | RemoteIdentity


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _one_alone(value: Any, serialize: SerializerFunctionWrapHandler) -> Any:
    identities = serialize(value)
    return identities[0] if len(identities) == 1 else identities


#: Those of a session's files; in a record one stands alone, as it did before there were surfaces.
Identities = Annotated[tuple[Identity, ...], BeforeValidator(_several), WrapSerializer(_one_alone)]


class Transfer(NamedTuple):
    """What was requested of a server so far.

    Attributes
    ----------
    requests, bytes, failures : mapping of str to int
        For each kind: requests made, bytes received, and requests that had to be tried again.
    """

    requests: Mapping[str, int]
    bytes: Mapping[str, int]
    failures: Mapping[str, int]


class Source(Protocol):
    """What reads a dataset's files, by their paths below `root`.

    Attributes
    ----------
    root : Path
        Absolute.
    consent : BaseModel or None
        Which terms were accepted, for the manifest; None where none had to be.
    states : FileStates or None
        What the files were when they were looked at; None where they are not read in their place.
    """

    root: Path
    consent: BaseModel | None
    states: FileStates | None

    @property
    def transfer(self) -> Transfer | None:
        """What was transferred so far; None where the files are read in their place."""

    def where(self, path: Path) -> str:
        """Return where a file, or the root, really lies, for messages: its path, or its URL."""

    def exists(self, path: Path) -> bool:
        """Return whether a file is there; InputFileError where it is a link that leads nowhere."""

    def read(self, path: Path) -> bytes:
        """Return all of a small file.

        Raises
        ------
        OSError
            It is not there, or cannot be read; `MissingFilesError` for a remote one.
        """

    def identity(self, path: Path) -> Identity:
        """Return what tells whether a file is still the same."""

    def identities(self, paths: Sequence[Path]) -> dict[Path, Identity]:
        """Return the identities of files, looked up together.

        Raises
        ------
        MissingFilesError
            Some are not there: it lists all of these.
        """

    def check_session(self, path: Path, shape: tuple[int, ...], n_trials: int) -> None:
        """Raise as `nsd_prep.dataset.betas.check_session_file`."""

    def prefetch(
        self, path: Path, voxels: NDArray[np.int64], shape: tuple[int, ...], n_trials: int
    ) -> bool:
        """Begin to fetch what `read_voxels` will be asked for, where that is of use."""

    def read_voxels(
        self, path: Path, voxels: NDArray[np.int64], shape: tuple[int, ...], n_trials: int
    ) -> NDArray[Any]:
        """Read all trials of some voxels of a session, as `nsd_prep.dataset.betas.read_voxels`."""

    def images(
        self, path: Path, nsd_ids: NDArray[np.int64]
    ) -> Path | Callable[[int], NDArray[np.uint8]]:
        """Return the file of all images, or what gives the pixels of one of some images by its id.

        What is returned is called with the ids (0-based) ascending, each once.
        """

    def fetch_files(self, paths: Sequence[Path]) -> None:
        """Fetch those of some small files that are there, together, before they are read."""

    def look_up(self, paths: Sequence[Path]) -> None:
        """Look up together whether some files are there, before each is asked for."""

    def close(self) -> None:
        """Let go of connections, and of what was prefetched."""


@contextmanager
def naming_addresses(source: Source) -> Iterator[None]:
    """Let errors name files of a remote dataset by their addresses, not by their copies' paths."""
    try:
        yield
    except OutputError:  # of the copies themselves
        raise
    except NSDPrepError as error:
        error.args = tuple(_with_addresses(argument, source) for argument in error.args)
        raise


def _with_addresses(argument: Any, source: Source) -> Any:
    """Return an argument of an error, a sentence or a tuple of them, with addresses in it."""
    if isinstance(argument, tuple):
        return tuple(_with_addresses(part, source) for part in argument)
    if not isinstance(argument, str):
        return argument
    root = rf"{re.escape(str(source.root))}(?![\w-])"
    return re.sub(root, lambda _: source.where(source.root), argument)
