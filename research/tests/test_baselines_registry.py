"""The methods by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from bundles import saveTiny
from midiffusion_research.baselines.registry import METHODS, Options


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_made_from_the_same_options(name, tmp_path):
    method = METHODS[name](Options(size=32, model=str(saveTiny(tmp_path / "tiny"))))
    assert method.name.split(",")[0] == name


def test_what_learns_needs_something_to_learn_from():
    assert all(entry.needs != "nothing" for entry in METHODS.values() if entry.learns)


def test_listing_the_methods_does_not_load_torch(root):
    code = (
        "import sys; from midiffusion_research.baselines.registry import METHODS; "
        "assert METHODS and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root / "MIDiffusionTranslate")
