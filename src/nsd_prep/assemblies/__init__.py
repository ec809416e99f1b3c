"""What Brain-Score takes: assemblies, train and test, stimulus sets, packages."""
