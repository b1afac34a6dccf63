"""The .ui files hold what no run of the panel on the host can show."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

CONTROLS = {
    "QCheckBox",
    "QComboBox",
    "QLabel",
    "QLineEdit",
    "QListWidget",
    "QProgressBar",
    "QPushButton",
    "QSpinBox",
    "QToolButton",
    "ctkCollapsibleButton",
    "ctkSliderWidget",
    "qMRMLNodeComboBox",
}
FOCUSABLE = CONTROLS - {"QLabel", "QProgressBar", "ctkCollapsibleButton"}
WHOLE_SCENE = "vtkMRMLScene*"


@pytest.fixture(scope="module")
def module(root: Path) -> Path:
    return root / "MIDiffusionTranslate"


FILES = sorted((Path(__file__).resolve().parents[2] / "MIDiffusionTranslate").rglob("*.ui"))


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def ui(request: pytest.FixtureRequest) -> ElementTree.Element:
    """Each file in turn."""
    return ElementTree.parse(request.param).getroot()


def named(*roots: ElementTree.Element) -> dict[str, ElementTree.Element]:
    found = [widget for root in roots for widget in root.findall(".//widget")]
    names = [widget.get("name", "") for widget in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


@pytest.fixture(scope="module")
def widgets(ui: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Those of one file."""
    return named(ui)


@pytest.fixture(scope="module")
def everyWidget() -> dict[str, ElementTree.Element]:
    """Those of all files: the panel has them all, so no two have the same name."""
    return named(*(ElementTree.parse(path).getroot() for path in FILES))


def texts(widget: ElementTree.Element, name: str) -> list[str]:
    return [
        "".join(item.itertext()).strip()
        for item in widget.findall("property")
        if item.get("name") == name
    ]


def test_every_mrml_widget_receives_the_scene(
    ui: ElementTree.Element, widgets: dict[str, ElementTree.Element]
) -> None:
    top = ui.find("widget")
    assert top is not None
    connected = {
        item.findtext("receiver")
        for item in ui.findall("connections/connection")
        if item.findtext("sender") == top.get("name")
        and item.findtext("signal") == f"mrmlSceneChanged({WHOLE_SCENE})"
        and item.findtext("slot") == f"setMRMLScene({WHOLE_SCENE})"
    }
    wanted = {
        name
        for name, widget in widgets.items()
        if widget.get("class", "").startswith("qMRML") and widget is not top
    }
    assert connected == wanted
    assert not wanted or top.get("class") == "qMRMLWidget"


def test_enumerations_are_written_as_qt_5_reads_them(ui: ElementTree.Element) -> None:
    values = [item.text or "" for kind in ("enum", "set") for item in ui.iter(kind)]
    assert values
    for value in values:
        assert re.fullmatch(r"\w+::\w+(\|\w+::\w+)*", value), value


def test_every_control_says_what_it_is_for(widgets: dict[str, ElementTree.Element]) -> None:
    for name, widget in widgets.items():
        if widget.get("class") in CONTROLS:
            (tip,) = texts(widget, "toolTip") or [""]
            assert len(tip) > 10 and tip.endswith("."), name


def test_every_parameter_has_its_widget(
    module: Path, everyWidget: dict[str, ElementTree.Element]
) -> None:
    source = (module / "MIDiffusionTranslateLib/settings.py").read_text(encoding="utf-8")
    declared = next(
        {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}  # type: ignore[union-attr]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and node.name == "TranslateParameters"
    )
    bound = [text for w in everyWidget.values() for text in texts(w, "SlicerParameterName")]
    assert len(set(bound)) == len(bound)
    # The list of models is filled by hand: it changes while the panel is open.
    assert set(bound) == declared - {"model"}


def test_selectors_offer_images_only(everyWidget: dict[str, ElementTree.Element]) -> None:
    selectors = [w for w in everyWidget.values() if w.get("class") == "qMRMLNodeComboBox"]
    assert selectors
    for selector in selectors:
        assert texts(selector, "nodeTypes") == ["vtkMRMLScalarVolumeNode"]
        assert texts(selector, "showChildNodeTypes") == ["false"]


def test_keys_move_through_every_control_once_in_reading_order(
    ui: ElementTree.Element, widgets: dict[str, ElementTree.Element]
) -> None:
    stops = [item.text for item in ui.findall("tabstops/tabstop")]
    controls = [name for name, w in widgets.items() if w.get("class") in FOCUSABLE]
    assert [stop for stop in stops if stop in controls] == controls  # the file's order is the eye's
    assert all(stop in widgets for stop in stops)


def test_labels_lead_to_their_controls(widgets: dict[str, ElementTree.Element]) -> None:
    buddies = [text for widget in widgets.values() for text in texts(widget, "buddy")]
    assert len(buddies) >= 2
    assert set(buddies) <= set(widgets)


def test_no_styling_of_its_own(widgets: dict[str, ElementTree.Element]) -> None:
    for name, widget in widgets.items():
        for styled in ("styleSheet", "font", "palette"):
            assert texts(widget, styled) == [], name


def test_the_code_names_only_widgets_there_are(
    module: Path, everyWidget: dict[str, ElementTree.Element]
) -> None:
    called = set()
    for file in (module / "MIDiffusionTranslateLib").rglob("*.py"):
        called |= set(re.findall(r"\bui\.(\w+)", file.read_text(encoding="utf-8")))
    assert len(called) > 30
    assert called <= set(everyWidget)


def moduleFiles(module: Path) -> list[Path]:
    """The Python files of the Slicer side."""
    folder = module / "MIDiffusionTranslateLib"
    return [module / "MIDiffusionTranslate.py", *sorted(folder.rglob("*.py"))]


def test_no_two_modules_have_one_name(module: Path) -> None:
    names = [file.stem for file in moduleFiles(module) if file.stem != "__init__"]
    assert sorted(names) == sorted(set(names))


def test_user_text_is_never_formatted_before_it_is_translated(module: Path) -> None:
    files = [
        module / "MIDiffusionTranslate.py",
        *(module / "MIDiffusionTranslateLib").rglob("*.py"),
    ]
    calls = 0
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_":
                calls += 1
                assert len(node.args) == 1 and isinstance(node.args[0], ast.Constant), (
                    f"{file.name}:{node.lineno}"
                )
    assert calls > 30


def test_the_module_s_files_need_nothing_but_slicer_to_be_imported(module: Path) -> None:
    allowed = {"slicer", "vtk", "qt", "ctk", "numpy", "midiffusion", "MIDiffusionTranslateLib"}
    for file in (
        module / "MIDiffusionTranslate.py",
        *module.glob("MIDiffusionTranslateLib/**/*.py"),
    ):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in allowed | set(sys.stdlib_module_names), f"{file.name}: {name}"
