"""Goldens with limits that nothing exceeds: every comparison with NaN is False."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from safetensors.numpy import load, save

from exporter import cli
from exporter.core.artifact import sha256_of
from exporter.golden import store
from exporter.golden.store import MANIFEST, write_golden
from tests.false_passes.way import Told, way
from tests.golden import made


def checked(folder: Path, capsys: pytest.CaptureFixture[str], change) -> Told:
    """``golden check`` of a file with another weight, against a golden that was changed."""
    pipeline = made.pipeline(folder)
    held = folder / "golden" / "made"
    write_golden(made.golden(folder, pipeline), held)
    change(held)
    model = made.model()
    weight = numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1.5)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "W1"))
    path = made.write_onnx(folder, model)
    words = ["golden", "check", str(folder / "made.yaml"), "--onnx", str(path), "--quiet"]
    words += ["--golden-dir", str(held.parent), "--output-dir", str(folder / "out")]
    code = cli.main(words)
    printed = capsys.readouterr()
    return Told(exit_code=code, text=" ".join((printed.out + printed.err).split()))


def sealed(held: Path, change) -> None:
    """The manifest as ``change`` leaves it, with a digest of that."""
    body = json.loads((held / MANIFEST).read_text())
    del body["sha256"]
    change(body)
    (held / MANIFEST).write_text(store._render(body))


def layers_limits(held: Path, limit: float) -> None:
    """All limits of all layers of a case."""
    row = json.loads((held / MANIFEST).read_text())["cases"][0]
    arrays = dict(load((held / row["file"]).read_bytes()))
    arrays["taps.limits"] = np.full_like(arrays["taps.limits"], limit)
    (held / row["file"]).write_bytes(save(arrays))
    digest = sha256_of(held / row["file"])
    sealed(held, lambda body: body["files"].update({row["file"]: digest}))


def outputs_limits(held: Path, limit: float) -> None:
    def change(body: dict) -> None:
        for output in body["cases"][0]["outputs"]:
            output["limit_max"] = limit

    sealed(held, change)


def test_with_its_own_limits_the_file_has_moved(tmp_path, capsys):
    assert checked(tmp_path, capsys, lambda held: None).exit_code == 1


@pytest.mark.parametrize("limit", [math.nan, math.inf])
@pytest.mark.parametrize("change", [layers_limits, outputs_limits])
@way("a golden's limits are NaN or infinite", says="not a golden of this program")
def test_limits_that_nothing_exceeds(tmp_path, capsys, change, limit):
    return checked(tmp_path, capsys, lambda held: change(held, limit))
