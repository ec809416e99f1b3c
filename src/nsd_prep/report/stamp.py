"""When, by which run and with which version a page was made: apart from all else on it."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nsd_prep.core.atomic import written_whole

_STAMP: Final = re.compile(rb"(?<=<!-- stamp -->).*?(?=<!-- /stamp -->)", re.DOTALL)


def stamp_page(page: Path, facts: Mapping[str, str]) -> None:
    """Fill the page's last lines: when, by which run and with which version it was made.

    Nothing else on the page depends on these, and `without_stamp` takes them out again, so that
    the same results have the same digest on another day.

    Parameters
    ----------
    page : Path
        ``index.html`` of a report.
    facts : mapping of str to str
        Short names and values, such as ``{"Run": "eight subjects", "Written": "2026-03-01"}``;
        they replace what was there.
    """
    content = page.read_bytes()
    filled = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    stamped = f'<dl class="facts">{filled}</dl>' if facts else ""
    with written_whole(page) as partial:
        partial.write_bytes(_STAMP.sub(lambda _: stamped.encode("utf-8"), content, count=1))


def is_stamped(page: Path) -> bool:
    """Return whether a page has such lines: it was made by an earlier run."""
    content = page.read_bytes()
    return without_stamp(content) != content


def without_stamp(content: bytes) -> bytes:
    """Return a page as it was before `stamp_page`, for its digest.

    Parameters
    ----------
    content : bytes
        Of ``index.html``.

    Returns
    -------
    bytes
        The same for the same report, whenever it was written.
    """
    return _STAMP.sub(b"", content, count=1)
