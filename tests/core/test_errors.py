"""Errors of this package in another process than the one that raised them."""

from __future__ import annotations

import pickle

import pytest

from exporter.core.errors import (
    ArtifactError,
    ExportVerifyError,
    OnnxStoppedError,
    StageError,
    first_line,
    named_line,
)


@pytest.mark.parametrize(
    "error",
    [
        ExportVerifyError("why"),
        ArtifactError("cut off", where="model.onnx", remedy="export it again"),
        StageError("export", "no such op", finished=("capture",), remedy="none", source="a.py:3"),
        OnnxStoppedError("no kernel", node="conv"),
    ],
)
def test_an_error_comes_through_a_pipe_as_it_was_raised(error: ExportVerifyError):
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error) and vars(found) == vars(error)
    assert str(found) == str(error) and found.args == error.args


@pytest.mark.parametrize(
    ("error", "line", "named"),
    [
        (ValueError("\n  no such axis\nand more"), "no such axis", "ValueError: no such axis"),
        (AssertionError(), "AssertionError", "AssertionError"),
        (RuntimeError("  \n"), "RuntimeError", "RuntimeError"),
        (TypeError("x" * 500), "x" * 20, "TypeError: " + "x" * 20),
    ],
)
def test_an_error_is_told_in_one_line_also_when_it_says_nothing(error, line, named):
    assert first_line(error, 20) == line
    assert named_line(error, 20) == named
