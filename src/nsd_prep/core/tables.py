"""Tables of pandas as variables of xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsd_prep.core.coordinates import description_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def variables(*frames: pd.DataFrame) -> dict[str, tuple[str, NDArray[Any], dict[str, str]]]:
    """Return the columns of tables as variables along the dimension that their index names.

    Each has its ``long_name`` and ``units`` as attributes.

    They are NumPy's arrays, text as objects: with pyarrow installed, text in a table is an array
    of Arrow's, which xarray takes and then cannot select from.
    """
    return {
        str(column): (str(frame.index.name), frame[column].to_numpy(), description_of(str(column)))
        for frame in frames
        for column in frame
    }
