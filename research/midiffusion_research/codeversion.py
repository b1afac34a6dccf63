"""Which code a result was made by: a digest of a module and of all that it imports from here.

A result that is kept has to be forgotten when the code that made it changes, and only then: the
package's version stands still between releases, and most changes are elsewhere.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

import midiffusion

# The folder of each package whose code counts.
_PACKAGES = {
    "midiffusion": Path(midiffusion.__file__).parent,
    "midiffusion_research": Path(__file__).parent,
}


@functools.cache
def code_version(module: str) -> str:
    """Digest of what `reached` finds from `module` ("midiffusion_research.x.y")."""
    trees = reached(module)
    text = "\n".join(f"{name}\n{trees[name]}" for name in sorted(trees))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reached(module: str) -> dict[str, str]:
    """`module` and every module of this package and of the library that it imports, at its top or
    within a function, directly or by others, each with its code. Comments, docstrings and layout
    don't count; nor do modules that are found by a name put together at run time."""
    trees: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in trees:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        waiting += _imports(tree, name, path.name == "__init__.py")
        trees[name] = ast.dump(_without_docstrings(tree))
    return trees


def _file(module: str) -> Path | None:
    package, *parts = module.split(".")
    path = _PACKAGES[package].joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((found for found in candidates if found.is_file()), None)


def _imports(tree: ast.Module, module: str, package: bool) -> list[str]:
    """Modules that it may import: what follows `import` may be a module or a name in one."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") + ([""] if package else [])
                base = ".".join([*parents[: -node.level], *([base] if base else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] in _PACKAGES]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return tree
