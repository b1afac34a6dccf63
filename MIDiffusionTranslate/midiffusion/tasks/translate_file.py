"""Translates a file into a file; the application sees the volume at no time.

Fields of `job.json`: those of `translate` without the geometry, and `source_file`, `output_file`
(endings as `io` knows them). Events as there; "done" carries `output` and `provenance`. The output
appears whole or not at all, and replaces no file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnwritableTarget
from .translate import translated

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises UnwritableTarget where there is an output file already."""
    from .. import io

    source, output = Path(task.job["source_file"]), Path(task.job["output_file"])
    _check_free(output)
    io.check_target(output)
    volume = io.read_volume(source)
    volume.check()
    made = translated(task, volume)
    task.check()
    _check_free(output)  # much may have happened in the meantime
    # "synthetic" first: a NIfTI file keeps no more than the first 79 bytes.
    named = {"synthetic": 1, "source": source.name, **made.provenance}
    io.write_volumes(
        [(output, made.volume)], {f"MIDiffusion.{key}": value for key, value in named.items()}
    )
    return {"output": str(output), "provenance": made.provenance}


def _check_free(output: Path) -> None:
    if os.path.exists(output):
        raise UnwritableTarget(
            f"{output.name} is there already and was left as it is: move it away, or choose "
            "another folder for the results."
        )
