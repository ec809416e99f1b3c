"""Every label of every atlas of a dataset, by name, and how many sites subjects have of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nsd_prep.core.errors import MissingFilesError
from nsd_prep.core.threads import each_in_threads
from nsd_prep.dataset.layout import Dataset
from nsd_prep.dataset.regions import ROI_VOLUMES, RegionDefinition
from nsd_prep.dataset.source import naming_addresses
from nsd_prep.dataset.space import HEMISPHERES, Hemisphere
from nsd_prep.dataset.surfaces import read_vertex_labels
from nsd_prep.dataset.volumes import read_label_table, read_label_volume

#: Columns of a table of labels, in order; the last three are numbers of sites.
COLUMNS: Final = ("subject", "atlas", "label", "name", "lh", "rh", "sites")


class _Atlas(NamedTuple):
    """The files of an atlas of a subject: of both hemispheres, or one bilateral file."""

    subject: int
    name: str
    files: tuple[Path, ...]
    table: Path | None


def label_table_of_atlases(dataset: Dataset, subjects: Sequence[int]) -> pd.DataFrame:
    """Return the labels of all atlases that a dataset has, in its space.

    Parameters
    ----------
    dataset : Dataset
        In which space labels are read, is said by `Dataset.space`.
    subjects : sequence of int
        1-based.

    Returns
    -------
    DataFrame
        A row for each subject and label above 0. Columns: subject (1-based), atlas, label (its
        number), name ("" where the atlas has no table of names, or the table not the label), and
        lh, rh and sites (Int64): how many sites of each hemisphere and of both have the label; lh
        and rh are missing where a subject has a bilateral file alone. A label that another
        subject has, or the table of names, and this one lacks, has 0 sites.

    Raises
    ------
    MissingFilesError
        The dataset has no atlas.
    InputFileError, OSError
        A file cannot be read, or does not hold labels.
    """
    with naming_addresses(dataset.source):
        atlases = _atlases(dataset, subjects)
        if not atlases:
            example = dataset.roi_file(
                subjects[0], ROI_VOLUMES[0], "lh" if dataset.is_surface else None
            )
            raise MissingFilesError(
                f"The dataset {dataset.root} has no region labels of the subjects "
                f"{', '.join(map(str, subjects))} in the space {dataset.space}: expected files "
                f"like {example}; download them."
            )
        counted = each_in_threads(lambda atlas: _count(dataset, atlas), atlases)
    table = pd.concat(counted, ignore_index=True)
    return _with_lacking(table, atlases)


def labelled_regions(
    dataset: Dataset, subject: int, regions: Mapping[str, RegionDefinition]
) -> dict[str, RegionDefinition]:
    """Return the regions of which a subject has the labels; all of them where it has none."""
    sides = HEMISPHERES if dataset.is_surface else (*HEMISPHERES, None)
    atlases = {atlas for definition in regions.values() for atlas in definition.labels}
    lacking = {
        atlas
        for atlas in atlases
        if not any(dataset.exists(dataset.roi_file(subject, atlas, side)) for side in sides)
    }
    labelled = {
        name: definition
        for name, definition in regions.items()
        if lacking.isdisjoint(definition.labels)
    }
    return labelled or dict(regions)


def _atlases(dataset: Dataset, subjects: Iterable[int]) -> list[_Atlas]:
    """List the atlases that are there: by subject, then by name."""
    atlases = []
    for subject in subjects:
        paths = {
            name: [dataset.roi_file(subject, name, side) for side in HEMISPHERES]
            for name in sorted({*ROI_VOLUMES, *_others(dataset, subject)}, key=str.casefold)
        }
        bilateral = {
            name: dataset.roi_file(subject, name) for name in paths if not dataset.is_surface
        }
        tables = {name: dataset.label_table(subject, name) for name in paths}
        small = [*bilateral.values(), *(path for path in tables.values() if path is not None)]
        dataset.source.fetch_files([*(path for pair in paths.values() for path in pair), *small])
        for name, pair in paths.items():
            if all(map(dataset.exists, pair)):
                files = tuple(pair)
            elif name in bilateral and dataset.exists(bilateral[name]):
                files = (bilateral[name],)
            else:
                continue
            table = tables[name]
            there = table is not None and dataset.exists(table)
            atlases.append(_Atlas(subject, name, files, table if there else None))
    return atlases


def _others(dataset: Dataset, subject: int) -> set[str]:
    """Return atlases beside NSD's own that lie in a folder of a subject's labels."""
    example = dataset.roi_file(subject, "any", "lh")
    ending = example.name.removeprefix("lh.any")
    names = {path.name.removesuffix(ending) for path in example.parent.glob(f"lh.*{ending}")}
    return {name.removeprefix("lh.") for name in names} if not dataset.is_surface else set()


def _count(dataset: Dataset, atlas: _Atlas) -> pd.DataFrame:
    names: dict[int, str] = {}
    if atlas.table is not None:
        named = read_label_table(atlas.table, dataset.read)
        names = {label: name for name, label in named.items() if label > 0}
    counts = [_numbers(dataset, path) for path in atlas.files]
    labels = sorted({*names, *(label for counts_of_side in counts for label in counts_of_side)})
    columns = {
        "subject": atlas.subject,
        "atlas": atlas.name,
        "label": np.array(labels, dtype=np.int64),
        "name": [names.get(label, "") for label in labels],
    }
    per_side = [[counts_of_side.get(label, 0) for label in labels] for counts_of_side in counts]
    table = pd.DataFrame(columns)
    sides: tuple[Hemisphere, ...] = HEMISPHERES
    for index, side in enumerate(sides):
        values = per_side[index] if len(per_side) == len(sides) else [pd.NA] * len(labels)
        table[side] = pd.array(values, dtype="Int64")
    table["sites"] = pd.array(np.sum(per_side, axis=0, dtype=np.int64), dtype="Int64")
    return table


def _numbers(dataset: Dataset, path: Path) -> dict[int, int]:
    """Return how many sites of a file have each label above 0."""
    labels: NDArray[np.int16]
    if dataset.is_surface:
        labels = read_vertex_labels(path, dataset.read)
    else:
        labels = read_label_volume(path, dataset.read).values
    counts = np.bincount(labels[labels > 0])
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def _with_lacking(table: pd.DataFrame, atlases: Sequence[_Atlas]) -> pd.DataFrame:
    """Add a row of 0 sites for each label that a subject lacks and another has."""
    keys = ["atlas", "label", "name"]
    labels = table[keys].drop_duplicates()
    there = pd.DataFrame(
        [(atlas.subject, atlas.name, len(atlas.files) == 2) for atlas in atlases],
        columns=["subject", "atlas", "by_side"],
    )
    full = there.merge(labels, on="atlas").merge(
        table, on=["subject", *keys], how="left", validate="one_to_one"
    )
    lacking = full["sites"].isna()
    full.loc[lacking, "sites"] = 0
    for side in HEMISPHERES:
        full.loc[lacking & full["by_side"], side] = 0
    order = full["atlas"].str.casefold()
    full = full.assign(order=order).sort_values(
        ["order", "label", "name", "subject"], ignore_index=True
    )
    return full[list(COLUMNS)]


def as_text(table: pd.DataFrame, sites: str = "voxels", width: int | None = None) -> str:
    """Return a table of labels for the terminal: a line a label, a column a subject.

    A cell is the number of sites of both hemispheres, left+right; ``-`` where the subject lacks
    the label. What a cell means is said above the table.

    Parameters
    ----------
    table : DataFrame
        As `label_table_of_atlases` gives it.
    sites : str
        What is counted: voxels or vertices.
    width : int, optional
        Columns of the terminal; subjects that have no room are in further tables below.
    """
    has_sides = table["lh"].notna()
    by_side = table["lh"].astype(str) + "+" + table["rh"].astype(str)
    cells = by_side.where(has_sides, table["sites"].astype(str))
    cells = cells.where(table["sites"] > 0, "-")
    named = table.assign(cell=cells, subject=table["subject"].map("subj{:02d}".format))
    wide = named.pivot(index=["atlas", "label", "name"], columns="subject", values="cell")
    order = table[["atlas", "label", "name"]].drop_duplicates()
    wide = wide.reindex(pd.MultiIndex.from_frame(order)).fillna("no file")
    counted = "left+right" if has_sides.any() else "both hemispheres together"
    parts = [_printed(part) for part in _parts_that_fit(wide, width)]
    return "\n\n".join([f"Number of {sites}, {counted}; -: the subject lacks the label", *parts])


def _parts_that_fit(wide: pd.DataFrame, width: int | None) -> Iterator[pd.DataFrame]:
    """Yield the columns of a table in as few parts as fit into a width, a column at least each."""
    start = 0
    for end in range(2, wide.shape[1] + 1):
        longest = max(map(len, _printed(wide.iloc[:, start:end]).splitlines()))
        if width is not None and longest > width:
            yield wide.iloc[:, start : end - 1]
            start = end - 1
    yield wide.iloc[:, start:]


def _printed(wide: pd.DataFrame) -> str:
    return wide.reset_index().rename_axis(columns=None).to_string(index=False)
