"""The report of a run: one page that says what was run, what came out, and whether to trust it."""
