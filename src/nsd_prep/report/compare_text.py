"""A comparison of assemblies as text for a terminal."""

import math
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nsd_prep.analysis.compare.comparison import Comparison, Difference
from nsd_prep.analysis.compare.reasons import LOOKED_AT

_NAMED: Final = 5


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
            parts.append(Text(f"Only in the {which}: {', '.join(only)}"))
    for file in comparison.files:
        if file.equal:
            parts.append(Text(f"{file.name}: equal, {file.forms[0]}"))
            continue
        parts.append(Text(f"{file.name}: different"))
        parts += [Text(f"  {problem}") for problem in file.problems]
        for which, images in (
            ("first", file.images_only_in_first),
            ("second", file.images_only_in_second),
        ):
            if images:
                listed = ", ".join(map(str, images[:_NAMED]))
                more = " and so on" if len(images) > _NAMED else ""
                parts.append(Text(f"  {len(images)} images only in the {which}: {listed}{more}"))
        parts.append(_table(file.differences))
        parts += [
            Text(f"  Likely ({', '.join(where)}): {reason}.")
            for reason, where in file.reasons.items()
        ]
        if not file.reasons:
            parts.append(Text(f"  No known reason fits; considered: {'; '.join(LOOKED_AT)}."))
    parts.append(Text("Equal." if comparison.equal else "Not equal."))
    return Group(*parts)


def _table(differences: Iterable[Difference]) -> Table:
    table = Table()
    for column in ("subject", "region", "images differ", "voxels differ"):
        table.add_column(column)
    for column in ("largest", "typical", "r"):
        table.add_column(column, justify="right")
    for difference in differences:
        if not difference.n_voxels:  # of one side alone: named above
            continue
        table.add_row(
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
    return table
