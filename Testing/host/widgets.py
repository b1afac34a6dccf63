"""Stand-ins for the CTK and MRML widgets that the panel uses.

Each offers the properties, methods and signals of its original that a scripted module may
touch, no more. What is drawn is near enough to judge a layout by, not a likeness.
"""

from __future__ import annotations

from typing import Any

import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import PythonQtManners, with_manners

_Widget: Any = with_manners(QtWidgets.QWidget)
_Button: Any = with_manners(QtWidgets.QAbstractButton)


class qMRMLWidget(_Widget):
    """Top of a panel: hands the scene on to whatever the .ui file connects to it."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


def _flag(name: str) -> Any:
    """A boolean Qt property of the node selector, kept in its `_options`."""

    def write(self: Any, value: bool) -> None:
        self._options[name] = bool(value)
        self._refresh()

    return QtCore.Property(bool, lambda self: self._options[name], write)


def _forget(observations: list[tuple[Any, int]]) -> None:
    while observations:
        observed, tag = observations.pop()
        observed.RemoveObserver(tag)


class qMRMLNodeComboBox(_Widget):
    """Selector of nodes of given classes in a scene."""

    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._types: list[str] = []
        self._options = {"children": True, "none": False, "add": True, "remove": True}
        self._noneDisplay = "None"
        self._attributes: dict[str, tuple[str, Any]] = {}  # by node class
        self._scene: Any = None
        self._tags: list[tuple[Any, int]] = []
        self._nodes: list[Any] = []
        self._current: Any = None
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._combo.setMinimumContentsLength(8)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._combo)
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed
        )
        self._combo.activated.connect(self._chosen)
        tags = self._tags  # not self, which is no widget any more when this is called
        self.destroyed.connect(lambda: _forget(tags))

    def setMRMLScene(self, scene: Any) -> None:
        _forget(self._tags)
        self._scene = scene
        if scene is not None:
            for event in (
                scene.NodeAddedEvent,
                scene.NodeRemovedEvent,
                scene.EndCloseEvent,
                scene.EndImportEvent,
                scene.EndBatchProcessEvent,
            ):
                self._tags.append((scene, scene.AddObserver(event, self._sceneChanged)))
        self._refresh()

    def mrmlScene(self) -> Any:
        return self._scene

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if node is not None and node not in self._nodes:
            node = None
        if node is not self._current:
            self._current = node
            self._show()
            self.currentNodeChanged.emit(node)
            self.currentNodeIDChanged.emit("" if node is None else node.GetID())

    def addAttribute(self, nodeType: str, name: str, value: Any = None) -> None:
        """Offer nodes of this class only if they have the attribute (with this value)."""
        self._attributes[nodeType] = (name, value)
        self._refresh()

    def nodeCount(self) -> int:
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes[index]

    showChildNodeTypes = _flag("children")
    noneEnabled = _flag("none")
    addEnabled = _flag("add")
    removeEnabled = _flag("remove")

    def _getTypes(self) -> list[str]:
        return self._types

    def _setTypes(self, types: Any) -> None:
        self._types = list(types)
        self._refresh()

    def _getNoneDisplay(self) -> str:
        return self._noneDisplay

    def _setNoneDisplay(self, text: str) -> None:
        self._noneDisplay = text
        self._refresh()

    nodeTypes = QtCore.Property("QStringList", _getTypes, _setTypes)
    noneDisplay = QtCore.Property(str, _getNoneDisplay, _setNoneDisplay)

    @property
    def currentNodeID(self) -> str:
        return "" if self._current is None else self._current.GetID()

    def _offered(self, node: Any) -> bool:
        if node.GetHideFromEditors():
            return False
        name, value = self._attributes.get(node.GetClassName(), ("", None))
        if name:
            found = node.GetAttribute(name)
            if found is None or value not in (None, found):
                return False
        if self._options["children"]:
            return any(node.IsA(name) for name in self._types)
        return node.GetClassName() in self._types

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _sceneChanged(self, scene: Any, event: str, node: Any = None) -> None:
        if event == "NodeRemovedEvent" or not scene.IsBatchProcessing():
            self._refresh()

    def _refresh(self) -> None:
        nodes = []
        if self._scene is not None:
            count = self._scene.GetNumberOfNodes()
            every = [self._scene.GetNthNode(index) for index in range(count)]
            nodes = [node for node in every if self._offered(node)]
        self._nodes = nodes
        current = self._current if self._current in nodes else None
        if current is None and nodes and not self._options["none"]:
            current = nodes[0]
        self._show()
        self.setCurrentNode(current)

    def _show(self) -> None:
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        if self._options["none"] or not self._nodes:
            self._combo.addItem(self._noneDisplay)
        for node in self._nodes:
            self._combo.addItem(node.GetName())
        row = self._nodes.index(self._current) if self._current in self._nodes else -1
        self._combo.setCurrentIndex(row + (1 if self._options["none"] else 0) if row >= 0 else 0)
        self._combo.blockSignals(blocked)

    def _chosen(self, index: int) -> None:
        row = index - (1 if self._options["none"] else 0)
        self.setCurrentNode(self._nodes[row] if 0 <= row < len(self._nodes) else None)


class ctkCollapsibleButton(_Button):
    """Section with a title that folds its contents away."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._hidden: set[Any] = set()  # children that are to be seen once it is unfolded
        self._folding = False
        self._title = self.fontMetrics().height() + 8
        self.setContentsMargins(0, self._title, 0, 0)
        self.setMinimumHeight(self._title)
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred
        )
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.clicked.connect(lambda: self._setCollapsed(not self._collapsed))

    def _getCollapsed(self) -> bool:
        return self._collapsed

    def _setCollapsed(self, collapsed: bool) -> None:
        changed, self._collapsed = collapsed != self._collapsed, bool(collapsed)
        self._fold()
        if changed:
            self.contentsCollapsed.emit(self._collapsed)

    collapsed = QtCore.Property(bool, _getCollapsed, _setCollapsed)

    def _fold(self) -> None:
        self._folding = True
        for child in self.children():
            if not isinstance(child, QtWidgets.QWidget):
                continue
            if not self._collapsed and child in self._hidden:
                self._hidden.discard(child)
                child.setVisible(True)
            elif self._collapsed and not child.isHidden():
                self._hidden.add(child)
                child.setVisible(False)
                # Else Qt would not tell us of a module that hides it once more.
                child.setAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._folding = False
        # The layout's margins would stay.
        self.setMaximumHeight(self._title if self._collapsed else 16777215)
        self.updateGeometry()

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.added():
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child: Any, event: QtCore.QEvent) -> bool:
        """What is shown or hidden while all is folded away is so when it is unfolded."""
        if self._collapsed and not self._folding:
            if event.type() == QtCore.QEvent.Type.ShowToParent:
                self._fold()
            elif event.type() == QtCore.QEvent.Type.HideToParent:
                self._hidden.discard(child)
        return bool(super().eventFilter(child, event))

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        # The .ui file sets `collapsed` before the contents exist.
        self._fold()
        super().showEvent(event)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._title

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        title = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), self._title - 2)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = title
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = "\u25b8" if self._collapsed else "\u25be"
        painter.drawText(
            title.adjusted(8, 0, -8, 0),
            QtCore.Qt.AlignmentFlag.AlignVCenter,
            f"{arrow}  {self.text}",
        )


class ctkSliderWidget(_Widget):
    """Slider and spin box of one number."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self._step = 1.0
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._box)
        self._slider.valueChanged.connect(lambda at: self._box.setValue(at * self._step))
        self._box.valueChanged.connect(self._changed)

    def _changed(self, value: float) -> None:
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round(value / self._step))
        self._slider.blockSignals(blocked)
        self.valueChanged.emit(value)

    def _range(self, minimum: float, maximum: float) -> None:
        self._box.setRange(minimum, maximum)
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(round(minimum / self._step), round(maximum / self._step))
        self._slider.blockSignals(blocked)

    def _setStep(self, step: float) -> None:
        self._step = step
        self._box.setSingleStep(step)
        self._range(self._box.minimum(), self._box.maximum())

    value = QtCore.Property(float, lambda s: s._box.value(), lambda s, v: s._box.setValue(v))
    minimum = QtCore.Property(
        float, lambda s: s._box.minimum(), lambda s, v: s._range(v, s._box.maximum())
    )
    maximum = QtCore.Property(
        float, lambda s: s._box.maximum(), lambda s, v: s._range(s._box.minimum(), v)
    )
    singleStep = QtCore.Property(float, lambda s: s._step, _setStep)
    decimals = QtCore.Property(int, lambda s: s._box.decimals(), lambda s, v: s._box.setDecimals(v))


MRML: dict[str, type] = {w.__name__: w for w in (qMRMLWidget, qMRMLNodeComboBox)}
CTK: dict[str, type] = {w.__name__: w for w in (ctkCollapsibleButton, ctkSliderWidget)}
STAND_INS: dict[str, type] = {**MRML, **CTK}
assert all(issubclass(widget, PythonQtManners) for widget in STAND_INS.values())
