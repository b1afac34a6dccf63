"""Figures of `midiffusion-research speed` and `lmi` as Markdown tables. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..report import markdown_table

Report = Mapping[str, Any]
Column = tuple[str, Callable[[Report], str]]


def markdown(reports: Sequence[Report]) -> str:
    """Every part that any of the reports has, under a heading each."""
    parts = [(title, table(reports, part)) for part, title in TITLES.items()]
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts if text)


def table(reports: Sequence[Report], part: str) -> str:
    """The table of one part, a line for each report; empty where none has it."""
    having = [report for report in reports if part in report]
    if part == "growth":
        rows = [row for report in having for row in _growth_rows(report)]
        header = ["device", "slices", "pixels", "seconds", "on the wall", "MB"]
        return markdown_table(header, rows) if rows else ""
    columns = _COLUMNS[part]
    rows = [[place(report)] + [text(report[part]) for _, text in columns] for report in having]
    return markdown_table(["device", *(name for name, _ in columns)], rows) if rows else ""


def place(report: Report) -> str:
    """Where a report was measured, with what a reader has to know of it."""
    threads = "" if " thread" in report["device"] else f", {report['threads']} threads"
    note = f"; {report['note']}" if report["note"] else ""
    return f"{report['device']}{threads}, {report['precision']}, PyTorch {report['torch']}{note}"


def lmi_table(reports: Sequence[Report]) -> str:
    """Every row of these reports of `midiffusion-research lmi`."""
    rows = [
        [
            f"{report['device']}, PyTorch {report['torch']}",
            f"{row['case']} ({row['images']})",
            f"{row['seconds'] * 1e3:.1f}",
            f"{row['baseline_seconds'] * 1e3:.0f}",
            f"{row['faster']:.1f}",
            "" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e6:.1f}",
            "" if row["smaller"] is None else f"{row['smaller']:.0f}",
            f"{row['own_difference']:.0e}",
        ]
        for report in reports
        for row in report["rows"]
    ]
    header = ["device", "case", "ms", "definition, ms", "times faster", "MB", "times smaller"]
    return markdown_table([*header, "difference"], rows)


def exponents(report: Report) -> str:
    """A sentence on how time and memory grow."""
    words = []
    for axis, what in (("slices", "the number of slices"), ("size", "the side of a slice")):
        found = report["growth"][axis]
        time, memory = (found[f"{name}_exponent"] for name in ("time", "memory"))
        words.append(f"with {what} time grows to the power {_power(time)}, memory {_power(memory)}")
    more = report["growth"]["bytes_per_slice"]
    if more is not None:
        words.append(f"each further slice of {_side(report)} pixels takes {more / 1e6:.2f} MB")
    return f"{place(report)}: {'; '.join(words)}."


def _side(report: Report) -> str:
    side = report["growth"]["slices"]["points"][0]["size"]
    return f"{side} x {side}"


def _power(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def _growth_rows(report: Report) -> list[list[str]]:
    points = [point for axis in ("slices", "size") for point in report["growth"][axis]["points"]]
    return [
        [
            place(report),
            str(point["slices"]),
            f"{point['size']} x {point['size']}",
            f"{point['seconds']:.2f}",
            f"{point['wall_s']:.2f}",
            "" if point["memory_bytes"] is None else f"{point['memory_bytes'] / 1e6:.0f}",
        ]
        for point in points
    ]


def _ms(name: str) -> Callable[[Report], str]:
    return lambda part: f"{part[name] * 1e3:.2f}"


def _percent(name: str) -> Callable[[Report], str]:
    return lambda part: f"{part[name] * 100:.1f} %"


def _number(name: str, decimals: int) -> Callable[[Report], str]:
    return lambda part: f"{part[name]:.{decimals}f}"


def _step(name: str) -> Callable[[Report], str]:
    return lambda part: f"{part['steps'].get(name, 0.0):.2f}"


TITLES = {
    "evaluation": "One evaluation, milliseconds a slice",
    "volume": "A whole volume, seconds",
    "growth": "Growth",
    "startup": "Start of a worker, seconds",
}
_COLUMNS: dict[str, list[Column]] = {
    "evaluation": [
        ("network", _ms("network_s")),
        ("network, float32", _ms("network_float32_s")),
        ("LMI of the source", _ms("self_maps_s")),
        ("LMI with the state", _ms("cross_maps_s")),
        ("share of LMI", _percent("lmi_share")),
        ("GFLOP", _number("gflop", 2)),
        ("matrix product, GFLOP/s", _number("gemm_gflops", 0)),
        ("utilisation", _percent("utilisation")),
        ("utilisation, float32", _percent("utilisation_float32")),
    ],
    "volume": [
        ("slices", _number("slices", 0)),
        ("pixels", lambda part: f"{part['size']} x {part['size']}"),
        ("views", _number("views", 0)),
        ("seconds", _number("seconds", 1)),
        ("processor seconds", _number("processor_s", 1)),
        *((step, _step(step)) for step in ("slice", "mean", "detail")),
    ],
    "startup": [
        ("Python alone", _number("python", 2)),
        ("import torch", _number("torch", 2)),
        ("first event", _number("first_event", 2)),
        ("first progress", _number("first_progress", 2)),
        ("done", _number("done", 2)),
    ],
}
