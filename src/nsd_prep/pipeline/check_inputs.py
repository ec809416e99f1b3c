"""A look at all that a run needs, which leaves nothing behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsd_prep.pipeline.descriptions import describe_inputs
from nsd_prep.pipeline.inputs import Inputs
from nsd_prep.pipeline.outputs import OutputFolder
from nsd_prep.pipeline.ownership import Ownership
from nsd_prep.pipeline.preflight import load_inputs
from nsd_prep.pipeline.run import Run
from nsd_prep.pipeline.step import Execution


def check_inputs(run: Run, execution: Execution | None = None) -> tuple[Inputs, str]:
    """Return the inputs of a run, and what is said of them.

    Raises
    ------
    ParameterError, PreflightError
        As `nsd_prep.pipeline.composition.run_pipeline`.
    """
    with _new_folders_removed(run.cache_dir, run.output_dir):
        inputs = load_inputs(run, execution)
        owned = Ownership(OutputFolder(path=run.output_dir), run, inputs)
        owned.require_that_all_belongs_together()
        return inputs, describe_inputs(run, inputs) + owned.account()


@contextmanager
def _new_folders_removed(*folders: Path) -> Iterator[None]:
    """Remove those that are made, to see whether they can be, and are empty at the end.

    Of a remote dataset the cache is kept.
    """
    new = {path for folder in folders for path in (folder, *folder.parents) if not path.exists()}
    try:
        yield
    finally:
        for path in sorted(new, key=lambda path: len(path.parts), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
