"""The small synthetic NSD that stands beside an output folder, for trying things out."""

from pathlib import Path

from nsd_prep.core.atomic import remove_stale_partials
from nsd_prep.core.errors import OutputError, ParameterError


def synthetic_beside(output_dir: Path, nsd_root: Path | None = None) -> Path:
    """Return the root of a small synthetic NSD, written beside the output where it is missing.

    It is ``synthetic-nsd`` in the folder that holds the output folder.

    Raises
    ------
    ParameterError
        A dataset (`nsd_root`) was given too.
    OutputError
        It cannot be written.
    """
    if nsd_root is not None:
        raise ParameterError(
            f"Both synthetic data and a dataset are requested ({nsd_root}): leave out one of the "
            "two."
        )
    root = Path(output_dir).expanduser().absolute().parent / "synthetic-nsd"
    remove_stale_partials(root.parent, root.name)
    description = root / "dataset.json"
    if not description.exists():
        from nsd_prep.synthetic.writer import write_synthetic_nsd  # takes long to import

        try:
            write_synthetic_nsd(root, scale="demo")
        except (OSError, OutputError):
            if not description.exists():  # no other run has written it meanwhile
                raise
    return root
