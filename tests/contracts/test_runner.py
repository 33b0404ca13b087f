"""What is declared is validated first, and nothing that was not looked at passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from exporter.contracts import CONTRACTS, declared_settings, run_contracts
from exporter.contracts.result import ContractResult, Location
from exporter.contracts.runner import held_by_numbers
from exporter.core.errors import ConfigError
from exporter.core.tensors import TensorSpec
from exporter.parity.status import Status
from tests.contracts.zoo.toy import features, output, subject
from tests.support.target_from_module import target_from_module

Y = output("batch", 4, "time")


class Doubles(nn.Module):
    """x + x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


class Raises(nn.Module):
    """Does not run at all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken upstream")


def test_an_unknown_contract_is_the_users_error() -> None:
    with pytest.raises(ConfigError, match="no contract 'causal'.*\n.*causality"):
        declared_settings({"causal": None})


def test_an_unknown_option_names_the_ones_that_exist() -> None:
    with pytest.raises(ConfigError, match="options of 'causality': .*lookahead_samples"):
        declared_settings({"causality": {"lookahed": 3}})


def test_a_sentence_cut_at_its_comma_is_an_unknown_option() -> None:
    """``{not_applicable: one at a time, there is no batch}`` is two keys, the second one null."""
    with pytest.raises(ConfigError, match="there is no batch"):
        declared_settings({"padding": {"not_applicable": "one", "there is no batch": None}})


def test_an_option_of_another_type() -> None:
    with pytest.raises(ConfigError, match="contracts.determinism.bitwise"):
        declared_settings({"determinism": {"bitwise": "yes"}})


def test_null_is_a_default_and_false_is_off() -> None:
    found = declared_settings({"causality": {"streaming": None}, "padding": False, "shapes": None})
    assert list(found) == ["causality", "shapes"]


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_reason_not_to_apply_is_shown_and_nothing_runs(name: str) -> None:
    made = subject(Raises(), features(), Y)
    found = run_contracts(made, {name: {"not_applicable": "full attention"}})
    assert [r.status for r in found] == [Status.NOT_APPLICABLE] * 2
    assert all(r.reason == "full attention" for r in found) and made.forwards == 0


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_module_that_does_not_run_never_passes(name: str) -> None:
    found = run_contracts(subject(Raises(), features(), Y), {name: None})
    assert {r.side for r in found} == {"torch", "onnx"}
    assert all(r.status in (Status.FAIL, Status.NOT_RUN) for r in found), found
    assert all(r.reason for r in found)


# A stream needs a case in windows: tests/contracts/test_stream.py has one.
@pytest.mark.parametrize("name", [n for n in CONTRACTS if n not in ("dtype", "stream")])
def test_a_side_without_a_file_is_not_run(name: str) -> None:
    found = {r.side: r for r in run_contracts(subject(Doubles(), features(), Y), {name: None})}
    assert found["torch"].status is Status.PASS
    assert found["onnx"].status is Status.NOT_RUN
    assert "no ONNX file" in found["onnx"].reason


@pytest.mark.parametrize("name", ["causality", "padding", "shapes", "silence"])
def test_a_model_of_fixed_size_has_nothing_to_sweep(name: str) -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=(2, 4))
    made = target_from_module(Doubles(), inputs=(spec,), outputs=output(2, 4), with_onnx=False)
    found = run_contracts(made, {name: None})
    assert all(r.status is Status.NOT_APPLICABLE for r in found)


def test_the_state_of_a_module_is_put_back() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))
            self.last: torch.Tensor | None = None
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = self.seen + 1
            self.last = x
            self.calls += 1
            return x + self.seen

    module = Keeps()
    made = subject(module, features(), Y)
    run_contracts(made, {"mutation": None, "determinism": None, "silence": None})
    assert float(module.seen) == 0 and module.last is None and module.calls == 0
    assert made.forwards > 3


def test_a_place_reads_well() -> None:
    place = Location(module="a.b", op="aten.add.Tensor", source="model.py:3")
    assert str(place) == "a.b [aten.add.Tensor] at model.py:3"
    assert str(Location()) == "(root)"


def test_progress_and_seconds() -> None:
    seen: list[str] = []
    made = subject(Doubles(), features(), Y)
    found = run_contracts(made, {"mutation": None, "silence": None}, progress=seen.append)
    assert seen == ["mutation", "silence"]
    assert all(result.details["seconds_of_contract"] >= 0 for result in found)
    assert found[0].record(required=False).verdict == "pass"


def test_no_contract_that_compares_is_kept_by_nan():
    inputs = {"x": np.ones(2, np.float32)}
    kept = [
        ContractResult(name=name, contract=name, side="torch", status=Status.PASS, reason="")
        for name in ("determinism", "mutation")
    ]
    nan = held_by_numbers(kept, inputs, {"torch": lambda inputs: {"y": inputs["x"] * np.nan}})
    assert [row.status for row in nan] == [Status.NOT_RUN, Status.PASS]
    assert nan[0].contract == "determinism" and "NaN" in nan[0].reason
    assert held_by_numbers(kept, inputs, {"torch": dict}) == tuple(kept)


class Infects(nn.Module):
    """x, times what is always NaN."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.log(torch.full((), -1.0))


_ASKED_FOR_MORE = ("mutation", "dtype", "reset", "stream")
"""Of results nothing is compared, or a toy without states and windows has nothing to compare."""


@pytest.mark.parametrize("name", [n for n in CONTRACTS if n not in _ASKED_FOR_MORE])
def test_results_that_are_nan_keep_no_contract_wherever_it_is_checked(name: str) -> None:
    nan = run_contracts(subject(Infects(), features(), Y, with_onnx=True), {name: None})
    assert all(row.status is not Status.PASS for row in nan), nan
    kept = run_contracts(subject(Doubles(), features(), Y, with_onnx=True), {name: None})
    assert all(row.status in (Status.PASS, Status.NOT_APPLICABLE) for row in kept), kept


def test_a_file_that_gives_nan_beside_a_healthy_module_keeps_nothing() -> None:
    made = subject(Doubles(), features(), Y, with_onnx=True)
    run = made.onnx.run
    made.onnx.run = lambda inputs, deployment=None: {"y": run(inputs, deployment)["y"] * np.nan}
    found = {row.side: row for row in run_contracts(made, {"determinism": None})}
    assert found["torch"].status is Status.PASS
    assert found["onnx"].status is Status.NOT_RUN and "NaN" in found["onnx"].reason


class RefusesGradients(nn.Module):
    """Runs, and raises without a word when a gradient is wanted."""

    def __init__(self, error: type[Exception]):
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            raise self.error
        return x + 1


@pytest.mark.parametrize("error", [RuntimeError, AssertionError])
def test_a_module_that_refuses_gradients_without_a_word_is_judged_without_them(error) -> None:
    target = subject(RefusesGradients(error), features(), Y)
    (result, _) = run_contracts(target, {"causality": {}})
    assert result.side == "torch" and result.status is Status.PASS
    why = result.details["outputs"]["y"]["by_gradient"]
    assert error.__name__ in str(why)
