"""The commands of ``nsd-prep`` beside ``run`` and ``trials``, a module each.

The docstring of a command's function is its help.
"""
