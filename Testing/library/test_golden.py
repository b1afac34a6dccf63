"""Each shipped model gives what it gave when its golden results were written (`make golden`)."""

from __future__ import annotations

import json

import golden
import numpy as np
import pytest

# Of the block means: processors sum in different orders. CT in HU, MR in nominal units.
TOLERANCE = 4


@pytest.fixture(scope="module")
def pinned():
    return json.loads(golden.FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sources():
    return golden.sources()


@pytest.mark.parametrize("source", ["t1 axial", "flair sagittal", "ct"])
@pytest.mark.parametrize(
    "name",
    [n if n == "t1" else pytest.param(n, marks=pytest.mark.slow) for n in golden.MODELS],
)
def test_shipped_model_gives_its_golden_result(pinned, sources, name, source):
    assert pinned[name]["weights"] == golden.weights(name), "other weights: run `make golden`"
    expected, found = pinned[name][source], golden.figures(name, sources[source])
    assert found["steps"] == expected["steps"]
    assert found["warned"] == expected["warned"]
    for part in ("result", "error_map"):
        np.testing.assert_allclose(found[part], expected[part], atol=TOLERANCE, rtol=0.01)
