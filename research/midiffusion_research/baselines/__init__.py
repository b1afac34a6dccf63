"""The methods that a translation is compared with, behind one interface."""

from __future__ import annotations

from .method import Budget, Method
from .plain import HistogramMatching, Identity

__all__ = ["Budget", "HistogramMatching", "Identity", "Method"]
