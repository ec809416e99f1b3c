"""The faults of a network, which may pass: `OSError`, as a disk's are."""


class RemoteFaultError(OSError):
    """A server does not answer, or not as it should; a second try may succeed."""

    def __str__(self) -> str:
        """Return the message alone: OSError would look for an errno in it."""
        return str(self.args[0])


class ChangedFileError(RemoteFaultError):
    """A remote file is another one than when its size and ETag were looked up."""
