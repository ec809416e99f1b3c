"""Which files of an output folder belong to runs, and which of them to this one."""

import json
import logging
from pathlib import Path
from typing import Any, Final

from nsd_prep.core.atomic import write_json
from nsd_prep.core.check import Check
from nsd_prep.core.records import Folder, StepOutput
from nsd_prep.pipeline.outputs import MANIFEST

_logger: Final = logging.getLogger(__name__)
#: What runs have written since the last manifest, so that a failed run's files are known too.
_OWNED: Final = ".nsd-prep-owned.json"
_NAMED: Final = 8


class Ownership:
    """What this run has made, and what runs before it have left, in an output folder.

    Parameters
    ----------
    folder : Folder
        The output folder. Its manifest, if any, is removed: it is there only when all that it
        lists is.

    Attributes
    ----------
    files : dict of str to str
        SHA-256 of what this run has made, by its name in the folder.
    checks : list of Check
        All that this run has made.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.files: dict[str, str] = {}
        self.checks: list[Check] = []
        manifest = folder.path / MANIFEST
        outputs = _listed(manifest).get("outputs", {})
        self._earlier = _listed(folder.path / _OWNED)
        self._earlier |= {name: output["sha256"] for name, output in outputs.items()}
        self._record()
        manifest.unlink(missing_ok=True)

    def add(self, made: StepOutput) -> StepOutput:
        """Note what this run has made, and return it."""
        self.files |= made.files
        self.checks += made.checks
        if made.files:
            self._record()
        return made

    def remove_earlier(self) -> list[str]:
        """Remove what earlier runs made and this one did not, where nobody has changed it since.

        A line of the log names what was removed.

        Returns
        -------
        list of str
            The names of what was removed.
        """
        removed = []
        for name in sorted(set(self._earlier) - set(self.files)):
            path = self._folder.path / name
            if self._folder.holds({name: self._earlier[name]}):
                path.unlink()
                removed.append(name)
                _remove_empty_folders(path.parent, self._folder.path)
        (self._folder.path / _OWNED).unlink(missing_ok=True)
        if removed:
            _logger.info(
                "Removed from %s what an earlier run made and this one did not: %s.",
                self._folder.path,
                ", ".join(removed[:_NAMED])
                + (f" and {len(removed) - _NAMED} more" if len(removed) > _NAMED else ""),
            )
        return removed

    def _record(self) -> None:
        write_json(self._folder.path / _OWNED, self._earlier | self.files)


def _listed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remove_empty_folders(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
