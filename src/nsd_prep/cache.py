"""The cache of a run: how large it is, and how it is cleared."""

import shutil
from pathlib import Path
from typing import Final

from nsd_prep.errors import MissingFilesError, ParameterError

#: What a cache folder holds, and what for.
CONTENTS: Final = {
    "responses": "extracted responses, a file for each region and session",
    "voxels": "voxels and ncsnr of the regions",
    "records": "records of tasks",
}


def cache_sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return how many files and bytes each part of a cache has.

    Parameters
    ----------
    folder : Path
        A cache folder, or an output folder that holds one.

    Returns
    -------
    dict of str to (int, int)
        Number of files and of bytes of each part of `CONTENTS` that is there.

    Raises
    ------
    MissingFilesError
        There is no cache.
    """
    sizes = {}
    for part in CONTENTS:
        files = [path for path in (cache_folder(folder) / part).rglob("*") if path.is_file()]
        if files:
            sizes[part] = (len(files), sum(path.stat().st_size for path in files))
    return sizes


def clear_cache(folder: Path) -> None:
    """Remove all that a cache holds; what else lies in its folder stays.

    Parameters
    ----------
    folder : Path
        A cache folder, or an output folder that holds one.

    Raises
    ------
    MissingFilesError
        There is no cache.
    ParameterError
        It is a link, which is not followed.
    """
    cache = cache_folder(folder)
    if cache.is_symlink():
        raise ParameterError(f"{cache} is a link: give the folder that it leads to.")
    for part in CONTENTS:
        shutil.rmtree(cache / part, ignore_errors=True)
    for path in cache.glob("extracted-*.json"):
        path.unlink(missing_ok=True)


def cache_folder(folder: Path) -> Path:
    """Return the cache folder that a path means: itself, or the folder ``cache`` in it.

    Parameters
    ----------
    folder : Path
        A cache folder, or an output folder that holds one.

    Returns
    -------
    Path
        A folder with a part of `CONTENTS` in it.

    Raises
    ------
    MissingFilesError
        There is none.
    """
    for candidate in (folder, folder / "cache"):
        if any((candidate / part).is_dir() for part in CONTENTS):
            return candidate
    raise MissingFilesError(
        f"There is no cache in {folder}: give the folder of --cache-dir, or an output folder."
    )
