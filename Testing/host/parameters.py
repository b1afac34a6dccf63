"""A small parameterNodeWrapper: typed attributes stored in a vtkMRMLScriptedModuleNode.

Nodes are stored as node references, everything else as a text parameter, so a saved scene brings
them back. Known types: one MRML node class, bool, int, float, str and Enum. Known widgets: those in
`CONNECTORS`. An unknown type, widget or value raises, as it does in Slicer.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import slicer
import slicer.util
import vtk

PROPERTY = "SlicerParameterName"


@dataclass(frozen=True)
class Minimum:
    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


class Parameter:
    """One attribute: its type, its limits, its default and how the node stores it."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        self.name = name
        self.type, *self.notes = typing.get_args(Annotated[annotation, None])[:-1]
        self.isNode = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        if not self.isNode and not issubclass(self.type, (bool, int, float, str, enum.Enum)):
            raise TypeError(f"parameter '{name}' has a type the host does not store: {annotation}")
        if default is None and not self.isNode:
            default = next(iter(self.type)) if issubclass(self.type, enum.Enum) else self.type()
        self.default = default

    def read(self, node: Any) -> Any:
        if self.isNode:
            return node.GetNodeReference(self.name)
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        text = node.GetParameter(self.name)
        if issubclass(self.type, bool):
            return text == "True"
        return self.type[text] if issubclass(self.type, enum.Enum) else self.type(text)

    def write(self, node: Any, value: Any) -> None:
        if self.isNode:
            if value is not None and not isinstance(value, self.type):
                raise TypeError(f"'{self.name}' takes a {self.type.__name__}, not {value!r}")
            node.SetNodeReferenceID(self.name, None if value is None else value.GetID())
            return
        if not isinstance(value, self.type):
            raise TypeError(f"'{self.name}' takes a {self.type.__name__}, not {value!r}")
        for note in self.notes:
            if hasattr(note, "validate"):
                note.validate(value)
        node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


class Connector:
    """Binds one widget to one parameter: read, write and the signal that says it changed."""

    def __init__(self, widget: Any, parameter: Parameter) -> None:
        kind = type(widget).__name__
        if kind not in CONNECTORS:
            raise RuntimeError(f"no connector from {parameter.type} to {kind}")
        attribute, self.signal = CONNECTORS[kind]
        self.widget, self.parameter, self.attribute = widget, parameter, attribute
        if kind == "qMRMLNodeComboBox":
            widget.nodeTypes = [parameter.type().GetClassName()]
        elif kind == "QComboBox":
            if not issubclass(parameter.type, enum.Enum):
                raise RuntimeError("a combo box takes an Enum here")
            widget.clear()
            for member in parameter.type:
                widget.addItem(parameter.type.label(member))
        for note in parameter.notes:
            for limit in ("minimum", "maximum"):
                if hasattr(note, limit):
                    setattr(widget, limit, getattr(note, limit))

    def read(self) -> Any:
        if self.attribute == "currentNode":
            return self.widget.currentNode()
        value = getattr(self.widget, self.attribute)
        if self.attribute == "currentIndex":
            return list(self.parameter.type)[value]
        return self.parameter.type(value)

    def write(self, value: Any) -> None:
        if self.attribute == "currentNode":
            self.widget.setCurrentNode(value)
        elif self.attribute == "currentIndex":
            self.widget.currentIndex = list(self.parameter.type).index(value)
        elif getattr(self.widget, self.attribute) != value:
            setattr(self.widget, self.attribute, value)


CONNECTORS = {
    "QCheckBox": ("checked", "toggled"),
    "QSpinBox": ("value", "valueChanged"),
    "ctkSliderWidget": ("value", "valueChanged"),
    "QLineEdit": ("text", "textChanged"),
    "QComboBox": ("currentIndex", "currentIndexChanged"),
    "qMRMLNodeComboBox": ("currentNode", "currentNodeChanged"),
}


class Wrapper:
    """What the decorator adds to a class of annotations."""

    allParameters: dict[str, Parameter]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[list[tuple[Connector, Callable[..., None]]], int]] = {}
        self._updating = False
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)

    def connectGui(self, gui: Any) -> int:
        """Binds every widget of `gui` (childWidgetVariables) that names a parameter."""
        bound: list[tuple[Connector, Callable[..., None]]] = []
        for widget in vars(gui).values():
            name = widget.property(PROPERTY)
            if not name:
                continue
            if name not in self.allParameters:
                raise ValueError(f"there is no parameter named {name}")
            connector = Connector(widget, self.allParameters[name])
            connector.write(getattr(self, name))
            callback = self._onGuiChanged(connector)
            getattr(widget, connector.signal).connect(callback)
            bound.append((connector, callback))
        tag = len(self._guis) + 1
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onNodeModified)
        self._guis[tag] = (bound, observer)
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        if tag not in self._guis:
            return
        bound, observer = self._guis.pop(tag)
        for connector, callback in bound:
            getattr(connector.widget, connector.signal).disconnect(callback)
        self.RemoveObserver(observer)

    def _onGuiChanged(self, connector: Connector) -> Callable[..., None]:
        def changed(*_: Any) -> None:
            if not self._updating:
                with slicer.util.NodeModify(self):
                    setattr(self, connector.parameter.name, connector.read())

        return changed

    def _onNodeModified(self, caller: Any, event: str) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for bound, _ in self._guis.values():
                for connector, _callback in bound:
                    connector.write(getattr(self, connector.parameter.name))
        finally:
            self._updating = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, before: int) -> int:
        return self.parameterNode.EndModify(before)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _accessor(parameter: Parameter) -> property:
    return property(
        lambda self: parameter.read(self.parameterNode),
        lambda self, value: parameter.write(self.parameterNode, value),
    )


def parameterNodeWrapper(declared: type) -> type:
    """Class decorator: annotations become attributes of a parameter node."""
    hints = typing.get_type_hints(declared, include_extras=True)
    parameters = {n: Parameter(n, hint, getattr(declared, n, None)) for n, hint in hints.items()}
    members = {n: _accessor(parameter) for n, parameter in parameters.items()}
    own = {"allParameters": parameters, "__doc__": declared.__doc__, **members}
    return type(declared.__name__, (Wrapper,), own)


__all__ = ["parameterNodeWrapper", "Minimum", "WithinRange"]
