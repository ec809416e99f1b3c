"""The store: extracted responses of a session, a file for each region, found by their content."""

import io
import logging
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from nsd_prep.core.atomic import replaced
from nsd_prep.core.digests import (
    digest_of_array,
    has_sha256,
    read_whole,
    sha256_of_bytes,
    sha256_of_file,
    sha256_of_json,
)
from nsd_prep.core.errors import InputFileError, OutputError
from nsd_prep.core.folders import visible
from nsd_prep.core.records import Folder, Sealed

#: Folder of the voxels whose trials are stored whole, and how each index is written.
_VOXELS: Final = "voxels"
_INDEX: Final = np.dtype("<i8")

_logger: Final = logging.getLogger(__name__)


class StoredArray(Sealed):
    """A region's responses in a session, as they lie in the store.

    Attributes
    ----------
    key : str
        Digest of all that determines them.
    file : str
        Name in the store of a ``.npy`` file, shape (n_trials, n_voxels), little-endian, C order.
    sha256 : str
        Digest of that file.
    shape : tuple of int
        (n_trials, n_voxels).
    dtype : str
        ``"<f4"`` for z-scores, ``"<i2"`` for betas as stored.
    constant_voxels : tuple of int
        Positions (0-based) among the region's voxels of those without data in this session.
    statistics : dict
        What was seen of the region's betas while they were in memory.
    """

    key: str
    file: str
    sha256: str
    shape: tuple[int, int]
    dtype: str
    constant_voxels: tuple[int, ...]
    statistics: dict[str, Any]

    @property
    def digest(self) -> str:
        """What stands for the part in a cache key: its content."""
        return sha256_of_json([self.sha256, self.shape, self.constant_voxels, self.statistics])


class Store(Folder):
    """A folder of parts. A part's record is written after its array and names its SHA-256."""

    def find_whole(self, name: str, key: str) -> StoredArray | None:
        """Return a part whose record and file are sound; None, with a warning, where damaged.

        A name has no ending: ``"subj01-session02/0123abcd"``.
        """
        try:
            part = StoredArray.model_validate_json(self._record(name).read_bytes())
        except (OSError, ValidationError):
            part = None
        if part and part.key == key and has_sha256(self.path / part.file, part.sha256):
            return part
        if self._record(name).exists():
            _logger.warning(
                "The stored responses %s are gone or altered: extracting them again.",
                self._array(name),
            )
        return None

    def read(self, part: StoredArray) -> NDArray[Any]:
        """Read the responses of a part of this store, in its shape and dtype; read-only.

        Raises
        ------
        OSError
            The disk fails.
        InputFileError
            The file is gone or altered.
        """
        path = self.path / part.file
        try:
            content = read_whole(path)
        except FileNotFoundError:
            content = b""
        if sha256_of_bytes(content) != part.sha256:
            raise InputFileError(
                f"The extracted responses {path} are gone or altered since they were checked: "
                "run the same command again to extract them again."
            )
        # Shape and dtype stand in the record: numpy.load would parse the header through `ast`,
        # which CPython 3.11 cannot do in two threads at once (gh-106905).
        dtype = np.dtype(part.dtype)
        start = len(content) - dtype.itemsize * math.prod(part.shape)
        return np.frombuffer(content, dtype, offset=start).reshape(part.shape)

    def write(
        self,
        name: str,
        key: str,
        responses: NDArray[Any],
        constant: NDArray[np.bool_],
        statistics: dict[str, Any],
    ) -> StoredArray:
        """Write a region's responses, then the record that says that they are whole.

        Parameters
        ----------
        name, key : str
            As in `find_whole`.
        responses : ndarray, shape (n_trials, n_voxels)
            z-scores (float32), or betas as stored (int16).
        constant : ndarray of bool, shape (n_voxels,)
            Voxels without data in this session.
        statistics : dict
            JSON-able.

        Returns
        -------
        StoredArray
            Its record.

        Raises
        ------
        OutputError
            The disk is full, cannot be written, or gives back something else.
        """
        path = self._array(name)
        dtype = responses.dtype.newbyteorder("<")
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(responses, dtype), allow_pickle=False)
        content = buffer.getvalue()  # no copy, and no view that outlives the buffer in a traceback
        sha256 = sha256_of_bytes(content)
        with replaced(path) as partial:
            partial.write_bytes(content)
            if sha256_of_file(partial) != sha256:
                raise OutputError(
                    f"{path} was not written as it should be: what the disk gives back differs; "
                    "check the disk and run the same command again."
                )
        part = StoredArray(
            key=key,
            file=f"{name}.npy",
            sha256=sha256,
            shape=(responses.shape[0], responses.shape[1]),
            dtype=dtype.str,
            constant_voxels=tuple(np.flatnonzero(constant).tolist()),
            statistics=statistics,
        )
        with replaced(self._record(name)) as partial:
            partial.write_text(part.model_dump_json(), encoding="utf-8")
        return part

    def write_voxels(self, group: str, voxels: NDArray[np.int64]) -> None:
        """Write which voxels the parts of a group may hold, so that `voxel_sets` gives them.

        Parameters
        ----------
        group : str
            Such as ``"subj01"``.
        voxels : ndarray of int64, shape (n_voxels,)
            Sites (0-based), ascending.
        """
        path = self.path / _VOXELS / group / digest_of_array(voxels)
        if not path.exists():
            with replaced(path) as partial:
                partial.write_bytes(voxels.astype(_INDEX).tobytes())

    def voxel_sets(self, group: str) -> list[NDArray[np.int64]]:
        """Return what was given to `write_voxels` for a group, the smallest first.

        What was altered since is left out: each file has the digest of its voxels as its name.
        """
        sets = []
        for path in visible(self.path / _VOXELS / group):
            content = path.read_bytes()
            whole = content[: len(content) // _INDEX.itemsize * _INDEX.itemsize]
            voxels = np.frombuffer(whole, _INDEX).astype(np.int64)
            if digest_of_array(voxels) == path.name:
                sets.append(voxels)
        return sorted(sets, key=len)

    def invalidate(self, name: str) -> None:
        """Remove the record of a part, so that it is extracted again.

        Its array stays until it is replaced: another run may be about to read it.
        """
        self._record(name).unlink(missing_ok=True)

    def _array(self, name: str) -> Path:
        return self.path / f"{name}.npy"

    def _record(self, name: str) -> Path:
        return self.path / f"{name}.json"
