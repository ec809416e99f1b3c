"""What Brain-Score takes: train and test assemblies, stimulus sets, packages, plugin, upload."""
