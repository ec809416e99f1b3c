"""The Natural Scenes Dataset, turned into neural assemblies that models are compared with."""

from importlib.metadata import version

__version__ = version("nsd-prep")
