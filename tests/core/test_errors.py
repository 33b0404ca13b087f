"""Errors of this package in another process than the one that raised them."""

from __future__ import annotations

import pickle

import pytest

from exporter.core.errors import ArtifactError, ExportVerifyError, OnnxStoppedError, StageError


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
