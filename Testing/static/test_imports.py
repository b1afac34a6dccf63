"""The library is layered: a module imports only what lies below it, and never Slicer."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "MIDiffusionTranslate" / "midiffusion"

# From low to high; a layer may import itself and those before it.
LAYERS = (
    "errors",
    "models.names",
    "runtime",
    "images",
    "lmi",
    "diffusion",
    "models",
    "metrics",
    "arguments",
    "console",
    "compare",
    "pipeline",
    "cohort",
    "training",
    "worker",
    "cli",
    "__main__",
)
FOREIGN = {"slicer", "vtk", "qt", "ctk", "MIDiffusionTranslateLib", "midiffusion_research"}
MODULES = sorted(
    ".".join(path.relative_to(LIBRARY).with_suffix("").parts)
    for path in LIBRARY.rglob("*.py")
    if path != LIBRARY / "__init__.py"  # names the public parts of every layer
)


def imports(module: str, text: str) -> Iterator[tuple[str, bool]]:
    """(absolute name, whether it is imported as soon as the module is) of all that it imports."""
    tree = ast.parse(text)
    at_once = {id(node) for node in tree.body}
    package = module.split(".") if module.endswith("__init__") else module.split(".")[:-1]
    if module.endswith("__init__"):
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in at_once
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ["midiffusion", *package][: len(package) + 2 - node.level]
                base = ".".join([*above, *([base] if base else [])])
            yield base, id(node) in at_once
            for alias in node.names:
                yield f"{base}.{alias.name}", id(node) in at_once


def own_imports(module: str, at_once_only: bool = False) -> set[str]:
    """Modules of the library that the module imports, without the library's name."""
    path = LIBRARY.joinpath(*module.split(".")).with_suffix(".py")
    found = set()
    for name, at_once in imports(module, path.read_text(encoding="utf-8")):
        own = name.removeprefix("midiffusion.")
        if name != own and (at_once or not at_once_only) and _known(own):
            found.add(own if own in MODULES else f"{own}.__init__")
    return found - {module}


def layer(module: str) -> int:
    """Its place in LAYERS."""
    return LAYERS.index(module if module in LAYERS else module.split(".")[0])


def _known(module: str) -> bool:
    return module in MODULES or f"{module}.__init__" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_its_layer_and_lower_ones(module):
    assert [name for name in own_imports(module) if layer(name) > layer(module)] == []


def test_no_module_imports_itself_in_a_circle():
    # A package's __init__ only names what its modules hold.
    modules = [module for module in MODULES if not module.endswith("__init__")]
    direct = {module: own_imports(module, at_once_only=True) for module in modules}
    reached = {module: set(names) for module, names in direct.items()}
    for middle in modules:
        for names in reached.values():
            if middle in names:
                names |= reached[middle]
    assert [module for module, names in reached.items() if module in names] == []


def test_no_module_name_occurs_twice():
    # A task is named as in the job file, and does by worker what its namesake does.
    counts = Counter(
        module.split(".")[-1]
        for module in MODULES
        if not module.endswith("__init__") and not module.startswith("worker.tasks.")
    )
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("module", MODULES)
def test_module_never_imports_slicer(module):
    path = LIBRARY.joinpath(*module.split(".")).with_suffix(".py")
    names = {name.split(".")[0] for name, _ in imports(module, path.read_text(encoding="utf-8"))}
    assert not names & FOREIGN


def test_relative_imports_are_resolved():
    text = "from .. import errors\nfrom .case import Case\nimport vtk\nif x:\n    from ..a import b"
    assert set(imports("pipeline.mean", text)) == {
        ("midiffusion", True),
        ("midiffusion.errors", True),
        ("midiffusion.pipeline.case", True),
        ("midiffusion.pipeline.case.Case", True),
        ("vtk", True),
        ("midiffusion.a", False),
        ("midiffusion.a.b", False),
    }
