"""A look at all that a run needs, which leaves nothing behind."""

from nsd_prep.core.locks import new_folders_removed
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
    with new_folders_removed(run.cache_dir, run.output_dir):  # but for a remote dataset's mirror
        inputs = load_inputs(run, execution)
        owned = Ownership(OutputFolder(path=run.output_dir), run, inputs)
        owned.require_that_all_belongs_together()
        return inputs, describe_inputs(run, inputs) + owned.account()
