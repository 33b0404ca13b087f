"""The table of convolution backends; only its arithmetic can be tried without a CUDA device."""

from __future__ import annotations

import pytest
import torch

from exporter.contracts.align import learn_law
from exporter.contracts.causality import Settings, make_plan
from exporter.contracts.cudnn import SETTINGS, check_backends
from tests.contracts.zoo.causality import LengthDependent
from tests.contracts.zoo.toy import features, output, subject


def test_without_a_device_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    made = subject(LengthDependent(16), features(), output("batch", 4, "time"))
    plan = make_plan(made, Settings())
    assert not isinstance(plan, str)
    assert check_backends(made, plan, {}) == "not run (no CUDA device)"


def test_every_setting_has_a_figure_and_is_put_back() -> None:
    made = subject(LengthDependent(16), features(), output("batch", 4, "time"))
    plan = make_plan(made, Settings())
    assert not isinstance(plan, str)
    law = learn_law((plan.steps, plan.cut), [(1, 4, plan.steps), (1, 4, plan.cut)])
    assert law is not None
    before = (torch.backends.cudnn.enabled, torch.backends.cuda.matmul.allow_tf32)
    found = check_backends(made, plan, {"y": law}, device="cpu")
    assert isinstance(found, dict) and set(found) == {label for label, _, _ in SETTINGS}
    # The module rounds to TF32 by itself where the input is long: 1e-4, not 1e-7.
    assert all(1e-5 < row["y"] < 1e-2 for row in found.values())
    assert before == (torch.backends.cudnn.enabled, torch.backends.cuda.matmul.allow_tf32)
