"""Trials, voxels and responses of a subject as labelled xarray objects."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from nsd_prep.core.coordinates import description_of
from nsd_prep.core.tables import variables
from nsd_prep.pipeline.inputs import Inputs, Trials
from nsd_prep.pipeline.prepared import Prepared
from nsd_prep.single_trials.voxels import trial_voxels

_RESPONSES: Final = "response: z-score over the trials of a session"


def labelled_trials(trials: Trials, subject: int) -> xr.Dataset:
    """Return the columns of a subject's table of trials, dims (trial,)."""
    table = trials.all_trials[subject]
    trial = {"trial": table.index.to_numpy()}
    return xr.Dataset(variables(table), trial, {"subject": subject, **trials.split})


def labelled_voxels(inputs: Inputs, subject: int) -> xr.Dataset:
    """Return the columns of `trial_voxels` of the regions that a subject has, dims (voxel,)."""
    selection = inputs.masks[subject].selection
    ceilings = inputs.noise_ceilings[subject]
    regions = {name: voxels for name, voxels in selection.regions.items() if len(voxels)}
    table = trial_voxels(regions, selection.space, ceilings.ncsnr.values, ceilings.splits)
    attributes = {"subject": subject} | selection.space.attributes()
    voxel = {"voxel": table.index.to_numpy()}
    return xr.Dataset(variables(table), voxel, attributes).set_coords(selection.space.columns)


def labelled_responses(
    prepared: Prepared, subject: int, attributes: Mapping[str, Any]
) -> xr.DataArray:
    """Return the responses of the one region that is prepared, dims (image, repetition, voxel)."""
    ((name, definition),) = prepared.regions.items()
    responses = prepared.repetitions(subject, name)
    trials = prepared.trials
    shown = trials[trials["usable"]].pivot(index="nsd_id", columns="repetition")
    voxels = prepared.voxels.drop(columns=["subject", "region", "kept"])
    of_images: dict[str, tuple[Any, Any]] = {
        "nsd_id": ("image", prepared.nsd_ids),
        "is_train": ("image", prepared.is_train),
        "repetition": ("repetition", np.arange(responses.shape[1])),
        "session": (("image", "repetition"), shown["session"]),
        "trial_in_session": (("image", "repetition"), shown["trial_in_session"]),
    }
    coordinates = {name: (*given, description_of(name)) for name, given in of_images.items()}
    of_region = {"subject": subject, "region": name, "region_definition": definition}
    return xr.DataArray(
        responses,
        coords=coordinates | variables(voxels.rename_axis("voxel")),
        dims=("image", "repetition", "voxel"),
        name="response",
        attrs={"long_name": _RESPONSES, "units": "1", **attributes, **of_region},
    ).set_xindex("nsd_id")
