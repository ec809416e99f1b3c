"""The command ``regions``: the labels of a dataset's atlases."""

import sys
from pathlib import Path
from typing import Literal

from nsd_prep.flows.options import Flag


def regions(
    root: str | Path,
    *,
    subjects: list[int] | None = None,
    space: Literal["func1pt8mm", "func1mm", "fsaverage", "nativesurface"] = "func1pt8mm",
    format: Literal["table", "csv", "json"] = "table",
    accept_nsd_terms: Flag = False,
) -> int:
    """List every label of every atlas in a dataset, with its number of voxels in each subject.

    The names are those that a file of regions takes (docs/regions.md). In the table a cell is the
    number of voxels in the left and in the right hemisphere, and '-' where a subject lacks the
    label.

    Args:
        root: The dataset, a folder or an address.
        subjects: The subjects to list; all by default.
        space: Where labels are read; on surfaces, vertices are counted instead of voxels.
        format: What to print: a table, or CSV or JSON with a line or an object for each label of
            each subject.
        accept_nsd_terms: Accept the terms of NSD, for its own bucket.
    """
    from nsd_prep.core.progress import Stages
    from nsd_prep.core.terminal import console
    from nsd_prep.dataset.atlases import as_text, label_table_of_atlases
    from nsd_prep.dataset.layout import chosen_subjects
    from nsd_prep.pipeline.cache import in_use_by
    from nsd_prep.sources.opening import open_dataset

    dataset = open_dataset(str(root), accept_nsd_terms=accept_nsd_terms or None, space=space)
    with in_use_by(root), Stages().stage("reading labels"):
        table = label_table_of_atlases(dataset, chosen_subjects(dataset, subjects))
    if format == "csv":
        print(table.to_csv(index=False, lineterminator="\n"), end="")  # noqa: T201
    elif format == "json":
        print(table.to_json(orient="records", indent=1))  # noqa: T201
    else:
        width = console().width if sys.stdout.isatty() else None
        print(as_text(table, dataset.noun.plural, width))  # noqa: T201
    return 0
