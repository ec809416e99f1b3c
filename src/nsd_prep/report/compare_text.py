"""A comparison of assemblies as text for a terminal."""

import math
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType

from nsd_prep.analysis.compare.comparison import Comparison, Difference
from nsd_prep.analysis.compare.reasons import LOOKED_AT
from nsd_prep.core.counts import counted
from nsd_prep.core.terminal import FittingTable, Prose

_NAMED: Final = 5
#: Heads of the table of differences, and whether texts stand below.
_COLUMNS: Final = (
    ("subject", True),
    ("region", True),
    ("images differ", False),
    ("voxels differ", False),
    ("largest difference", False),
    ("median difference", False),
    ("r", False),
)


def as_text(comparison: Comparison) -> RenderableType:
    """Return a comparison as tables and sentences for a terminal (`rich.print`).

    Equal files take one line each.
    """
    parts: list[RenderableType] = []
    for which, only in (
        ("first", comparison.only_in_first),
        ("second", comparison.only_in_second),
    ):
        if only:
            parts.append(Prose(f"Only in the {which}: {', '.join(only)}"))
    for file in comparison.files:
        if file.equal:
            parts.append(Prose(f"{file.name}: equal, {file.forms[0]}"))
            continue
        parts.append(Prose(f"{file.name}: different"))
        parts += [Prose(f"  {problem}") for problem in file.problems]
        for which, images in (
            ("first", file.images_only_in_first),
            ("second", file.images_only_in_second),
        ):
            if images:
                listed = ", ".join(map(str, images[:_NAMED]))
                more = " and so on" if len(images) > _NAMED else ""
                found = counted(len(images), "image")
                parts.append(Prose(f"  {found} only in the {which}: {listed}{more}"))
        parts.append(_table(file.differences))
        parts += [
            Prose(f"  Likely ({', '.join(where)}): {reason}.")
            for reason, where in file.reasons.items()
        ]
        if not file.reasons:
            parts.append(Prose(f"  No known reason fits; considered: {'; '.join(LOOKED_AT)}."))
    parts.append(Prose("Equal." if comparison.equal else "Not equal."))
    return Group(*parts)


def _table(differences: Iterable[Difference]) -> FittingTable:
    rows = [
        (
            difference.subject,
            difference.region,
            f"{difference.images_differ} of {difference.n_images}",
            f"{difference.voxels_differ} of {difference.n_voxels}",
            *(
                "-" if math.isnan(number) else f"{number:{form}}"
                for number, form in (
                    (difference.largest, ".3g"),
                    (difference.typical, ".3g"),
                    (difference.correlation, ".5f"),
                )
            ),
        )
        for difference in differences
        if difference.n_voxels  # those of one side alone are named above
    ]
    return FittingTable(_COLUMNS, rows)
