"""What the assemblies look like: representational geometry, noise ceilings, voxels; in numbers."""
