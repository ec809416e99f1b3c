"""The Natural Scenes Dataset, turned into neural assemblies that models are compared with."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsd_prep.dataset.regions import RegionDefinition
    from nsd_prep.notebook import NSD, open_nsd
    from nsd_prep.pipeline.prepare import prepare

__all__ = ["NSD", "RegionDefinition", "__version__", "open_nsd", "prepare"]
__version__ = "0.4.0"

#: Modules of the public names, imported at their first use: the version alone costs nothing.
_MODULES = {
    "NSD": "notebook",
    "RegionDefinition": "dataset.regions",
    "open_nsd": "notebook",
    "prepare": "pipeline.prepare",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
