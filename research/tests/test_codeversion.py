"""The version of the code follows what a module imports, and nothing else."""

from __future__ import annotations

import pytest
from midiffusion_research import codeversion


@pytest.fixture
def package(tmp_path, monkeypatch):
    """midiffusion_research.method imports core at its top, late in a function, aside not."""
    folder = tmp_path
    files = {
        "library/core.py": "from .base import one\n\n\ndef f():\n    return one\n",
        "library/base.py": "one = 1\n",
        "research/late.py": "two = 2\n",
        "research/aside.py": "three = 3\n",
        "research/method.py": (
            '"""Words."""\n\nimport numpy\n\nfrom midiffusion.core import f\n\n\n'
            "def g():\n    from . import late\n\n    return late.two + f()\n"
        ),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    packages = {"midiffusion": folder / "library", "midiffusion_research": folder / "research"}
    monkeypatch.setattr(codeversion, "_PACKAGES", packages)

    def version(name=None, text=None):
        if name:
            (folder / name).write_text(text)
        codeversion.code_version.cache_clear()
        return codeversion.code_version("midiffusion_research.method")

    yield version
    codeversion.code_version.cache_clear()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("library/base.py", "one = 2\n"),
        ("research/late.py", "two = 3\n"),
        ("library/core.py", "def f():\n    return 5\n"),
    ],
)
def test_a_change_of_what_is_imported_counts(package, name, text):
    assert package() != package(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("research/aside.py", "three = 4\n"),
        ("library/base.py", '"""What one is."""\n\n# Long known.\none = 1\n'),
        ("library/core.py", 'from .base import one\ndef f():\n    """One."""\n    return one\n'),
    ],
)
def test_other_code_and_other_words_do_not(package, name, text):
    assert package() == package(name, text)


def test_a_translation_depends_on_the_network_and_not_on_the_scorer():
    found = codeversion.reached("midiffusion_research.baselines.diffusion")
    for name in ("network", "samplers", "lmi.kde", "grid", "intensity", "conditioning"):
        assert any(module.endswith(f".{name}") for module in found)
    for name in ("scorer", "table", "training.loop", "worker.service", "cli"):
        assert not any(module.endswith(f".{name}") for module in found)
