"""Tables of the scene: figures that can be read, copied and saved. Main thread only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import vtk

Cell = str | float | None


def addTable(scene: Any, name: str, columns: Sequence[tuple[str, type]]) -> Any:
    """A new vtkMRMLTableNode without rows; columns: title, and str or float."""
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    table.SetUseColumnTitleAsColumnHeader(True)
    for title, kind in columns:
        array = vtk.vtkStringArray() if kind is str else vtk.vtkDoubleArray()
        array.SetName(title)
        table.AddColumn(array)
    return table


def addRow(table: Any, cells: Sequence[Cell]) -> None:
    """Adds one row; a number that is None stays open (NaN)."""
    row = table.AddEmptyRow()
    for column, cell in enumerate(cells):
        array = table.GetTable().GetColumn(column)
        if isinstance(array, vtk.vtkStringArray):
            array.SetValue(row, str(cell or ""))
        else:
            assert not isinstance(cell, str)
            array.SetValue(row, math.nan if cell is None else float(cell))
    table.GetTable().Modified()
    table.Modified()
