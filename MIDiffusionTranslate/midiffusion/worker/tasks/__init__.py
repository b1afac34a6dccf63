"""What the worker process can do: one module per task, named in `job.json`.

Each has `run(task) -> dict`, which does the work and returns the fields of the "done" event; see
`task.Task` for what it is given. Modules import what they compute with only when they run.
"""

NAMES = ("translate", "translate_file", "compare", "probe", "download", "train")
