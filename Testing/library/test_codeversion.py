"""The version of the code follows what a module imports, and nothing else."""

from __future__ import annotations

import pytest
from midiffusion.evaluation import codeversion


@pytest.fixture
def package(tmp_path, monkeypatch):
    """midiffusion.evaluation.method imports core at its top, late in a function, aside not."""
    folder = tmp_path / "midiffusion"
    (folder / "evaluation").mkdir(parents=True)
    files = {
        "core.py": "from .base import one\n\n\ndef f():\n    return one\n",
        "base.py": "one = 1\n",
        "late.py": "two = 2\n",
        "aside.py": "three = 3\n",
        "evaluation/__init__.py": "",
        "evaluation/method.py": (
            '"""Words."""\n\nimport numpy\n\nfrom ..core import f\n\n\n'
            "def g():\n    from .. import late\n\n    return late.two + f()\n"
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(codeversion, "_ROOT", tmp_path)

    def version(name=None, text=None):
        if name:
            (folder / name).write_text(text)
        codeversion.code_version.cache_clear()
        return codeversion.code_version("midiffusion.evaluation.method")

    yield version
    codeversion.code_version.cache_clear()


@pytest.mark.parametrize(
    ("name", "text"),
    [("base.py", "one = 2\n"), ("late.py", "two = 3\n"), ("core.py", "def f():\n    return 5\n")],
)
def test_a_change_of_what_is_imported_counts(package, name, text):
    assert package() != package(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("aside.py", "three = 4\n"),
        ("base.py", '"""What one is."""\n\n# Long known.\none = 1\n'),
        ("core.py", 'from .base import one\ndef f():\n    """One."""\n    return one\n'),
    ],
)
def test_other_code_and_other_words_do_not(package, name, text):
    assert package() == package(name, text)


def test_a_translation_depends_on_the_network_and_not_on_the_scorer():
    """On the code as it is: what a method's module reaches."""
    found = codeversion.reached("midiffusion.evaluation.baselines.diffusion")
    for name in ("network", "samplers", "lmi.kde", "grid", "intensity", "conditioning"):
        assert f"midiffusion.{name}" in found
    for name in ("evaluation.scorer", "evaluation.table", "training.loop", "worker", "cli"):
        assert f"midiffusion.{name}" not in found
