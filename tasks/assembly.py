"""Assembly: tables, the assembly of each region, and what Brain-Score packages."""

from prefect import task

from nsd_prep.pipeline.steps import assemblies, brainscore, tables
from nsd_prep.tasks.policy import cached

write_tables = task(name="write-tables", **cached())(tables.write_tables)
assemble_region = task(name="assemble-region", task_run_name="assemble-{region}", **cached())(
    assemblies.assemble_region
)
make_train_and_test = task(name="make-train-and-test", **cached(2))(brainscore.make_train_and_test)
make_stimulus_sets = task(name="make-stimulus-sets", **cached())(brainscore.make_stimulus_sets)
