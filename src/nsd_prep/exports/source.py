"""A subject's single trials, as an export takes them."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep import __version__
from nsd_prep.core.coordinates import MEMBERSHIP
from nsd_prep.core.digests import (
    digest_of_file,
    digest_of_json,
    digest_of_table,
    sampled_sha256,
    sha256_of_json,
)
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.core.parameters import Normalise, SpaceName
from nsd_prep.dataset.space import FUNC1PT8MM
from nsd_prep.dataset.trials import TRIAL
from nsd_prep.single_trials.reading import TrialReader, open_single_trials
from nsd_prep.single_trials.voxels import VOXEL

#: Bytes of responses that are read at once.
_BYTES_AT_ONCE: Final = 64 * 2**20


class TrialsFile:
    """All trials of a subject, in a file of single trials.

    Parameters
    ----------
    path : Path
        A file or a Zarr store that ``nsd-prep trials`` wrote.

    Attributes
    ----------
    subject : int
        1-based.
    trials, sites : DataFrame
        The columns along the rows, and along the voxels or vertices.
    attributes : dict
        Of the file.
    reader : TrialReader
        Gives rows.

    Raises
    ------
    OSError, InputFileError, ParameterError
        As `nsd_prep.single_trials.open_single_trials`; InputFileError also where rows are means.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = TrialReader(path)
        with open_single_trials(path) as dataset:
            self.attributes: dict[str, Any] = dict(dataset.attrs)
            columns = {
                dimension: {
                    str(name): coordinate.to_numpy()
                    for name, coordinate in dataset.coords.items()
                    if coordinate.dims == (dimension,)
                }
                for dimension in map(str, dataset.sizes)
            }
        if TRIAL not in columns or VOXEL not in columns:
            raise InputFileError(
                f"{path} holds means over repetitions: expected single trials; write them again "
                "without average=True."
            )
        self.trials = pd.DataFrame(columns[TRIAL]).rename_axis(index=TRIAL)
        self.sites = pd.DataFrame(columns[VOXEL]).rename_axis(index=VOXEL)
        self.subject = int(self.attributes["subject"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.__exit__()

    @cached_property
    def digest(self) -> str:
        """Digest of the whole file, or of all files of a store."""
        if not self.path.is_dir():
            return digest_of_file(self.path)
        return digest_of_json(
            [(file.relative_to(self.path).as_posix(), digest_of_file(file)) for file in self._files]
        )

    @cached_property
    def sample(self) -> str:
        """What versions up to 0.4 recorded of the content: a digest of some blocks."""
        if not self.path.is_dir():
            return sampled_sha256(self.path)
        names = [file.relative_to(self.path).as_posix() for file in self._files]
        digests = [sampled_sha256(file) for file in self._files]
        return sha256_of_json(list(zip(names, digests, strict=True)))

    @property
    def changed(self) -> float:
        """When a file of it was last changed, in seconds since 1970: its inode tells."""
        return max(file.stat().st_ctime for file in self._files)

    @property
    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            return [self.path]
        return sorted(file for file in self.path.rglob("*") if file.is_file())

    @cached_property
    def digest_of_tables(self) -> str:
        """Digest of all that the file says of itself, of its trials and of its sites."""
        tables = [digest_of_table(table) for table in (self.trials, self.sites)]
        return digest_of_json(
            [*tables, {key: str(self.attributes[key]) for key in self.attributes}]
        )

    @property
    def design(self) -> str | None:
        """Digest of the design of the experiment; None where an earlier version wrote the file."""
        design = self.attributes.get("design")
        return str(design) if design else None

    def facts(self) -> dict[str, Any]:
        """Return what an export says of the subject."""
        chosen = {
            name: float(value) if name.startswith("min_") else str(value)
            for name, value in sorted(self.attributes.items())
            if name in ("dataset", "preparation", "surface_files") or name.startswith("min_")
        }
        return {
            **chosen,
            "trials": len(self.trials),
            "shared_images": self._n_images(self.trials["is_shared"].to_numpy(dtype=np.bool_)),
            "trials_per_session": self.trials_per_session,
            "sites": len(self.sites),
            "site": "vertices" if "vertices" in self.attributes else "voxels",
            "software": f"nsd-prep {__version__}",
        }

    def _n_images(self, chosen: NDArray[np.bool_]) -> int:
        return int(self.trials.loc[chosen, "nsd_id"].nunique())

    def require(self, like: str, normalise: Normalise, space: SpaceName) -> None:
        """Raise where the file is not what an export is made of.

        Raises
        ------
        ParameterError
            It is of another experiment, lies in another space, has other values, or not all trials
            of its sessions.
        """
        if experiment := self.attributes.get("experiment"):
            raise ParameterError(
                f"The export {like} needs single trials of NSD's main experiment, found those of "
                f"{experiment} in {self.path}: give other files."
            )
        own_space = self.attributes.get("space", FUNC1PT8MM)
        if own_space != space:
            raise ParameterError(
                f"The export {like} needs single trials in the space {space}, found {own_space} in "
                f"{self.path}: write them in that space."
            )
        normalisation = self.attributes.get("normalisation")
        if normalisation != normalise:
            raise ParameterError(
                f"The export {like} needs single trials with normalise={normalise!r}, found "
                f"{normalisation!r} in {self.path}: write them again with that, or export from the "
                "dataset itself."
            )
        images = self.attributes.get("images", "all")
        if images != "all":
            raise ParameterError(
                f"The export {like} needs the trials of all images, found those of {images} "
                f"images in {self.path}: write them again without images={images!r}."
            )

    def sites_of(self, region: str) -> NDArray[np.int64]:
        """Return the sites (0-based columns) of a region, ascending, int64 (n_sites,).

        Raises
        ------
        ParameterError
            The file has not the region.
        """
        column = f"{MEMBERSHIP}{region}"
        if column not in self.sites:
            there = [name.removeprefix(MEMBERSHIP) for name in self.regions]
            raise ParameterError(
                f"{self.path} has no region {region}, which the export needs: found "
                f"{', '.join(there) or 'none'}; write the trials again with regions={region!r}."
            )
        return np.flatnonzero(self.sites[column].to_numpy(dtype=np.bool_))

    @property
    def regions(self) -> list[str]:
        """The columns that say which sites are in a region."""
        return [name for name in self.sites if name.startswith(MEMBERSHIP)]

    def in_nifti_order(self, sites: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return sites in the order in which a mask takes them from a NIfTI array (i slowest)."""
        i, j, k = (self.sites[f"nifti_{axis}"].to_numpy()[sites] for axis in "ijk")
        return sites[np.lexsort((k, j, i))]

    @property
    def trials_per_session(self) -> int:
        """Trials of a session, the same in all."""
        return int(self.trials["session"].value_counts().max())

    def sessions(self) -> Iterator[NDArray[np.int64]]:
        """Give the rows (0-based) of each session, sessions ascending."""
        session = self.trials["session"].to_numpy()
        for number in np.unique(session):
            yield np.flatnonzero(session == number)

    def images_of(
        self, split: NDArray[np.bool_], *, by_first_trial: bool = False
    ) -> list[NDArray[np.int64]]:
        """Return the rows (0-based, ascending) of each image that some trials show.

        Parameters
        ----------
        split : ndarray of bool, shape (n_trials,)
            The trials that count.
        by_first_trial : bool
            Images in the order of their first trial, in place of ascending ids.
        """
        rows = np.flatnonzero(split)
        groups = pd.Series(rows).groupby(
            self.trials["nsd_id"].to_numpy()[rows], sort=not by_first_trial
        )
        return [group.to_numpy() for _, group in groups]

    def nsd_ids(self, images: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the nsd_id (0-based) of images that are given by their rows."""
        first = np.array([rows[0] for rows in images], dtype=np.int64)
        return self.trials["nsd_id"].to_numpy(dtype=np.int64)[first]

    def blocks_of(self, images: list[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
        """Give a few images at a time, so many that their trials fit into memory."""
        n_rows = max(1, _BYTES_AT_ONCE // (8 * self.reader.shape[1]))
        block: list[NDArray[np.int64]] = []
        for rows in images:
            if block and sum(map(len, block)) + len(rows) > n_rows:
                yield block
                block = []
            block.append(rows)
        if block:
            yield block
