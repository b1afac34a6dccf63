"""The four descriptions of the extension (CMake, s4ext, JSON, packaging) and the tree agree."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from static.update_cmake_lists import listed, shipped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it on Python 3.10

HOMEPAGE = "https://github.com/MIDiffusion/SlicerMIDiffusion"
S4EXT_KEYS = [
    "scm",
    "scmurl",
    "scmrevision",
    "depends",
    "recommends",
    "build_subdirectory",
    "homepage",
    "contributors",
    "category",
    "iconurl",
    "status",
    "tier",
    "description",
    "screenshoturls",
    "enabled",
    "dicom_support_rule",
    "keywords",
]
JSON_REQUIRED = {"$schema", "category", "scm_url"}
JSON_TYPES: dict[str, type] = {
    "$schema": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "category": str,
    "dicom_support_rule": str,
    "enabled": bool,
    "scm_revision": str,
    "scm_type": str,
    "scm_url": str,
    "tier": int,
}


@pytest.fixture(scope="module")
def cmake(root: Path) -> str:
    return (root / "CMakeLists.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def extension(cmake: str) -> dict[str, str]:
    """The EXTENSION_* variables; one that isn't on a line of its own isn't found."""
    found = re.findall(r'^set\(EXTENSION_(\w+) "?([^"\n]*)"?\)$', cmake, re.MULTILINE)
    return {name.lower(): value for name, value in found}


@pytest.fixture(scope="module")
def s4ext(root: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in (root / "MIDiffusion.s4ext").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            key, _, value = line.partition(" ")
            assert key not in values, f"{key} twice"
            values[key] = value.strip()
    return values


@pytest.fixture(scope="module")
def entry(root: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((root / "MIDiffusion.json").read_text(encoding="utf-8"))
    return values


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("index", [0, 1], ids=["scripts", "resources"])
def test_cmake_lists_every_file_of_the_module(root: Path, index: int):
    variable = ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES")[index]
    module = root / "MIDiffusionTranslate"
    names = listed((module / "CMakeLists.txt").read_text(encoding="utf-8"), variable)
    assert len(names) == len(set(names))
    missing = set(shipped(module)[index]) ^ set(names)
    assert not missing, (
        f"{variable} and the tree differ in {sorted(missing)}: "
        "run python Testing/static/update_cmake_lists.py"
    )


def test_cmake_lists_what_a_module_cannot_do_without(root: Path):
    text = (root / "MIDiffusionTranslate/CMakeLists.txt").read_text(encoding="utf-8")
    assert "MIDiffusionTranslate.py" in listed(text, "MODULE_PYTHON_SCRIPTS")
    resources = listed(text, "MODULE_PYTHON_RESOURCES")
    assert any(re.fullmatch(r"Resources/UI/\w+\.ui", name) for name in resources)
    assert "Resources/Icons/MIDiffusionTranslate.png" in resources
    assert "Resources/requirements.txt" in resources
    assert "slicer_add_python_unittest(SCRIPT ${MODULE_NAME}.py)" in text


def test_every_model_is_installed_with_card_and_weights(root: Path):
    text = (root / "MIDiffusionTranslate/CMakeLists.txt").read_text(encoding="utf-8")
    resources = listed(text, "MODULE_PYTHON_RESOURCES")
    models = [p for p in (root / "MIDiffusionTranslate/Resources/Models").iterdir() if p.is_dir()]
    assert models
    for model in models:
        described = "config.json" if model.name == "backbone" else "card.json"
        for name in (described, "weights.safetensors"):
            assert f"Resources/Models/{model.name}/{name}" in resources


def test_sample_data_have_a_notice(root: Path):
    data = root / "Resources" / "SampleData"
    assert len(list(data.glob("*.nii.gz"))) >= 2
    notice = (data / "NOTICE.md").read_text(encoding="utf-8")
    assert "CC BY" in notice
    for path in data.glob("*.nii.gz"):
        assert path.name in notice


@pytest.mark.parametrize(
    ("rule", "variable"),
    [
        ("install(DIRECTORY", "Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR"),
        ("file(COPY", "CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR"),
    ],
    ids=["package", "build tree"],
)
def test_sample_data_are_found_where_cmake_puts_them(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cmake: str,
    rule: str,
    variable: str,
):
    line = re.search(rf"^{re.escape(rule)} Resources/SampleData DESTINATION (\S+)\b", cmake, re.M)
    assert line is not None
    modules = tmp_path / "lib" / "Slicer-5.12" / "qt-scripted-modules"
    target = Path(line.group(1).rstrip(")").replace("${" + variable + "}", str(modules)))
    assert target.is_relative_to(modules)
    (target / "SampleData").mkdir(parents=True)
    name = Path("MIDiffusionTranslateLib/setup/sample_data.py")
    source = modules / name
    source.parent.mkdir(parents=True)
    shutil.copy(root / "MIDiffusionTranslate" / name, source)
    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.i18n", i18n)
    assert runpy.run_path(str(source))["sampleFolder"]() == target / "SampleData"


def test_project_and_subdirectory(cmake: str):
    assert re.search(r"^project\(MIDiffusion\)$", cmake, re.MULTILINE)
    assert re.search(r"^add_subdirectory\(MIDiffusionTranslate\)$", cmake, re.MULTILINE)


def test_s4ext_has_exactly_the_keys_of_the_format(s4ext: dict[str, str]):
    assert list(s4ext) == S4EXT_KEYS
    assert s4ext["scm"] == "git"


def test_s4ext_repeats_cmake(s4ext: dict[str, str], extension: dict[str, str]):
    assert len(extension) == 10
    for key, value in extension.items():
        assert s4ext[key] == value, key


def test_json_fits_the_catalogue_schema(entry: dict[str, Any]):
    """Schema 1.0.2: required and known keys and their types, written down from the schema."""
    assert entry["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert set(JSON_TYPES) >= set(entry) >= JSON_REQUIRED
    for key, value in entry.items():
        assert type(value) is JSON_TYPES[key], key
    assert 1 <= entry["tier"] <= 5


def test_json_repeats_s4ext(entry: dict[str, Any], s4ext: dict[str, str]):
    assert entry["build_dependencies"] == s4ext["depends"].split()
    assert entry["build_subdirectory"] == s4ext["build_subdirectory"]
    assert entry["category"] == s4ext["category"]
    assert int(entry["enabled"]) == int(s4ext["enabled"])
    assert entry["scm_revision"] == s4ext["scmrevision"]
    assert entry["scm_type"] == s4ext["scm"]
    assert entry["scm_url"] == s4ext["scmurl"] == HOMEPAGE
    assert entry["tier"] == int(s4ext["tier"])


def test_one_homepage_everywhere(root: Path, extension: dict[str, str], pyproject: dict[str, Any]):
    assert extension["homepage"] == HOMEPAGE
    assert pyproject["project"]["urls"]["Homepage"] == HOMEPAGE
    for name in ("README.md", "CITATION.cff"):
        assert HOMEPAGE in (root / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("key", ["iconurl", "screenshoturls"])
def test_urls_of_pictures_are_files_of_the_tree(root: Path, s4ext: dict[str, str], key: str):
    base = "https://raw.githubusercontent.com/MIDiffusion/SlicerMIDiffusion/main/"
    for url in s4ext[key].split():
        assert url.startswith(base)
        assert (root / url.removeprefix(base)).is_file(), url


def test_every_library_package_is_packaged(root: Path, pyproject: dict[str, Any]):
    library = root / "MIDiffusionTranslate"
    packages = {
        ".".join(path.parent.relative_to(library).parts)
        for path in (library / "midiffusion").rglob("*.py")
    }
    declared = set(pyproject["tool"]["setuptools"]["packages"])
    assert declared == packages | {"midiffusion.bundles"}


def test_research_stays_outside_of_what_ships(root: Path, pyproject: dict[str, Any]):
    shipped_scripts, resources = shipped(root / "MIDiffusionTranslate")
    assert not [name for name in (*shipped_scripts, *resources) if "research" in name]
    texts = [path.read_text("utf-8") for path in root.rglob("CMakeLists.txt")]
    assert not [text for text in texts if "research/" in text]
    assert not [name for name in pyproject["tool"]["setuptools"]["packages"] if "research" in name]


def test_versions_agree(root: Path):
    import midiffusion

    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {midiffusion.__version__}\n" in citation
    assert f"## {midiffusion.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_licence_carves_out_models_and_sample_data(root: Path):
    text = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "MIDiffusionTranslate/Resources/Models" in text
    assert "Resources/SampleData" in text


def test_files_that_travel_stay_small(root: Path):
    models = root / "MIDiffusionTranslate/Resources/Models"
    assert sum(p.stat().st_size for p in models.rglob("*") if p.is_file()) < 20e6
