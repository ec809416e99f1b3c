"""The stages of a run after extraction: each takes `Prepared`, writes files and returns `StepOutput`.

`report` is not imported here: what it draws and regresses with takes seconds to import.
"""
