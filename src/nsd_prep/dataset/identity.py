"""What tells whether a remote file is still the same, without reading it."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class RemoteIdentity(BaseModel):
    """What tells whether a remote file is still the same.

    Attributes
    ----------
    path : str
        Its URL.
    bytes : int
        Size.
    etag : str
        As the server gives it; "" where it gives none.
    modified : str
        When it was last modified, for a file without an ETag; else "".
    """

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int
    etag: str
    modified: str = ""

    @property
    def is_absent(self) -> bool:
        """Whether this says that there was no such file."""
        return self.bytes < 0

    @classmethod
    def absent(cls, url: str) -> "RemoteIdentity":
        """Return what says that there was no such file."""
        return cls(path=url, bytes=-1, etag="")

    def is_version_of(self, other: "RemoteIdentity") -> bool:
        """Return whether both are the same version of a file, whatever their sizes."""
        return (self.etag, self.modified) == (other.etag, other.modified)

    @property
    def condition(self) -> dict[str, str]:
        """The condition of a request; a weak ETag never matches, by RFC 9110."""
        return {"if_match": self.etag} if self.etag and not self.etag.startswith("W/") else {}

    @classmethod
    def of(cls, url: str, meta: Any) -> "RemoteIdentity":
        """Return the identity that obstore's metadata of a file give."""
        etag = meta["e_tag"] or ""
        modified = "" if etag else meta["last_modified"].isoformat()
        return cls(path=url, bytes=meta["size"], etag=etag, modified=modified)
