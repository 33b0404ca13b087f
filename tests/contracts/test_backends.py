"""The table of convolution backends; only its arithmetic can be tried without a CUDA device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from exporter.contracts import run_contracts
from exporter.contracts.causality import torch as causality_torch
from exporter.contracts.causality.check import Settings, make_plan
from exporter.contracts.causality.cudnn import SETTINGS, backend_note, check_backends
from exporter.contracts.compare.align import learn_law
from tests.contracts.zoo.causality import Fsmn, LengthDependent
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


def test_a_setting_that_moves_an_output_is_said_and_named() -> None:
    figures = {
        "cuDNN, float32": {"y": 0.0},
        "cuDNN, TF32": {"y": 3.6e-4},
        "without cuDNN, float32": {"y": 7.5e-7},
        "without cuDNN, TF32": {"y": float("inf")},
    }
    note = backend_note(figures, {"y": 2e-6})
    assert note is not None and "not structure: with 'without cuDNN, TF32' y moves by inf" in note
    assert note.endswith("; cuDNN, float32 and without cuDNN, float32 within rounding")
    del figures["without cuDNN, TF32"]
    assert "with 'cuDNN, TF32' y moves by 0.00036" in (backend_note(figures, {"y": 2e-6}) or "")
    del figures["cuDNN, TF32"]
    assert backend_note(figures, {"y": 2e-6}) is None
    assert backend_note("not run (no CUDA device)", {"y": 2e-6}) is None


def test_a_device_that_rounds_by_length_is_seen_at_any_length_of_the_plan() -> None:
    made = subject(LengthDependent(16), features(), output("batch", 4, "time"))
    plan = make_plan(made, Settings())
    assert not isinstance(plan, str)
    law = learn_law((plan.steps, plan.cut), [(1, 4, plan.steps), (1, 4, plan.cut)])
    assert law is not None
    found = check_backends(made, plan, {"y": law}, device="cpu")
    note = backend_note(found, {"y": 2e-6})
    assert note is not None and "not structure" in note


@pytest.mark.parametrize("leaks", [False, True])
def test_only_a_module_that_is_causal_is_told_of_numerics(
    leaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_device(*_: Any) -> dict[str, dict[str, float]]:
        return {"cuDNN, float32": {"y": 0.0}, "cuDNN, TF32": {"y": 4.9e-4}}

    monkeypatch.setattr(causality_torch, "check_backends", on_a_device)
    module = Fsmn(1, 2, 0.1) if leaks else LengthDependent(10**6)
    made = subject(module, features(), output("batch", 4, "time"))
    found, _ = run_contracts(made, {"causality": {"lookahead_samples": 0}})
    assert found.status == ("fail" if leaks else "pass"), found.reason
    assert ("on CUDA, not structure" in found.reason) == (not leaks)
    assert found.details["backends"]["cuDNN, TF32"]["y"] == 4.9e-4
