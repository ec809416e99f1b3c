"""A Zarr store that is read lazily, and notices that another one was moved into its place."""

from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from nsd_prep.single_trials.held import Held, version_of


class HeldStore(LocalStore):
    """A store on a disk, for reading: nothing is given once another one has its name.

    Parameters
    ----------
    root : Path or str
        Its folder.
    """

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(Path(root).absolute(), read_only=read_only)
        self._version = version_of(self.root)
        self._held: Held | None = Held(self.root)
        self._require_current()

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """Read a value, as `zarr.abc.store.Store.get`."""
        try:
            return await super().get(*args, **kwargs)
        finally:
            self._require_current()

    def get_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Read a value, as some versions of zarr do where no other read waits."""
        try:
            return super().get_sync(*args, **kwargs)
        finally:
            self._require_current()

    async def get_partial_values(self, *args: Any, **kwargs: Any) -> Any:
        """Read parts of values, as `zarr.abc.store.Store.get_partial_values`."""
        try:
            return await super().get_partial_values(*args, **kwargs)
        finally:
            self._require_current()

    def _require_current(self) -> None:
        if self._held is None:  # in another process
            self._held = Held(self.root)
        self._held.require_current(self.root, self._version)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
