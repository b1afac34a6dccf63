"""Every failure a user can meet.

Each error carries a stable `code` (for programs: worker events, `--json`) and, as its text, one
sentence for the user: what is wrong and what to do about it.
"""

from __future__ import annotations

import errno


class MIDiffusionError(Exception):
    """Base of every error the library raises on purpose."""

    code: str = "error"


class InvalidVolume(MIDiffusionError):
    """The volume can't be translated: shape, values or geometry."""

    code = "invalid-volume"


class InvalidParameter(MIDiffusionError):
    """A parameter of a call is out of its range."""

    code = "invalid-parameter"


class UnreadableFile(MIDiffusionError):
    """A file is missing, or is not what its name promises."""

    code = "unreadable-file"


class UnwritableTarget(MIDiffusionError):
    """The result can't be written where it was asked for."""

    code = "unwritable-target"


class DiskFull(MIDiffusionError):
    """The disk, or a limit on file sizes, ended a write."""

    code = "disk-full"


class UnknownModel(MIDiffusionError):
    """No model has this id, and no model folder this path."""

    code = "unknown-model"


class InvalidCard(MIDiffusionError):
    """A model card breaks the schema."""

    code = "invalid-card"


class CorruptModel(MIDiffusionError):
    """A model's weights are not those its card describes."""

    code = "corrupt-model"


class LicenceNotAccepted(MIDiffusionError):
    """The user has not accepted the terms under which a model may be used."""

    code = "licence-not-accepted"


class OutOfMemory(MIDiffusionError):
    """Even one slice at a time does not fit."""

    code = "out-of-memory"


class DeviceUnavailable(MIDiffusionError):
    """The computing device asked for does not exist here."""

    code = "device-unavailable"


class DependencyMissing(MIDiffusionError):
    """A Python package that is needed is not installed."""

    code = "dependency-missing"


class Cancelled(MIDiffusionError):
    """The user ended the run."""

    code = "cancelled"


class WorkerDied(MIDiffusionError):
    """The worker process ended without an answer."""

    code = "worker-died"


class InvalidData(MIDiffusionError):
    """Training data that can't be used."""

    code = "invalid-data"


class DownloadFailed(MIDiffusionError):
    """A model could not be fetched: no network, no such file, a server that stops."""

    code = "download-failed"


def disk_is_full(error: OSError) -> bool:
    """Whether a write failed for want of space (or for a limit on it)."""
    # numpy reports a short write without an errno.
    return error.errno in (None, errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class UnlikelySource(UserWarning):
    """A source unlike anything the model has seen, or lost in noise; the result is not to be relied
    on."""
