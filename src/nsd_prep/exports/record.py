"""What an export has written: a manifest, by which an interrupted one resumes where it stopped."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from nsd_prep import __version__
from nsd_prep.core.atomic import remove_stale_partials, write_json
from nsd_prep.core.digests import as_recorded, recorded_digest
from nsd_prep.core.errors import ParameterError
from nsd_prep.core.records import Folder

MANIFEST: Final = "manifest.json"
_KIND: Final = "nsd-prep export"


class ExportFolder:
    """A folder that an export writes into.

    Parameters
    ----------
    path : Path
        The folder; it is made where it is missing.
    like : str
        What is exported.
    made_from : mapping
        What all files of the folder have in common: the dataset, and how voxels were chosen.

    Attributes
    ----------
    n_resumed : int
        Files that were there, whole, from the same trials.

    Raises
    ------
    ParameterError
        It holds something else than such an export, or one that was made from something else.
    """

    def __init__(self, path: Path, like: str, made_from: Mapping[str, Any]) -> None:
        self.path, self._like = path, like
        self._made_from = dict(made_from)
        self._folder = Folder(path=path)
        self._outputs: dict[str, dict[str, Any]] = {}
        # Names of files that an export began to write; it noted them before.
        self._unfinished: set[str] = set()
        self.n_resumed = 0
        self._read()
        if path.is_dir():
            remove_stale_partials(path)

    def _read(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ParameterError(f"{self.path} is a file: give a folder for the export.")
        file = self.path / MANIFEST
        if not file.exists():
            return
        try:
            content = json.loads(file.read_bytes())
            kind, like = content["kind"], content["like"]
            outputs = {str(name): dict(entry) for name, entry in content["outputs"].items()}
            unfinished = set(map(str, content.get("unfinished", [])))
        except (ValueError, KeyError, TypeError, AttributeError):
            kind, like, outputs, unfinished = None, None, {}, set()
        if kind != _KIND or like != self._like:
            found = f"an export like {like}" if kind == _KIND else "something else"
            raise ParameterError(
                f"{self.path} holds {found} ({MANIFEST}), expected nothing or an export like "
                f"{self._like}: choose another folder."
            )
        if (there := content.get("made_from", {})) != self._made_from:
            names = sorted({*there, *self._made_from})
            differences = ", ".join(
                f"{name}: {there.get(name)} there, {self._made_from.get(name)} in this export"
                for name in names
                if there.get(name) != self._made_from.get(name)
            )
            raise ParameterError(
                f"{self.path} holds an export that cannot be combined with this one "
                f"({differences}): choose another folder."
            )
        self._outputs, self._unfinished = outputs, unfinished

    def write(self, names: Iterable[str], source: str, write: Callable[[], None]) -> None:
        """Write files, where they are not there from the same source.

        Parameters
        ----------
        names : iterable of str
            Of the files that `write` writes.
        source : str
            Digest of what they are made of.
        write : callable
            Writes them, each whole or not at all. Where it fails, those that it wrote are removed;
            where the process is killed, the next export knows them by the manifest.

        Raises
        ------
        ParameterError
            A file is there that no export has written.
        """
        names = list(names)
        entries = {name: self._outputs.get(name, {}) for name in names}
        if all(entry.get("source") == source for entry in entries.values()) and self._folder.holds(
            {name: recorded_digest(entry) for name, entry in entries.items()}
        ):
            self.n_resumed += len(names)
            return
        for name in names:
            if not self._is_own(name) and name not in self._unfinished:
                raise ParameterError(
                    f"{self.path / name} exists and was not written by an export: move it away, or "
                    "choose another folder."
                )
        self._unfinished |= set(names)
        self._note()
        try:
            write()
        except BaseException:
            self._remove_unfinished(names)
            raise
        self._unfinished -= set(names)
        for name in names:
            path = self.path / name
            self._outputs[name] = {
                **as_recorded(self._folder.digest_of(name)),
                "bytes": path.stat().st_size,
                "source": source,
            }
        self._note()

    def _is_own(self, name: str) -> bool:
        """Return whether a file is not there, or is one that an export wrote to its end."""
        if not (self.path / name).exists():
            return True
        entry = self._outputs.get(name, {})
        return bool(entry) and self._folder.holds({name: recorded_digest(entry)})

    def _remove_unfinished(self, names: Iterable[str]) -> None:
        """Remove what a writer that failed wrote of some files; no error of that hides its own."""
        with suppress(OSError):
            for name in names:
                if not self._is_own(name):
                    (self.path / name).unlink()
                if not (self.path / name).exists():
                    self._outputs.pop(name, None)
                self._unfinished.discard(name)
            if self._outputs or self._unfinished:
                self._note()
            else:
                (self.path / MANIFEST).unlink()
                self.path.rmdir()  # where nothing else is in it

    def _note(self) -> None:
        manifest = {
            "kind": _KIND,
            "like": self._like,
            "made_from": self._made_from,
            "software": {"nsd-prep": __version__},
            "outputs": dict(sorted(self._outputs.items())),
        }
        if self._unfinished:
            manifest["unfinished"] = sorted(self._unfinished)
        write_json(self.path / MANIFEST, manifest)

    def files(self) -> list[Path]:
        """Return all files that the manifest lists, and the manifest."""
        return [self.path / name for name in (*sorted(self._outputs), MANIFEST)]
