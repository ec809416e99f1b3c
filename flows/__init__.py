"""Prefect flows: what is done, in which order."""
