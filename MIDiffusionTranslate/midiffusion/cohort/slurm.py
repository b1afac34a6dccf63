"""Submits a cohort as an array of shards through submitit (extra `cluster`)."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any

from ..arguments import UsageError
from ..errors import DependencyMissing, InvalidParameter
from ..runtime import console

DEFAULT_SHARDS = 8


def submit(argv: list[str], args: argparse.Namespace) -> int:
    """`--submit`: one task for each shard, with the same command line; returns at once for Slurm,
    and when all are done for "local".

    Raises:
        DependencyMissing: submitit is not installed.
    """
    if args.shard:
        raise UsageError("--submit makes the shards itself: leave --shard out.")
    shards = args.shards if args.shards is not None else DEFAULT_SHARDS
    if shards < 1:
        raise InvalidParameter(f"--shards is {shards}: it must be at least 1.")
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            "--submit needs the package submitit: pip install 'midiffusion[cluster]'."
        ) from error
    logs = Path(args.out).resolve() / "logs"
    executor = submitit.AutoExecutor(folder=logs, cluster=args.submit)
    executor.update_parameters(name="midiffusion", **_parameters(args.slurm))
    command = _resolved(argv, [args.source, args.out, str(args.model_folder)])
    tasks = [[*command, "--shard", f"{n}/{shards}"] for n in range(1, shards + 1)]
    try:
        jobs = executor.map_array(run_shard, tasks)
    except (RuntimeError, OSError) as error:
        raise InvalidParameter(f"Slurm did not take the array ({error}).") from error
    console.say(f"{len(jobs)} tasks, first job {jobs[0].job_id}; logs in {logs}.")
    if args.submit == "slurm":
        return 0
    return min(sum(job.result() for job in jobs), 99)


def run_shard(argv: list[str]) -> int:
    """One task of the array."""
    from .batch_command import main

    return main(argv)


def _resolved(argv: list[str], paths: list[str]) -> list[str]:
    """The command line without what concerns the submission, and with absolute `paths`: a task may
    start in another folder."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        name, _, value = word.partition("=")
        if name in ("--submit", "--shards", "--slurm"):
            if not value:
                next(words, None)
            continue
        kept.append(str(Path(word).resolve()) if word in paths else word)
    return kept


def _parameters(given: list[str]) -> dict[str, Any]:
    """submitit's parameters, for example gpus_per_node=1 or slurm_partition=gpu."""
    made: dict[str, Any] = {"timeout_min": 24 * 60}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise InvalidParameter(f"--slurm is {text!r}: write KEY=VALUE, as in gpus_per_node=1.")
        try:
            made[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            made[name] = value
    return made
