"""MATLAB's files."""

import inspect
import io
from collections.abc import Sequence
from typing import Any

import scipy.io


def load_mat(content: bytes, names: Sequence[str]) -> dict[str, Any]:
    """Return variables of a MAT v5 file; a damaged one makes SciPy raise almost anything."""
    # SciPy warns of sparse matrices, from 1.18 on, where it is not asked for arrays.
    can_be_asked = "spmatrix" in inspect.signature(scipy.io.loadmat).parameters
    options = {"spmatrix": False} if can_be_asked else {}
    variables = scipy.io.loadmat(io.BytesIO(content), variable_names=list(names), **options)
    if "__header__" not in variables:  # SciPy below 1.16 takes zeros for an empty MAT v4 file
        raise ValueError("it has no header")
    return dict(variables)
