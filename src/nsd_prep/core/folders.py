"""What lies in a folder."""

from pathlib import Path


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what a folder holds by a pattern, in the order of names, but for hidden files.

    Their names begin with a dot: systems and copying programs leave ``.DS_Store`` and ``._NAME``.
    """
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
