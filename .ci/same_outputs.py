#!/usr/bin/env python3
"""Compare the outputs of two runs on one dataset, made with other versions of libraries.

    same_outputs.py FOLDER OTHER

Tables and images are the same bytes; netCDF files, whose headers differ between versions of HDF5,
hold the same values, coordinates and attributes; Parquet, which names the version of its library,
holds the same table; the tables of the report and of checks, whose last digits rest on the order in
which a library sums, agree to one part in a million. Pictures, the pages that hold them and the
manifest, which states the versions, are not compared. Every file that is not the same bytes is
named. Ends with status 1 where outputs differ.
"""

import filecmp
import sys
from pathlib import Path

import pandas as pd
import xarray as xr

#: Drawn by Matplotlib, or stating versions and times.
NOT_COMPARED = ("manifest.json", "*.html", "*.md", "*.pdf", "report/**/*.png", ".*")


def outputs(folder: Path) -> set[Path]:
    """Return the paths, relative to a folder, of the outputs that are compared."""
    skipped = {path for pattern in NOT_COMPARED for path in folder.rglob(pattern)}
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path not in skipped and "cache" not in path.parts
    }


def relation(path: Path, one: Path, other: Path) -> str:
    """Return how an output of both folders agrees; empty where it does not."""
    pair = (one / path, other / path)
    if filecmp.cmp(*pair, shallow=False):
        return "same bytes"
    if path.suffix == ".nc":
        with xr.open_dataset(pair[0]) as first, xr.open_dataset(pair[1]) as second:
            types = [
                {name: each.dtype for name, each in file.variables.items()}
                for file in (first, second)
            ]
            return "same values" if first.identical(second) and types[0] == types[1] else ""
    if path.suffix == ".parquet":
        first, second = (pd.read_parquet(file) for file in pair)
        return "same values" if first.equals(second) else ""
    if path.suffix == ".csv" and ("report" in path.parts or path.name == "checks.csv"):
        first, second = (pd.read_csv(file) for file in pair)
        try:
            pd.testing.assert_frame_equal(first, second, rtol=1e-6, atol=1e-7)
        except AssertionError:
            return ""
        return "same but for a last digit"
    return ""


def main(one: Path, other: Path) -> int:
    """Print how the outputs agree; return 1 where one differs or is in one folder alone."""
    first, second = outputs(one), outputs(other)
    relations = {str(path): relation(path, one, other) for path in first & second}
    for path in sorted(path for path, how in relations.items() if how not in ("", "same bytes")):
        print(f"{path}: {relations[path]}")
    wrong = sorted(
        [*map(str, first ^ second), *(path for path in relations if not relations[path])]
    )
    for path in wrong:
        print(f"{path}: {'DIFFERS' if path in relations else 'IN ONE ALONE'}")
    n_same = sum(how == "same bytes" for how in relations.values())
    print(f"{n_same} of {len(first | second)} outputs are the same bytes.")
    return 1 if wrong or not n_same else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
