"""A run: parameters, preflight, what was prepared, one function a step, what a run owns."""
