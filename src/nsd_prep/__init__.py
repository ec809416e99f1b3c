"""The Natural Scenes Dataset, turned into neural assemblies that models are compared with."""

__version__ = "0.2.0"
