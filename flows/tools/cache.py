"""The command ``cache``: the size of a cache, and clearing it."""

from pathlib import Path

from nsd_prep.flows.options import Flag


def cache(folder: Path, *, clear: Flag = False) -> int:
    """Show the size of a run's cache, or clear it; the next run fills it again.

    Args:
        folder: A cache or output folder.
        clear: Remove its contents.
    """
    from nsd_prep.core.counts import counted
    from nsd_prep.pipeline.cache import CONTENTS, cache_sizes, clear_cache
    from nsd_prep.pipeline.summary import size_as_text

    for part, (n_files, n_bytes) in cache_sizes(folder).items():
        files = counted(n_files, "file")
        print(f"{part}: {size_as_text(n_bytes)} in {files} ({CONTENTS[part]})")  # noqa: T201
    if clear:
        clear_cache(folder)
        print("cleared")  # noqa: T201
    return 0
