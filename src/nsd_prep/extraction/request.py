"""What is to be extracted from a session, and which of it the store holds."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nsd_prep.core.digests import sha256_of_array, sha256_of_json
from nsd_prep.core.records import FileIdentity, FileSample
from nsd_prep.dataset.beta_files import BetaFile
from nsd_prep.dataset.betas import stored_type
from nsd_prep.dataset.published import run_lengths
from nsd_prep.dataset.source import Identity, Source
from nsd_prep.dataset.space import FUNC1PT8MM, Space, SurfaceSpace
from nsd_prep.extraction.store import Store, StoredArray

if TYPE_CHECKING:
    from nsd_prep.extraction.sessions import SessionRecord

#: What is kept of a session: z-scores of the trials with a shared image, or all trials as stored.
TrialSelection = Literal["shared", "all"]

_logger: Final = logging.getLogger(__name__)

#: Raise this when the same inputs give other responses: stored ones are then not used any more.
EXTRACTION_VERSION: Final = 3
#: Stands for the voxels of `SessionRequest.keep` among the regions, whose names have no space.
KEPT: Final = "kept voxels"
#: The same for those of `SessionRequest.probes`, before a region's name.
PROBES_OF: Final = "probes of "


@dataclass(frozen=True)
class SessionRequest:
    """What is to be extracted from a session.

    Attributes
    ----------
    subject, session : int
        1-based.
    source : Source
        What gives the session's file.
    files : tuple of BetaFile
        The session's files, which hold all sites together.
    betas : tuple of FileIdentity or of RemoteIdentity
        For each of them, what tells whether it is still the same.
    n_trials : int
        Trials in the session.
    trials : tuple of int
        Trials in session (0-based, ascending) that are kept.
    space : Space
        Whose sites the regions hold.
    regions : mapping of str to ndarray of int64, shape (n_sites,)
        For each region, its sites (0-based), ascending.
    store : Store
        Where the responses are kept.
    kinds : tuple of {"shared", "all"}
        What is kept of each region: z-scores of `trials`, or all trials as they are stored.
    keep : ndarray of int64, shape (n_sites,), optional
        Sites, as those of a region, of which all trials are kept beside that: later requests for
        regions inside them do not read the session.
    probes : mapping of str to ndarray of int64, shape (n_probes,), optional
        Of regions, the sites of a few voxels of which all trials are kept for checks.
    """

    subject: int
    session: int
    source: Source = field(compare=False)
    files: tuple[BetaFile, ...]
    betas: tuple[Identity, ...]
    n_trials: int
    trials: tuple[int, ...]
    space: Space
    regions: Mapping[str, NDArray[np.int64]]
    store: Store
    kinds: tuple[TrialSelection, ...] = ("shared",)
    keep: NDArray[np.int64] | None = None
    probes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @cached_property
    def part_keys(self) -> dict[tuple[TrialSelection, str], str]:
        """For each kind and region, the digest of all that determines its part."""
        return {
            (kind, region): self.key(kind, self.voxels(region))
            for kind, region in dict.fromkeys(
                [(kind, region) for kind in get_args(TrialSelection) for region in self.regions]
                + self.parts
            )
        }

    def key(self, kind: TrialSelection, voxels: NDArray[np.int64]) -> str:
        """Return the digest of all that determines a part with some voxels."""
        betas = [identity.model_dump() for identity in self.betas]
        determined: dict[str, Any] = {
            "version": EXTRACTION_VERSION,
            "betas": betas[0] if len(betas) == 1 else betas,
            "n_trials": self.n_trials,
            "grid": self.space.shape,
            "voxels": sha256_of_array(voxels),
            "trials": self.trials if kind == "shared" else "all",
        }
        if self.is_surface:
            own = [
                sha256_of_array(file.own_sites(voxels[file.rows(voxels)])) for file in self.files
            ]
            determined |= {"space": self.space.attributes(), "vertices": own}
        return sha256_of_json(determined)

    @property
    def is_surface(self) -> bool:
        """Whether responses lie on a pair of surfaces, and are z-scored as published there."""
        return isinstance(self.space, SurfaceSpace)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The session's files, as the source knows them."""
        return tuple(file.path for file in self.files)

    def voxels(self, region: str) -> NDArray[np.int64]:
        """Return the voxels of a region, those of `keep` for `KEPT`, or a region's probes."""
        if region == KEPT and self.keep is not None:
            return self.keep
        if region.startswith(PROBES_OF):
            return self.probes[region.removeprefix(PROBES_OF)]
        return self.regions[region]

    @property
    def digest(self) -> str:
        """What stands for the request in a cache key."""
        keys = [[*key, self.part_keys[key]] for key in self.parts]
        content = [self.subject, self.session, keys]
        with suppress(OSError):  # that it is gone will be told when it is read
            # Where it is another one, the store decides whether its parts are of this file.
            content += [file.stat().st_ctime_ns for file in self.local_files]
        return sha256_of_json(content)

    @property
    def local_files(self) -> tuple[Path, ...]:
        """The session's files; none where they are remote ones."""
        return tuple(
            Path(identity.path) for identity in self.betas if isinstance(identity, FileIdentity)
        )

    @property
    def parts(self) -> list[tuple[TrialSelection, str]]:
        """The kind and region of each part that is asked for."""
        parts: list[tuple[TrialSelection, str]] = [
            (kind, region) for kind in self.kinds for region in self.regions
        ]
        parts += [("all", f"{PROBES_OF}{region}") for region in self.probes]
        return parts if self.keep is None else [*parts, ("all", KEPT)]

    @property
    def is_stored(self) -> bool:
        """Whether the store has every part, whole or not."""
        return all(self.store.has(self.part_name(*key)) for key in self.parts)

    @property
    def group(self) -> str:
        """The subject, for `Store.voxel_sets`; with the space, where that is another."""
        space = "" if self.space.name == FUNC1PT8MM else f"-{self.space.name}"
        return f"subj{self.subject:02d}{space}"

    def invalidate(self) -> None:
        """Make the store drop what this request could be given, so that it is extracted again."""
        for key in self.parts:
            self.store.invalidate(self.part_name(*key))
            for stored in self._around(key[1], self.voxel_sets()):
                self.store.invalidate(self._name(self.key("all", stored)))

    def find(self, kind: TrialSelection, region: str) -> StoredArray | None:
        """Return a part that the store holds whole, and of the file that is there, or None."""
        return self._find(kind, len(self.voxels(region)), self.part_keys[kind, region])

    def voxel_sets(self) -> list[NDArray[np.int64]]:
        """Return the voxels of which the store may hold all trials, as `Store.voxel_sets`."""
        return self.store.voxel_sets(self.group)

    def find_around(
        self, region: str, voxel_sets: Sequence[NDArray[np.int64]]
    ) -> tuple[StoredArray, NDArray[np.int64]] | None:
        """Return a part that the store holds whole with all trials of a region and perhaps more.

        Parameters
        ----------
        region : str
            Its name.
        voxel_sets : sequence of ndarray of int64
            As `voxel_sets` returns them.

        Returns
        -------
        part : StoredArray
            Betas as stored (n_voxels, n_trials).
        rows : ndarray of int64, shape (n_region_voxels,)
            Those of the region. None in place of both where there is no such part.
        """
        for stored in self._around(region, voxel_sets):
            if (part := self._find("all", len(stored), self.key("all", stored))) is not None:
                return part, np.searchsorted(stored, self.voxels(region))
        return None

    def _find(self, kind: TrialSelection, n_voxels: int, key: str) -> StoredArray | None:
        part = self.store.find_whole(self._name(key), key)
        if part is None or not self.is_possible(kind, n_voxels, part):
            return None
        if not (files := self.local_files):
            return part
        # Older records have no sample: what they say is believed once, and then held to it.
        sample = part.sample.renewed(*files) if part.sample else FileSample.from_paths(*files)
        if sample is None:
            names = " or ".join(map(str, files))
            _logger.warning("%s was replaced since it was read: reading it again.", names)
            return None
        if sample != part.sample:
            part = part.with_sample(sample)
            self.store.write_record(self._name(key), part)
        return part

    def accepts(self, record: "SessionRecord") -> bool:
        """Return whether a record is one that `extract_session` would give of this request."""
        parts: dict[tuple[TrialSelection, str], StoredArray] = {
            ("shared", region): part for region, part in record.parts.items()
        }
        parts |= {("all", region): part for region, part in record.all_trials.items()}
        parts |= {("all", f"{PROBES_OF}{region}"): part for region, part in record.probes.items()}
        parts |= {} if record.kept is None else {("all", KEPT): record.kept}
        return (
            (record.subject, record.session) == (self.subject, self.session)
            and parts.keys() == set(self.parts)
            and all(
                (part.key, part.file) == (self.part_keys[key], f"{self.part_name(*key)}.npy")
                and self.is_possible(key[0], len(self.voxels(key[1])), part)
                for key, part in parts.items()
            )
        )

    def is_possible(self, kind: TrialSelection, n_voxels: int, part: StoredArray) -> bool:
        """Return whether a part has the form that this request would give it."""
        runs = [run.n_trials for run in part.beta_statistics.runs]
        shared = ("<f4", (len(self.trials), n_voxels))
        expected = shared if kind == "shared" else (self.stored_as, (n_voxels, self.n_trials))
        return (part.dtype, part.shape) == expected and runs == list(run_lengths(self.n_trials))

    @property
    def stored_as(self) -> str:
        """The type of the files' values."""
        return stored_type(self.files[0].path)

    def part_name(self, kind: TrialSelection, region: str) -> str:
        """Return the name in the store of a part."""
        return self._name(self.part_keys[kind, region])

    def _name(self, key: str) -> str:
        return f"{self.group}-session{self.session:02d}/{key[:24]}"

    def _around(
        self, region: str, voxel_sets: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        wanted = self.voxels(region)
        return [
            stored
            for stored in voxel_sets
            if len(stored) >= len(wanted)
            and stored[-1] < self.space.n_sites
            and np.isin(wanted, stored, assume_unique=True).all()
        ]
