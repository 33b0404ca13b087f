"""Every broken module is caught and named; nothing healthy is accused."""

from __future__ import annotations

import pytest

from exporter.contracts import ContractResult
from tests.contracts.zoo import CONTRACTS, toys
from tests.contracts.zoo.toy import Toy

CASES = [
    pytest.param(contract, toy, id=f"{contract}-{toy.name}")
    for contract in CONTRACTS
    for toy in toys(contract)
]


@pytest.mark.parametrize(("contract", "toy"), CASES)
def test_toy(contract: str, toy: Toy) -> None:
    found = toy.run(contract)
    assert set(found) == {"torch", "onnx"}
    for side in ("torch", "onnx"):
        expected = getattr(toy, side)
        if expected is not None:
            check_side(toy, side, found[side], expected)


def check_side(toy: Toy, side: str, result: ContractResult, expected: str) -> None:
    shown = f"{result.status}: {result.reason} | {result.where} | {result.observed}"
    assert result.status == expected, shown
    if expected != "fail":
        return
    assert result.advice and result.observed and result.limit, shown
    if toy.says and not (side == "onnx" and toy.torch == "fail"):
        assert toy.says in f"{result.reason} {result.observed}", shown
    module = toy.module
    if side == "onnx" and toy.onnx_module is not None:
        module = toy.onnx_module
    if module is not None:
        assert result.where is not None, shown
        assert result.where.module == module, shown


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_contract_has_enough_of_both_kinds(contract: str) -> None:
    broken = [toy for toy in toys(contract) if toy.broken]
    healthy = [toy for toy in toys(contract) if not toy.broken]
    assert len(broken) >= 4 and len(healthy) >= 4
    assert all("fail" in (toy.torch, toy.onnx) for toy in broken)
    assert all("fail" not in (toy.torch, toy.onnx) for toy in healthy)
