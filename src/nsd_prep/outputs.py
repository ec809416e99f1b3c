"""Where everything lies in an output folder, and which of it belongs to a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nsd_prep.files import Folder, read_whole, sha256_of_bytes, write_json
from nsd_prep.report.stamp import without_stamp

TRIALS: Final = "trials.csv"
SPLIT: Final = "train_test_split.csv"
VOXELS: Final = "voxels.csv"
NOISE_CEILINGS: Final = "noise_ceilings.csv"
CHECKS: Final = "checks.csv"
SESSIONS: Final = "sessions.csv"
MANIFEST: Final = "manifest.json"
REPORT: Final = "report"
PAGE: Final = f"{REPORT}/index.html"
SINGLE_TRIALS: Final = "trials"
BRAINSCORE: Final = "brainscore"
#: What runs have written since the last manifest, so that a failed run's files are known too.
_OWNED: Final = ".nsd-prep-owned.json"


def assembly_file(region: str) -> str:
    """Return the name of a region's assembly."""
    return f"Allen2022.{region}.nc"


class OutputFolder(Folder):
    """The folder that a run writes into."""

    def digest_of(self, name: str) -> str:
        """Return the SHA-256 of a file; of the report's page without its date and run."""
        if name != PAGE:
            return super().digest_of(name)
        return sha256_of_bytes(without_stamp(read_whole(self.path / name)))


class Ownership:
    """Which files of an output folder runs have written, with their SHA-256.

    Parameters
    ----------
    folder : Folder
        The output folder. Its manifest, if any, is replaced: a manifest is there only when all
        that it lists is.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._owned: dict[str, str] = _listed(folder.path / _OWNED)
        manifest = folder.path / MANIFEST
        outputs = _listed(manifest).get("outputs", {})
        self._owned |= {name: output["sha256"] for name, output in outputs.items()}
        self.claim({})
        manifest.unlink(missing_ok=True)

    def claim(self, files: Mapping[str, str]) -> None:
        """Note that a run has written files (names in the folder, SHA-256)."""
        self._owned |= files
        write_json(self._folder.path / _OWNED, self._owned)

    def remove_all_but(self, files: Mapping[str, str]) -> list[str]:
        """Remove what earlier runs wrote and this one did not, where nobody has changed it since.

        Parameters
        ----------
        files : mapping of str to str
            What this run made: names in the folder, SHA-256.

        Returns
        -------
        list of str
            The names of what was removed.
        """
        removed = []
        for name in sorted(set(self._owned) - set(files)):
            path = self._folder.path / name
            if self._folder.holds({name: self._owned[name]}):
                path.unlink()
                removed.append(name)
                _remove_empty_folders(path.parent, self._folder.path)
        (self._folder.path / _OWNED).unlink(missing_ok=True)
        return removed


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
