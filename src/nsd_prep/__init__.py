"""The Natural Scenes Dataset, turned into neural assemblies that models are compared with."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsd_prep.interface import NSD, open_nsd

__all__ = ["NSD", "__version__", "open_nsd"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first used: it takes a second."""
    if name in ("NSD", "open_nsd"):
        from nsd_prep import interface

        return getattr(interface, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
