"""Translates a file into a file; the application sees the volume at no time.

Fields of `job.json`: those of `translate` without the geometry, `source_file`, `output_file`
(endings as `io` knows them) and `frame` (of a series of volumes, from 0). Events as there; "done"
carries `output` and `provenance`. The output appears whole or not at all, and replaces no file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UnwritableTarget
from .translate import translated

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises UnwritableTarget where there is an output file already."""
    from ...images import io

    source, output = Path(task.job["source_file"]), Path(task.job["output_file"])
    _check_free(output)
    io.check_target(output)
    made = translated(task, io.read_volume(source, task.job.get("frame")))
    task.check()
    _check_free(output)  # much may have happened in the meantime
    io.write_volumes([(output, made.volume)], made.attributes(source.name))
    return {"output": str(output), "provenance": made.provenance}


def _check_free(output: Path) -> None:
    if os.path.exists(output):
        raise UnwritableTarget(
            f"{output.name} is there already and was left as it is: move it away, or choose "
            "another folder for the results."
        )
