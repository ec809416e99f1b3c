"""Packages for Brain-Score: files, index, provenance, plugin, upload."""
