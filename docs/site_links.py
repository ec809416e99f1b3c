"""A hook of the documentation site: the README, which pages refer to, is not a page of it."""

import re
from typing import Any

_README = re.compile(r"\[([^\]]+)\]\(\.\./README\.md[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page's text with links to the README as plain words."""
    return _README.sub(r"\1", markdown)
