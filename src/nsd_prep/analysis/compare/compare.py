"""Compare two assemblies, or two output folders: theirs and ours."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nsd_prep.analysis.compare.comparison import Comparison, Difference, FileComparison
from nsd_prep.analysis.compare.reasons import close, guess_reasons
from nsd_prep.analysis.compare.shifts import are_those_of
from nsd_prep.analysis.compare.sides import Side, in_common, rows_of_voxels, side_of
from nsd_prep.assemblies.assembly import PRESENTATION_COORDINATES, neuroid_coordinates, places_of
from nsd_prep.assemblies.assembly_file import read_assembly
from nsd_prep.core.counts import counted
from nsd_prep.core.errors import InputFileError, ParameterError
from nsd_prep.core.folders import visible
from nsd_prep.core.progress import current_stage

#: Values that differ by less count as equal: float32 sums in another order differ by up to 6e-6.
TOLERANCE: Final = 1e-5
_NAMED: Final = 5


def compare(first: Path, second: Path, tolerance: float = TOLERANCE) -> Comparison:
    """Compare two assemblies, or the assemblies of the same names in two folders.

    Parameters
    ----------
    first, second : Path
        Two ``.nc`` files, or two folders that hold some.
    tolerance : float
        Largest difference of values that count as equal.

    Returns
    -------
    Comparison
        With guesses at the reasons.

    Raises
    ------
    ParameterError
        One is a file and the other a folder, one is not there, or no file is in both; or the
        tolerance is no number of 0 or more.
    InputFileError
        A file is not an assembly.
    """
    if not 0 <= tolerance < float("inf"):
        raise ParameterError(
            f"The tolerance must be 0 or more, found {tolerance}: give one such as 1e-5."
        )
    for path in (first, second):
        if not path.exists():
            raise ParameterError(
                f"{path} does not exist: expected an assembly (.nc) or a folder of assemblies."
            )
    if first.is_dir() != second.is_dir():
        raise ParameterError(
            f"{first} and {second} are not of the same kind: give two files or two folders."
        )
    if first.is_file():
        name = first.name if first.name == second.name else f"{first.name} and {second.name}"
        return Comparison(first, second, (), (), (_compare_files(name, first, second, tolerance),))
    names = [{path.name for path in visible(folder, "*.nc")} for folder in (first, second)]
    both = sorted(names[0] & names[1])
    if not both:
        raise ParameterError(
            f"{first} and {second} have no assembly name in common: found "
            f"{', '.join(sorted(names[0])) or 'none'} and "
            f"{', '.join(sorted(names[1])) or 'none'}; give two files instead."
        )
    trials = _trials(first, second)
    stage = current_stage()
    stage.total = len(both)
    compared = []
    for name in both:
        stage.note = name
        compared.append(_compare_files(name, first / name, second / name, tolerance, trials))
        stage.advance()
    return Comparison(
        first,
        second,
        tuple(sorted(names[0] - names[1])),
        tuple(sorted(names[1] - names[0])),
        tuple(compared),
    )


def _compare_files(
    name: str, first: Path, second: Path, tolerance: float, trials: pd.DataFrame | None = None
) -> FileComparison:
    return compare_assemblies(name, _read(first), _read(second), tolerance, trials)


def _trials(*folders: Path) -> pd.DataFrame | None:
    """Read the table of trials that a run wrote beside its assemblies, where one of them has it."""
    for folder in folders:
        try:
            table = pd.read_csv(folder / "trials.csv")[["subject", "nsd_id", "session"]]
        except (OSError, ValueError, KeyError):
            continue
        if pd.api.types.is_integer_dtype(table["subject"]):  # as version 0.4 wrote it
            table["subject"] = table["subject"].map("subj{:02d}".format)
        return table
    return None


def _read(path: Path) -> xr.DataArray:
    try:
        assembly = read_assembly(path)
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"{path} cannot be read as an assembly ({error}): expected netCDF with one variable."
        ) from error
    needed = [*PRESENTATION_COORDINATES, *neuroid_coordinates(places_of(assembly))]
    missing = [coordinate for coordinate in needed if coordinate not in assembly.coords]
    if missing or assembly.dims[:2] != ("presentation", "neuroid"):
        raise InputFileError(
            f"{path} has dimensions {assembly.dims} and lacks the coordinates "
            f"{', '.join(missing) or 'none'}: expected (presentation, neuroid) with "
            f"{', '.join(needed)}."
        )
    return assembly


def compare_assemblies(
    name: str,
    first: xr.DataArray,
    second: xr.DataArray,
    tolerance: float = TOLERANCE,
    trials: pd.DataFrame | None = None,
) -> FileComparison:
    """Compare two assemblies.

    Parameters
    ----------
    name : str
        What to call them.
    first, second : DataArray, dims (presentation, neuroid[, time_bin])
        With the coordinates of `nsd_prep.assemblies.assembly`.
    tolerance : float
        Largest difference of values that count as equal, and of noise ceilings relative to them.
    trials : DataFrame, optional
        subject (``subj01``), nsd_id (0-based) and session (1-based) of each trial: guesses then
        name sessions.

    Returns
    -------
    FileComparison
        With guesses at the reasons.
    """
    if places_of(first) != places_of(second):
        raise InputFileError(
            f"The assemblies {name} are of a volume and of surfaces: expected both in one space; "
            "compare assemblies of runs with the same space=."
        )
    second, orders = _in_order_of(first, second)
    groups = [_groups(assembly) for assembly in (first, second)]
    differences = []
    voxels_only: tuple[list[str], list[str]] = ([], [])
    nobody = [np.zeros(assembly.sizes["neuroid"], np.bool_) for assembly in (first, second)]
    all_sides = {
        key: (
            side_of(first, groups[0].get(key, nobody[0])),
            side_of(second, groups[1].get(key, nobody[1])),
        )
        for key in dict.fromkeys([*groups[0], *groups[1]])
    }
    for key, sides in all_sides.items():
        common = rows_of_voxels(sides[0].coordinates, sides[1].coordinates)
        for only, side, columns in zip(voxels_only, sides, common, strict=True):
            alone = np.delete(side.coordinates, columns, axis=0)
            only += [f"{' '.join(key)} {tuple(voxel)}" for voxel in alone.tolist()]
        own = trials
        if trials is not None:
            own = trials[trials["subject"] == key[0]]
        difference = _difference(*key, *sides, tolerance, own)
        if difference.voxels_differ:
            subjects = [
                other[0]
                for other, (whole, _) in all_sides.items()
                if other[1] == key[1] and other != key and are_those_of(whole, *sides, tolerance)
            ]
            if subjects:
                listed = " and ".join(subjects)
                reason = f"its responses in the second are those of {listed} in the first"
                difference = replace(difference, reasons=(reason,))
        differences.append(difference)
    ids = [set(assembly["nsd_id"].to_numpy().tolist()) for assembly in (first, second)]
    return FileComparison(
        name,
        (_form(first), _form(second)),
        tuple(_problems(first, second, voxels_only, tolerance)),
        tuple(sorted(ids[0] - ids[1])),
        tuple(sorted(ids[1] - ids[0])),
        tuple(differences),
        tuple(orders),
    )


def _in_order_of(first: xr.DataArray, second: xr.DataArray) -> tuple[xr.DataArray, list[str]]:
    """Put the images and voxels of the second in the first's order, where they are the same."""
    orders = []
    for dimension, names, what in (
        ("presentation", ["nsd_id"], "images"),
        ("neuroid", ["subject", "region", *places_of(first)], "voxels"),
    ):
        keys = [
            pd.MultiIndex.from_arrays([assembly[name].to_numpy() for name in names])
            for assembly in (first, second)
        ]
        if keys[0].equals(keys[1]) or not all(key.is_unique for key in keys):
            continue
        rows = keys[1].get_indexer(keys[0])
        if len(keys[0]) == len(keys[1]) and (rows >= 0).all():
            second = second.isel({dimension: rows})
            orders.append(f"the same {what} in another order")
    return second, orders


def _groups(assembly: xr.DataArray) -> dict[tuple[str, str], NDArray[np.bool_]]:
    table = pd.DataFrame({name: assembly[name].to_numpy() for name in ("subject", "region")})
    members = {}
    for (subject, region), rows in table.groupby(["subject", "region"], sort=False).indices.items():
        member = np.zeros(len(table), dtype=np.bool_)
        member[rows] = True
        members[str(subject), str(region)] = member
    return members


def _form(assembly: xr.DataArray) -> str:
    return f"({', '.join(map(str, assembly.dims))}) {assembly.shape} {assembly.dtype}"


def _difference(
    subject: str,
    region: str,
    first: Side,
    second: Side,
    tolerance: float,
    trials: pd.DataFrame | None,
) -> Difference:
    x, y = in_common(first, second)
    absolute = np.abs(x - y)
    beyond = ~close(x, y, tolerance)
    known = np.isfinite(x) & np.isfinite(y)
    varies = known.sum() > 1 and x[known].std() > 0 and y[known].std() > 0
    same = (
        x.shape == first.values.shape == second.values.shape
        and first.rows_of_image == second.rows_of_image
        and not beyond.any()
        and _same_numbers(first.noise_ceiling, second.noise_ceiling, tolerance)
    )
    return Difference(
        subject,
        region,
        x.shape[0],
        x.shape[1],
        int(beyond.any(axis=1).sum()),
        int(beyond.any(axis=0).sum()),
        float(absolute[known].max()) if known.any() else float("nan"),
        float(np.median(absolute[known])) if known.any() else float("nan"),
        float(np.corrcoef(x[known], y[known])[0, 1]) if varies else float("nan"),
        () if same else tuple(guess_reasons(first, second, tolerance, trials)),
    )


def _same_numbers(first: NDArray[Any], second: NDArray[Any], tolerance: float) -> bool:
    return first.shape == second.shape and bool(
        np.allclose(first, second, tolerance, tolerance, equal_nan=True)
    )


def _problems(
    first: xr.DataArray,
    second: xr.DataArray,
    voxels_only: tuple[list[str], list[str]],
    tolerance: float,
) -> list[str]:
    differences = []
    if _form(first) != _form(second):
        differences.append(f"form: {_form(first)} and {_form(second)}")
    names = [list(map(str, assembly.coords)) for assembly in (first, second)]
    if names[0] != names[1]:
        differences.append(f"coordinates: {', '.join(names[0])} and {', '.join(names[1])}")
    for coordinate in (name for name in names[0] if name in names[1]):
        values = [assembly[coordinate].to_numpy() for assembly in (first, second)]
        if values[0].dtype.kind != values[1].dtype.kind:
            differences.append(f"{coordinate}: of type {values[0].dtype} and {values[1].dtype}")
        elif values[0].shape != values[1].shape:
            differences.append(f"{coordinate}: {len(values[0])} and {len(values[1])} values")
        else:
            same = values[0] == values[1]
            if values[0].dtype.kind == "f":
                same |= np.isclose(values[0], values[1], tolerance, tolerance, equal_nan=True)
            wrong = np.flatnonzero(~same)
            if len(wrong):
                differences.append(
                    f"{coordinate}: {len(wrong)} of {len(values[0])} values differ, the first "
                    f"{values[0][wrong[0]]} and {values[1][wrong[0]]}"
                )
    for which, only in zip(("first", "second"), voxels_only, strict=True):
        if only:
            listed = ", ".join(only[:_NAMED]) + (" and so on" if len(only) > _NAMED else "")
            differences.append(f"{counted(len(only), 'voxel')} only in the {which}: {listed}")
    return differences
