"""Says which device a run would take, and how much memory is free there.

Field of `job.json`: `device`. "done" carries `device` (its name for people) and `free` (bytes, or
None where it isn't known).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """See the module. Raises DeviceUnavailable."""
    from ...runtime import device

    chosen = device.choose_device(task.job["device"])
    return {"device": device.describe(chosen), "free": device.free_bytes(chosen)}
