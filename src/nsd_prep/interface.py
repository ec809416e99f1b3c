"""The dataset in a notebook: regions, voxels, trials and responses as labelled objects.

The functions are those of the flow, without Prefect: what is extracted is kept in the same store.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nsd_prep.cache import in_use
from nsd_prep.dataset import Dataset
from nsd_prep.extraction import Kind, extract_sessions
from nsd_prep.files import Folder
from nsd_prep.inputs import Inputs, load_inputs, load_masks, load_noise_ceilings, map_trials
from nsd_prep.noise_ceiling import noise_ceiling
from nsd_prep.parameters import Preparation, parameters
from nsd_prep.prepared import Prepared
from nsd_prep.published import REPETITIONS
from nsd_prep.regions import BUILT_IN_REGIONS
from nsd_prep.run import Run, plan_run
from nsd_prep.single_trials import SingleTrialOptions, open_single_trials
from nsd_prep.stages.single_trials import SubjectTrials, write_single_trials
from nsd_prep.store import Store

#: Labels of a voxel, beside its place in the dataset's files.
_PLACES = ("voxel_x", "voxel_y", "voxel_z", "nifti_i", "nifti_j", "nifti_k")


def open_nsd(
    root: str | Path,
    *,
    preparation: Preparation | None = None,
    cache_dir: Path | None = None,
    regions_file: Path | None = None,
    accept_nsd_terms: bool = False,
) -> "NSD":
    """Open a copy of the Natural Scenes Dataset.

    Parameters
    ----------
    root : str or Path
        A folder in the official or the flat layout, or an address: ``s3://BUCKET[/PREFIX]``,
        ``https://HOST[/PREFIX]``.
    preparation : {"b1", "b2", "b3"}, optional
        Which betas, in the official layout; b3 where nothing is given.
    cache_dir : Path, optional
        Where what is extracted is kept, also for the flow; ``nsd-prep`` in the user's cache folder
        where nothing is given.
    regions_file : Path, optional
        TOML file with regions of your own.
    accept_nsd_terms : bool
        That NSD's terms are accepted, for NSD's own bucket.

    Returns
    -------
    NSD
        Nothing but ``dataset.json`` was read.

    Raises
    ------
    MissingFilesError, InputFileError, ParameterError
        There is no dataset, or it does not say what it is.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsd-prep"
    asked = {
        "nsd_root": str(root),
        "betas": preparation,
        "cache_dir": Path(cache_dir or default),
        "output_dir": Path(cache_dir or default),
        "regions_file": regions_file,
        "accept_nsd_terms": accept_nsd_terms,
    }
    return NSD(asked)


class NSD:
    """A copy of the Natural Scenes Dataset, as `open_nsd` opens it.

    Attributes
    ----------
    dataset : Dataset
        Where its files are.
    subjects : tuple of int
        1-based.
    sessions : dict of int to int
        Number of sessions of each subject.
    regions : tuple of str
        The built-in regions, and those of the regions file.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._own: tuple[str, ...] = ()
        run = self._run(None, ["V1"])
        self.dataset: Dataset = run.dataset()
        self.subjects = self.dataset.subjects
        self.sessions = dict(self.dataset.sessions)
        self._own = tuple(name for name in run.regions if name not in BUILT_IN_REGIONS)
        self.regions = (*BUILT_IN_REGIONS, *self._own)

    def __repr__(self) -> str:
        """Return the name, the place and what there is."""
        sessions = ", ".join(f"{subject}: {n}" for subject, n in self.sessions.items())
        return (
            f"<{self.dataset.name} ({self.dataset.layout} layout, {self.dataset.preparation}) at "
            f"{self._asked['nsd_root']}>\nsessions of each subject: {sessions}\n"
            f"regions: {', '.join(self.regions)}"
        )

    def _run(self, subject: int | None, regions: list[str], **options: Any) -> Run:
        subjects = None if subject is None else [subject]
        asked = self._asked | {"subjects": subjects, "regions": regions} | options
        asked["regions"] = [name for name in regions if name not in self._own]
        if subject is not None and not set(regions) & set(self._own):
            asked["regions_file"] = None
        return plan_run(**parameters(**asked))

    def trials(self, subject: int) -> pd.DataFrame:
        """Return every trial in which a subject saw a shared image.

        Parameters
        ----------
        subject : int
            1-based.

        Returns
        -------
        DataFrame
            As `nsd_prep.trials.shared_trials`; ``usable`` where the image was seen three times.
        """
        return map_trials(self._run(subject, ["V1"])).table

    def voxels(self, subject: int, region: str) -> xr.Dataset:
        """Return the voxels of a region, with their ncsnr and noise ceiling.

        Parameters
        ----------
        subject : int
            1-based.
        region : str
            One of `regions`.

        Returns
        -------
        Dataset, dim voxel
            ncsnr, noise_ceiling (percent, of three repetitions averaged), and the voxels' places:
            voxel_x, voxel_y, voxel_z in the betas' files and nifti_i, nifti_j, nifti_k in NIfTI
            volumes, 0-based.
        """
        run = self._run(subject, [region])
        selection = load_masks(run, subject).selection
        voxels = selection.regions[region]
        x, y, z = np.unravel_index(voxels, selection.grid)
        ncsnr = load_noise_ceilings(run, subject).volume.values.flat[voxels]
        places = dict(zip(_PLACES, (x, y, z, z, y, x), strict=True))
        return xr.Dataset(
            {
                "ncsnr": ("voxel", ncsnr),
                "noise_ceiling": ("voxel", noise_ceiling(ncsnr, REPETITIONS)),
            },
            coords={name: ("voxel", place) for name, place in places.items()},
            attrs={"subject": subject, "region": region},
        )

    def responses(self, subject: int, region: str) -> xr.DataArray:
        """Return a region's responses to the images that a subject saw three times.

        Read once, and kept in the cache.

        Parameters
        ----------
        subject : int
            1-based.
        region : str
            One of `regions`.

        Returns
        -------
        DataArray of float32, dims (image, repetition, voxel)
            z-scores over the trials of a session. Labels: nsd_id (0-based) on image; the variables
            of `voxels` on voxel.

        Raises
        ------
        PreflightError, ExtractionError
            All that is wrong with the inputs, or the sessions that could not be read.
        """
        run, inputs, records, store = self._extract(subject, [region], "shared")
        prepared = Prepared(run, inputs, records, store)
        table = prepared.voxels[prepared.voxels["region"] == region]
        labels = (*_PLACES, "ncsnr", "noise_ceiling", "sessions_without_data")
        return xr.DataArray(
            prepared.repetitions(subject, region),
            dims=("image", "repetition", "voxel"),
            coords={"nsd_id": ("image", prepared.nsd_ids)}
            | {name: ("voxel", table[name].to_numpy()) for name in labels},
            name="response",
            attrs=prepared.attributes | {"region": region},
        )

    def single_trials(
        self, subject: int, regions: list[str], options: SingleTrialOptions | None = None
    ) -> xr.Dataset:
        """Return all trials of a subject, opened lazily from the cache.

        Parameters
        ----------
        subject : int
            1-based.
        regions : list of str
            Some of `regions`; a voxel stands once, also where they overlap.
        options : SingleTrialOptions, optional
            Normalisation, images, averaging and storage.

        Returns
        -------
        Dataset
            As `nsd_prep.single_trials.open_single_trials`.
        """
        _, inputs, records, store = self._extract(subject, regions, "all")
        trials = SubjectTrials(inputs, subject, records, store)
        options = options or SingleTrialOptions()
        folder = Folder(path=self._cache)
        made = write_single_trials(trials, options, f"trials/{'-'.join(regions)}", folder)
        name = next(name for name in made.files if not name.endswith(".csv"))
        path = folder.path / name
        zarr = [parent for parent in path.parents if parent.suffix == ".zarr"]
        return open_single_trials(zarr[-1] if zarr else path)

    @property
    def _cache(self) -> Path:
        return Path(self._asked["cache_dir"]).expanduser().absolute()

    def _extract(
        self, subject: int, regions: list[str], kind: Kind
    ) -> tuple[Run, Inputs, list[Any], Store]:
        run = self._run(subject, regions, single_trials=kind == "all")
        inputs = load_inputs(run)
        store = Store(path=self._cache / "responses")
        with in_use(self._cache):
            return run, inputs, extract_sessions(inputs.requests(store, (kind,))), store
