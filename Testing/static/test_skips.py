"""A green run means that all ran: what `make test` installs and what ships is not optional."""

from __future__ import annotations

import re
from pathlib import Path

# Properties of the platform, and of the MRML library.
MAY_BE_MISSING = {"resource"}
REASONS = {"this MRML refuses a spacing of zero by itself"}


def test_only_the_platform_excuses_a_test(root: Path) -> None:
    sources = [path.read_text("utf-8") for path in sorted((root / "Testing").rglob("*.py"))]
    assert len(sources) > 40
    text = "\n".join(sources)
    assert set(re.findall(r'importorskip\(\s*"([^"]+)"', text)) <= MAY_BE_MISSING
    assert not re.search(r"skipif\([^)]*is_file", text)
    assert set(re.findall(r'pytest\.skip\(\s*"([^"]+)"', text)) <= REASONS
