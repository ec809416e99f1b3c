"""The scores of the encoding baseline, for a process that needs nothing else of the report."""

from collections.abc import Mapping

import pandas as pd
from threadpoolctl import threadpool_limits

from nsd_prep.analysis.encoding import score_encoding, shift_of_ids
from nsd_prep.analysis.features import Features
from nsd_prep.core.records import Folder
from nsd_prep.pipeline.steps.brainscore import opened_train_and_test


def encoding_scores(
    folder: Folder,
    suffix: str,
    space: str,
    features: Mapping[int, Features],
    *,
    may_be_shifted: bool,
) -> tuple[pd.DataFrame, int | None]:
    """Return `score_encoding` of the train and test assemblies, and `shift_of_ids` where asked."""
    # One thread of BLAS, beside others that work: and the same sums whatever they do.
    with (
        threadpool_limits(1, "blas"),
        opened_train_and_test(folder, suffix, space) as assemblies,
    ):
        scores = score_encoding(*assemblies, features)
        shift = shift_of_ids(*assemblies, features, scores) if may_be_shifted else None
        return scores, shift
