"""A value that is empty whatever the inputs are is no hole; one that is empty on a case is."""

from __future__ import annotations

import sys

import pytest

from exporter.flows.run import run
from tests.graph.test_strategies import HEAD, INIT, YAML
from tests.models.test_factory import project

FORWARD = {
    # Rotary positions on all of a head: nothing passes by.
    "always": "a, b = x[..., :4], x[..., 4:]\ny = torch.cat([a * 2, b * 3], -1)",
    # The case has two frames, and the example twelve.
    "on this case": "y = torch.cat([x[:, :2] * 2, x[:, 2:] * 3], 1)",
}
END = "\nreturn y + x_lengths[:, None, None]"


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    sys.modules.pop("my_model", None)


@pytest.mark.parametrize(("kind", "verdict"), [("always", "pass"), ("on this case", "fail")])
def test_what_never_holds_elements_is_told_from_what_holds_none_here(tmp_path, kind, verdict):
    body = "".join(f"        {line}\n" for line in (FORWARD[kind] + END).splitlines())
    yaml = YAML.replace(
        "random: {x: {kind: normal, seed: 1}}",
        "random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 2}}}",
    )
    text = f"{HEAD}{INIT}\n    def forward(self, x, x_lengths):\n{body}"
    path = project(tmp_path, module=text, yaml=yaml)
    report = run(path, output_dir=tmp_path / "out", trust=True, cache=False, threads=1)
    assert report.verdict == verdict
    if kind == "on this case":
        assert any("empty, shape" in str(link.reason) for link in report.links)
