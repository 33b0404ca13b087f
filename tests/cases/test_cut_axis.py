"""Steps and windows find what they cut in one way."""

from __future__ import annotations

import pytest

from exporter.cases.cut_axis import cut_axis
from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec

SPECS = {"x": TensorSpec(name="x", dtype="float32", shape=("batch", "frames", 1))}


@pytest.mark.parametrize(("axis", "place"), [(1, 1), (2, 2), ("frames", 1), (None, 1), (0, 0)])
def test_a_number_is_a_place_and_never_a_size(axis: str | int | None, place: int) -> None:
    assert cut_axis(None, axis, SPECS, "talk.yaml:9", into="steps") == ("x", place)


@pytest.mark.parametrize("axis", ["samples", 3])
def test_an_axis_that_is_not_there_is_refused_with_what_was_asked(axis: str | int) -> None:
    with pytest.raises(ConfigError, match=rf"cut into windows \({axis}\)"):
        cut_axis(None, axis, SPECS, "talk.yaml:9", into="windows")
