"""How every command reads its arguments. Needs no torch."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from .models.names import is_device


class UsageError(Exception):
    """The arguments of a command are wrong: one sentence for the user."""


class Arguments(argparse.ArgumentParser):
    """argparse's parser, but wrong arguments raise UsageError, which the command line turns into
    one line and exit code 2, and options must be spelt out: an abbreviation would change its
    meaning, or stop to have one, with every option that is added."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **keywords})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def device_name(text: str) -> str:
    """The argument of --device: the name of one, whether there is one or not."""
    if not is_device(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cuda, cuda:<number>, mps or cpu")
    return text
