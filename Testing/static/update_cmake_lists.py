"""Writes the two file lists of MIDiffusionTranslate/CMakeLists.txt from the tree.

Run after adding, moving or removing a file below MIDiffusionTranslate:
    python Testing/static/update_cmake_lists.py
"""

from __future__ import annotations

import re
from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "MIDiffusionTranslate"


def shipped(module: Path) -> tuple[list[str], list[str]]:
    """The Python scripts and the other files of the module, relative to its folder, sorted.

    Caches, hidden files and what pip leaves behind are not part of it.
    """
    scripts, resources = [], []
    for path in module.rglob("*"):
        relative = path.relative_to(module)
        built = any(re.fullmatch(r"__pycache__|\..*|.*\.egg-info", part) for part in relative.parts)
        if built or path.is_dir() or path.name == "CMakeLists.txt":
            continue
        (scripts if path.suffix == ".py" else resources).append(relative.as_posix())
    return sorted(scripts), sorted(resources)


def listed(text: str, variable: str) -> list[str]:
    """The entries of `set(variable ...)` in the text of a CMakeLists.txt, in order."""
    match = re.search(rf"set\({variable}\s(.*?)\)", text, re.DOTALL)
    if match is None:
        raise ValueError(f"no set({variable} ...) found")
    return match.group(1).replace("${MODULE_NAME}", MODULE.name).split()


def main() -> None:
    target = MODULE / "CMakeLists.txt"
    text = target.read_text(encoding="utf-8")
    names = ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES")
    for variable, entries in zip(names, shipped(MODULE), strict=True):
        block = "\n".join([f"set({variable}", *(f"  {entry}" for entry in entries), "  )"])
        text = re.sub(rf"set\({variable}\s.*?\)", block, text, flags=re.DOTALL)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
