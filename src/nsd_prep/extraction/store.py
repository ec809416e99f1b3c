"""The store: extracted responses of a session, a file for each region, found by their content."""

import io
import json
import logging
import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BeforeValidator,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import from_json

from nsd_prep.core.atomic import replaced
from nsd_prep.core.digests import (
    digest_of_bytes,
    digest_of_file,
    digest_of_json,
    has_digest,
    read_whole,
    sha256_of_array,
)
from nsd_prep.core.errors import InputFileError, OutputError
from nsd_prep.core.folders import visible
from nsd_prep.core.records import Digested, FileSample, Folder, Sealed
from nsd_prep.extraction.statistics import BetaStatistics

#: Folder of the voxels whose trials are stored whole, and how each index is written.
_VOXELS: Final = "voxels"
_INDEX: Final = np.dtype("<i8")
#: Bytes before the header of a ``.npy`` file of version 1: magic, version, length of the header.
_NPY_MAGIC: Final = b"\x93NUMPY\x01\x00"
#: More than any header has.
HEADER_BYTES: Final = 1024

_logger: Final = logging.getLogger(__name__)


class StoredArray(Digested, Sealed):
    """A region's responses in a session, as they lie in the store.

    Attributes
    ----------
    key : str
        Digest of all that determines them.
    file : str
        Name in the store of a ``.npy`` file, little-endian, C order.
    blake3, sha256 : str or None
        Digest of that file, one of them: versions up to 0.4 wrote SHA-256.
    shape : tuple of int
        (n_trials, n_voxels) for z-scores, (n_voxels, n_trials) for betas as stored.
    dtype : str
        ``"<f4"`` for z-scores and for betas from ``.mgh`` files, ``"<i2"`` for other betas.
    constant_voxels : tuple of int
        Positions (0-based) among the region's voxels of those without data in this session.
    statistics : str
        What was seen of the region's betas while they were in memory: `BetaStatistics` as JSON, of
        which a run holds thousands; as objects they took 100 MB with ten regions.
    sample : FileSample or None
        The session's file when it was read; None for a remote one, and in older records.
    """

    key: str
    file: str
    shape: tuple[NonNegativeInt, NonNegativeInt]
    dtype: Literal["<f4", "<i2"]
    constant_voxels: tuple[int, ...]
    statistics: Annotated[str, BeforeValidator(json.dumps)]
    sample: FileSample | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older records do not have: their seal stays what it is.

        Statistics are an object in a record, and no text.
        """
        fields: dict[str, Any] = serialize(self)
        fields["statistics"] = from_json(self.statistics)
        for name in ("blake3", "sha256", "sample"):
            if getattr(self, name) is None:
                fields.pop(name, None)
        return fields

    def _check_possible(self) -> None:
        # z-scores have trials first; betas of volumes, and of some surfaces, have them last.
        statistics = self.beta_statistics
        n_voxels = self.shape[0] if self.dtype == "<i2" else statistics.n_voxels
        constant = self.constant_voxels
        if not (
            (self.blake3 is None) != (self.sha256 is None)
            and n_voxels in self.shape
            and list(constant) == sorted(set(constant))
            and all(0 <= voxel < n_voxels for voxel in constant)
            and statistics.model_dump(mode="json") == from_json(self.statistics)
            and statistics.is_possible
            and (statistics.n_voxels, statistics.constant_voxels) == (n_voxels, len(constant))
        ):
            raise ValueError("the record describes no part")

    @property
    def beta_statistics(self) -> BetaStatistics:
        """What was seen of the region's betas."""
        return BetaStatistics.model_validate(from_json(self.statistics))

    def with_sample(self, sample: FileSample | None) -> Self:
        """Return the record with another sample of the session's file."""
        fields = self.model_dump(exclude={"seal"}) | {"sample": sample}
        return type(self).model_validate(fields)

    def start_of_values(self, head: bytes, n_bytes: int) -> int | None:
        """Return the byte at which a file's responses begin, by its head and size, or None.

        `numpy.load` would parse the header through `ast`, which CPython 3.11 cannot do in two
        threads at once (gh-106905).
        """
        start = n_bytes - np.dtype(self.dtype).itemsize * math.prod(self.shape)
        if not len(_NPY_MAGIC) + 2 <= start <= min(HEADER_BYTES, len(head)):
            return None
        length = (start - len(_NPY_MAGIC) - 2).to_bytes(2, "little")
        text = f"{{'descr': '{self.dtype}', 'fortran_order': False, 'shape': {self.shape}, }}"
        expected = _NPY_MAGIC + length + text.encode()
        return start if head[:start].rstrip() == expected else None

    @cached_property
    def digest(self) -> str:
        """What stands for the part in a cache key: its content."""
        statistics = from_json(self.statistics)
        return digest_of_json([self.file_digest, self.shape, self.constant_voxels, statistics])


class Store(Folder):
    """A folder of parts. A part's record is written after its array and names its digest."""

    def has(self, name: str) -> bool:
        """Return whether there is a part of a name, whole or not."""
        return self._record(name).exists()

    def find_whole(self, name: str, key: str) -> StoredArray | None:
        """Return a part whose record and file are sound; None, with a warning, where damaged.

        A name has no ending: ``"subj01-session02/0123abcd"``.
        """
        try:
            part = StoredArray.model_validate_json(read_whole(self._record(name)))
        except (OSError, InputFileError, ValidationError):
            part = None
        if part and (part.key, part.file) == (key, f"{name}.npy") and self._is_sound(part):
            return part
        if self._record(name).exists():
            _logger.warning(
                "The stored responses %s are missing or have changed: extracting them again.",
                self._array(name),
            )
        return None

    def read(self, part: StoredArray) -> NDArray[Any]:
        """Read a part's responses, read-only; InputFileError where they have changed."""
        content = read_whole(self.path / part.file) if self.is_own(part.file) else b""
        start = part.start_of_values(content[:HEADER_BYTES], len(content))
        digest = part.file_digest
        if start is None or digest_of_bytes(content, digest) != digest:
            raise InputFileError(
                f"The extracted responses {self.path / part.file} are missing or have changed "
                "since they were checked: run the same command again to extract them again."
            )
        return np.frombuffer(content, part.dtype, offset=start).reshape(part.shape)

    def _is_sound(self, part: StoredArray) -> bool:
        if not self.is_own(part.file):
            return False
        path = self.path / part.file
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        start = part.start_of_values(head, path.stat().st_size)
        return start is not None and has_digest(path, part.file_digest)

    def write(
        self,
        name: str,
        key: str,
        responses: NDArray[Any],
        constant: NDArray[np.bool_],
        statistics: BetaStatistics,
        sample: FileSample | None,
    ) -> StoredArray:
        """Write a region's responses, then the record that says that they are whole.

        Parameters
        ----------
        name, key : str
            As in `find_whole`.
        responses : ndarray, shape (n_trials, n_voxels) or (n_voxels, n_trials)
            z-scores (float32), trials first; or betas as stored (int16, from ``.mgh`` files
            float32), voxels first.
        constant : ndarray of bool, shape (n_voxels,)
            Voxels without data in this session.
        statistics : BetaStatistics
            What was seen of the region's betas.
        sample : FileSample or None
            What the session's file held; None of a remote one.

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
        if path.parent.is_symlink():  # nothing is written through a link
            path.parent.unlink()
        dtype = responses.dtype.newbyteorder("<")
        content = _npy(np.ascontiguousarray(responses, dtype))
        digest = digest_of_bytes(content)
        with replaced(path) as partial:
            partial.write_bytes(content)
            if digest_of_file(partial) != digest:
                raise OutputError(
                    f"{path} was not written correctly: reading it back gives different bytes; "
                    "check the disk and run the same command again."
                )
        part = StoredArray.sealed(
            key=key,
            file=f"{name}.npy",
            blake3=digest,
            shape=responses.shape,
            dtype=dtype.str,
            constant_voxels=tuple(np.flatnonzero(constant).tolist()),
            statistics=json.dumps(statistics.model_dump(mode="json")),
            sample=sample,
        )
        self.write_record(name, part)
        return part

    def write_record(self, name: str, part: StoredArray) -> None:
        """Write the record that says that a part is whole."""
        with replaced(self._record(name)) as partial:
            partial.write_text(part.model_dump_json(), encoding="utf-8")

    def write_voxels(self, group: str, voxels: NDArray[np.int64]) -> None:
        """Write which voxels the parts of a group may hold, so that `voxel_sets` gives them.

        Parameters
        ----------
        group : str
            Such as ``"subj01"``.
        voxels : ndarray of int64, shape (n_voxels,)
            Sites (0-based), ascending.
        """
        path = self.path / _VOXELS / group / sha256_of_array(voxels)
        if not path.exists():
            with replaced(path) as partial:
                partial.write_bytes(voxels.astype(_INDEX).tobytes())

    def voxel_sets(self, group: str) -> list[NDArray[np.int64]]:
        """Return what was given to `write_voxels` for a group, the smallest first.

        What was altered since is left out: each file has the digest of its voxels as its name, and
        they ascend.
        """
        sets = []
        for path in visible(self.path / _VOXELS / group):
            if not self.is_own(f"{_VOXELS}/{group}/{path.name}"):
                continue
            content = path.read_bytes()
            whole = content[: len(content) // _INDEX.itemsize * _INDEX.itemsize]
            voxels = np.frombuffer(whole, _INDEX).astype(np.int64)
            ascending = len(voxels) and voxels[0] >= 0 and (np.diff(voxels) > 0).all()
            if ascending and sha256_of_array(voxels) == path.name:
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


def _npy(values: NDArray[Any]) -> bytes:
    """Return what `numpy.save` writes of an array in C order, which takes it in pieces."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
    return b"".join((header.getvalue(), values.reshape(-1).view(np.uint8).data))
