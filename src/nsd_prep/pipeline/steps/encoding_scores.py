"""The scores of the encoding baseline, for a process that needs nothing else of the report."""

from collections.abc import Mapping

import pandas as pd
import xarray as xr
from threadpoolctl import threadpool_limits

from nsd_prep.analysis.encoding import score_encoding, shift_of_ids
from nsd_prep.analysis.features import Features
from nsd_prep.assemblies.assembly_file import opened_assembly
from nsd_prep.core.records import Folder
from nsd_prep.pipeline.steps.brainscore import train_and_test_files


def encoding_scores(
    folder: Folder,
    suffix: str,
    space: str,
    features: Mapping[int, Features],
    *,
    may_be_shifted: bool,
) -> tuple[pd.DataFrame, int | None]:
    """Return `score_encoding` of the train and test assemblies, and `shift_of_ids` where asked."""
    train_file, test_file = train_and_test_files(folder, suffix, space)
    # One thread of BLAS, beside others that work: and the same sums whatever they do.
    with (
        threadpool_limits(1, "blas"),
        opened_assembly(train_file) as train,
        opened_assembly(test_file, drop_variables=_neuroid_coordinates(train)) as test,
    ):
        scores = score_encoding(train, test, features)
        shift = shift_of_ids(train, test, features, scores) if may_be_shifted else None
        return scores, shift


def _neuroid_coordinates(assembly: xr.DataArray) -> list[str]:
    return [str(name) for name, values in assembly.coords.items() if "neuroid" in values.dims]
