"""One run at a time in an output folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsd_prep.core.locks import only_one_in


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, made where it is missing, until the block ends.

    Raises
    ------
    ParameterError
        Another run is writing into it.
    OutputError
        It cannot be written.
    """
    sentence = (
        f"Another run is writing into {folder}: wait until it ends, or choose another output_dir=."
    )
    with only_one_in(folder, sentence):
        yield
