"""A remote dataset as a source of files: what it fetches, and what it keeps of it."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from typing_extensions import override

from nsd_prep.core.errors import ChangedFileError, MissingFilesError, RemoteFaultError
from nsd_prep.core.records import FileIdentity
from nsd_prep.dataset.identity import RemoteIdentity
from nsd_prep.dataset.source import Source, Transfer
from nsd_prep.sources.address import Address, chosen_endpoint
from nsd_prep.sources.client import Client
from nsd_prep.sources.consent import accepted_terms
from nsd_prep.sources.images import fetch_images
from nsd_prep.sources.mirror import Mirror
from nsd_prep.sources.sessions import SessionReader

#: Files too large to be copied: known by size and ETag alone, and looked up once.
_LARGE: Final = re.compile(r"\.hdf5$|/[lr]h\.betas_\w+\.mgh$")
#: How often a session is started again because its file changed.
_STARTS: Final = 3

_logger: Final = logging.getLogger(__name__)


class BucketSource(Source):
    """A dataset in a bucket, or on a web server that answers ranges.

    Small files are fetched once, whole, into the mirror; later runs look up whether they are still
    the same, one request each, and where no server answers the copies are used, with a warning.
    The size and ETag of a large file are looked up once and kept: each range of it is asked for
    with that ETag, so that another file is noticed when it is read.

    It can be pickled, and asks for no consent in another process.

    Parameters
    ----------
    url : str
        ``s3://BUCKET[/PREFIX]`` or ``http(s)://HOST[/PREFIX]``, in NSD's official layout.
    mirror_folder : Path
        Where copies of small files go.
    accept_nsd_terms : bool, optional
        See `nsd_prep.sources.consent.accepted_terms`, which is asked before NSD's own bucket is.

    Attributes
    ----------
    root : Path
        The mirror's folder: below it lie the dataset's paths.
    client : Client
        Who fetches.
    consent : Consent or None
        For the manifest; None where the bucket is not NSD's own.

    Raises
    ------
    ParameterError
        The URL is of another kind, or NSD's terms were not accepted.
    """

    states = None

    def __init__(
        self, url: str, mirror_folder: Path, *, accept_nsd_terms: bool | None = None
    ) -> None:
        self.root = mirror_folder.absolute()
        address = Address.parse(url)
        self.consent: BaseModel | None = None
        if address.is_nsd_bucket:
            self.consent = accepted_terms(accept_nsd_terms)
        if address.scheme == "s3" and (endpoint := chosen_endpoint(os.environ)):
            _logger.warning(
                "%s is read from %s, which AWS_ENDPOINT_URL names, and not from Amazon.",
                address.url,
                endpoint,
            )
        self.client = Client(address.url)
        self._start()

    def _start(self) -> None:
        self._mirror = Mirror(self.root, self.client.address.url)
        self._reader = SessionReader(self.client)
        self._found: dict[str, RemoteIdentity | None] = {}
        self._is_offline = False

    def __getstate__(self) -> tuple[Path, BaseModel | None, Client]:
        return self.root, self.consent, self.client

    def __setstate__(self, state: tuple[Path, BaseModel | None, Client]) -> None:
        self.root, self.consent, self.client = state
        self._start()

    @property
    @override
    def transfer(self) -> Transfer:
        return self.client.transfer

    @override
    def where(self, path: Path) -> str:
        return self.client.address.url if path == self.root else self.client.url(self._name(path))

    @override
    def exists(self, path: Path) -> bool:
        return self._look_up(self._name(path)) is not None

    @override
    def read(self, path: Path) -> bytes:
        """Return all of a small file, fetched where the mirror has not what the server has.

        Raises
        ------
        MissingFilesError
            It is not there, or may not be read.
        RemoteFaultError
            The server does not answer, and there is no copy.
        """
        name = self._name(path)
        content = self._mirror.content(name)
        if content is not None:
            identity = self._look_up(name)
            record = self._mirror.record(name)
            if record is not None and identity == record.identity:
                return content
        identity, content = self.client.read(name, expected=self._look_up(name))
        self._mirror.keep(name, identity, content)
        self._found[name] = identity
        return content

    @override
    def fetch_files(self, paths: Sequence[Path]) -> None:
        for future in [self.client.submit(self._fetch_file, path) for path in paths]:
            future.result()

    @override
    def look_up(self, paths: Sequence[Path]) -> None:
        for future in [self.client.submit(self._look_up, self._name(path)) for path in paths]:
            future.result()

    def _fetch_file(self, path: Path) -> None:
        if self.exists(path):
            self.read(path)

    @override
    def identity(self, path: Path) -> RemoteIdentity:
        """Return the URL, size and ETag of a file.

        Raises
        ------
        MissingFilesError
            It is not there, or may not be read.
        RemoteFaultError
            The server does not answer, and nothing is known of the file.
        """
        identity = self._look_up(self._name(path))
        if identity is None:
            raise MissingFilesError(
                f"{self.where(path)} is missing: check the address, and that the file is there."
            )
        return identity

    @override
    def identities(self, paths: Sequence[Path]) -> dict[Path, FileIdentity | RemoteIdentity]:
        names = {self._name(path): path for path in paths}
        known = {name: identity for name in names if (identity := self._known(name))}
        looked_up = self.client.identities([name for name in names if name not in known])
        for name, identity in looked_up.items():
            self._remember(name, identity)
        return {path: (known | looked_up)[name] for name, path in names.items()}

    def check_session(self, path: Path, shape: tuple[int, ...], n_trials: int) -> None:
        """Raise where a session's betas are not of the expected form, as far as is known.

        A file of exactly the predicted size is looked at when it is read, and so is one that an
        earlier run has looked at; of any other one the headers are fetched.
        """
        record = self._mirror.record(self._name(path))
        if record is not None and self._name(path) not in self._found:
            return
        identity = self.identity(path)
        if not self._reader.has_predicted_size(identity, shape, n_trials):
            self._reader.check(identity, shape, n_trials)

    @override
    def prefetch(
        self, path: Path, voxels: NDArray[np.int64], shape: tuple[int, ...], n_trials: int
    ) -> bool:
        with suppress(RemoteFaultError, MissingFilesError):  # `read_voxels` will tell
            return self._reader.prefetch(self.identity(path), voxels, shape, n_trials)
        return False

    def read_voxels(
        self, path: Path, voxels: NDArray[np.int64], shape: tuple[int, ...], n_trials: int
    ) -> NDArray[Any]:
        """Read all trials of some voxels of a session, as `nsd_prep.dataset.betas.read_voxels`.

        A file that changes meanwhile is read again from its beginning: compare `identity` before
        and after.

        Raises
        ------
        InputFileError, MissingFilesError, RemoteFaultError, ChangedFileError
            As `nsd_prep.sources.sessions.SessionReader.read_voxels`.
        """
        for start in range(_STARTS):
            try:
                return self._reader.read_voxels(self.identity(path), voxels, shape, n_trials)
            except ChangedFileError:
                name = self._name(path)
                self._mirror.drop(name)
                self._found.pop(name, None)
                if start == _STARTS - 1:
                    raise
                _logger.warning(
                    "%s has changed since it was looked up: reading it again from the beginning.",
                    self.where(path),
                )
        raise AssertionError(path)

    @override
    def images(
        self, path: Path, nsd_ids: NDArray[np.int64]
    ) -> Path | Callable[[int], NDArray[np.uint8]]:
        pictures = fetch_images(self.client, nsd_ids)

        def pixels(nsd_id: int) -> NDArray[np.uint8]:
            return next(shown for number, shown in pictures if number == nsd_id)

        return pixels

    @override
    def close(self) -> None:
        self._reader.cancel()
        self.client.close()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _known(self, name: str) -> RemoteIdentity | None:
        """Return what needs no request."""
        if identity := self._found.get(name):
            return identity
        record = self._mirror.record(name)
        if record is None or record.identity.is_absent:
            return None
        return record.identity if self._is_offline or _LARGE.search(name) else None

    def _look_up(self, name: str) -> RemoteIdentity | None:
        """Return the identity of a file; None where there is no such file."""
        if name in self._found:
            return self._found[name]
        if known := self._known(name):
            return known
        record = self._mirror.record(name)
        if self._is_offline and record is not None:
            return None
        try:
            identity = self.client.identity(name)
        except MissingFilesError:
            self._found[name] = None
            # A later run without a network knows that it need not be there.
            self._mirror.keep(name, RemoteIdentity.absent(self.client.url(name)))
            return None
        except RemoteFaultError as error:
            if record is None:
                raise
            self._is_offline = True
            _logger.warning(
                "%s Until then the copies in %s are used as they are.", error, self.root
            )
            return None if record.identity.is_absent else record.identity
        self._remember(name, identity)
        return identity

    def _remember(self, name: str, identity: RemoteIdentity) -> None:
        self._found[name] = identity
        if _LARGE.search(name):
            self._mirror.keep(name, identity)
