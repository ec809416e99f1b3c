"""The stages of a run after extraction: each takes `Prepared`, writes files and returns `Made`.

`report` is not imported here: what it draws and regresses with takes seconds to import.
"""
