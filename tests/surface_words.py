"""What texts about surfaces may not say."""

from collections.abc import Iterable

#: What has the word in its name.
_NAMES = ("invalid_voxels=", "voxels.csv")


def words_of_voxels(texts: Iterable[str]) -> list[str]:
    """Return the texts that speak of voxels, apart from the names of what is called so."""
    return [
        text
        for text in texts
        if text.lower().count("voxel") > sum(text.count(name) for name in _NAMES)
    ]
