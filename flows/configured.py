"""Whether the user has configured a server of Prefect's: by the environment, or in a file."""

import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

API_URL: Final = "PREFECT_API_URL"
#: By which settings, in a profile or in a project's file, an address may be given.
_SETTINGS_OF_AN_ADDRESS: Final = frozenset(
    {"api", "home", "profiles_path", "prefect_api_url", "prefect_home", "prefect_profiles_path"}
)


def may_be_configured() -> bool:
    """Look whether a server may be configured, without Prefect, which takes seconds to import."""
    if "prefect" in sys.modules:
        return is_configured()
    return (
        bool(os.environ.get(API_URL))
        or _may_say(Path(".env"), lambda text: "prefect" in text.lower())
        or _may_say(Path("prefect.toml"), lambda text: _sets_address(tomllib.loads(text)))
        or _may_say(Path("pyproject.toml"), lambda text: _sets_address(_of_project(text)))
        or any(_may_say(file, _profile_sets_address) for file in _profiles())
    )


def _may_say(file: Path, says: Callable[[str], bool]) -> bool:
    """Return whether a file says something, or may, since it cannot be read or understood."""
    try:
        return says(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, AttributeError, TypeError):  # a table is something else
        return True


def _of_project(text: str) -> dict[str, Any]:
    tool: dict[str, Any] = tomllib.loads(text).get("tool", {})
    return dict(tool.get("prefect", {}))


def _sets_address(settings: Mapping[str, Any]) -> bool:
    """Return whether settings say where a server is, or where more settings are."""
    return any(name.lower() in _SETTINGS_OF_AN_ADDRESS for name in settings)


def _profiles() -> list[Path]:
    with suppress(RuntimeError):  # a user without a home
        home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
        return [Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")]
    return []


def _profile_sets_address(text: str) -> bool:
    profiles = tomllib.loads(text)
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    return _sets_address(profiles.get("profiles", {}).get(active, {}))


def is_configured() -> bool:
    """Return whether Prefect's settings name a server."""
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())
