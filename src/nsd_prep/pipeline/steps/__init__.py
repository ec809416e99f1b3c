"""The steps of a run: each writes files and returns `StepOutput`; `step_table` names them.

`report` is not imported here: what it draws and regresses with takes seconds to import.
"""
