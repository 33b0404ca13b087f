"""Run the contracts that a pipeline declares."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from exporter.config import Pipeline
from exporter.contracts.probes import probe
from exporter.contracts.result import ONNX, SIDES, TORCH, ContractResult, not_applicable, not_run
from exporter.contracts.settings import ContractSettings, check_named, read_settings
from exporter.contracts.target import ForwardError, Target
from exporter.core.errors import ConfigError, OnnxStoppedError
from exporter.core.tensors import Arrays
from exporter.execution.memory import keep_freed_pages, old_objects_left_alone
from exporter.parity.status import Status

CONTRACTS: dict[str, str] = {
    "causality": "exporter.contracts.causality.check",
    "padding": "exporter.contracts.padding.check",
    "mutation": "exporter.contracts.mutation.check",
    "dtype": "exporter.contracts.dtype.check",
    "determinism": "exporter.contracts.determinism.check",
    "shapes": "exporter.contracts.shapes.check",
    "silence": "exporter.contracts.silence.check",
    "reset": "exporter.contracts.reset.check",
    "stream": "exporter.contracts.stream.check",
}
"""Name in the YAML -> module."""
_NO_RESULTS = frozenset({"mutation", "dtype"})
"""Contracts that do not compare results: of inputs, state and types."""
_OF_WHOLE_CASES = frozenset({"reset", "stream"})
"""Contracts that begin with a case as it is; the others with a probe that is cut from it."""


class ContractFile(Protocol):
    """The two names that a module listed in ``CONTRACTS`` has."""

    Settings: type[ContractSettings]

    def check(self, target: Target, settings: Any) -> tuple[ContractResult, ...]:
        """Return one verdict per side."""
        ...


def load_contract(name: str) -> ContractFile:
    """Import the module of a contract; ``KeyError`` for a name that is not in ``CONTRACTS``."""
    return importlib.import_module(CONTRACTS[name])  # type: ignore[return-value]


def declared_settings(
    declared: Mapping[str, Any],
    *,
    pipeline: Pipeline | None = None,
    only: Iterable[str] | None = None,
) -> dict[str, ContractSettings]:
    """Validate what a pipeline declares; contracts that are ``false`` are left out.

    Args:
        declared: the ``contracts`` section: name -> options, ``None`` (defaults) or ``False``.
        pipeline: for the place in error messages.
        only: names to run; one that is not declared runs with its defaults.

    Raises:
        ConfigError: an unknown contract or option.
    """
    chosen = {name: options for name, options in declared.items() if options is not False}
    if only is not None:
        chosen = {name: chosen.get(name) for name in only}
    by_contract = {}
    for name, options in chosen.items():
        if name not in CONTRACTS:
            where = pipeline.where("contracts", name) if pipeline is not None else "contracts"
            raise ConfigError(
                f"there is no contract '{name}'",
                where=where,
                remedy=f"contracts: {', '.join(CONTRACTS)}",
            )
        kind = load_contract(name).Settings
        by_contract[name] = read_settings(kind, options, name=name, pipeline=pipeline)
    return by_contract


def run_contracts(
    target: Target,
    declared: Mapping[str, Any],
    *,
    thorough: bool = False,
    progress: Callable[[str], None] | None = None,
    pipeline: Pipeline | None = None,
) -> tuple[ContractResult, ...]:
    """Check every declared contract.

    Args:
        target: what is checked; its ONNX file is exported on demand if it has none.
        declared: contract -> options (as in the YAML), or -> validated settings.
        thorough: look at more sizes, orders and thread counts, without regard to cost.
        progress: called with the name of each contract before it runs.
        pipeline: for the place in error messages.

    Returns:
        per contract one result for "torch" and one for "onnx", in the order declared.

    Raises:
        ConfigError: an unknown contract or option, or an option that names what does not exist.
    """
    plain = {k: v for k, v in declared.items() if not isinstance(v, ContractSettings)}
    settings = {
        **{k: v for k, v in declared.items() if isinstance(v, ContractSettings)},
        **declared_settings(plain, pipeline=pipeline),
    }
    for name, options in settings.items():
        if options.not_applicable:
            continue  # an inherited section may name what this system has not
        check_named(options, _known_names(target), name=name, pipeline=pipeline)
    target.thorough = target.thorough or thorough
    target.trusted = target.trusted or (pipeline is not None and pipeline.trusted)
    runs = {TORCH: target.recall, ONNX: target.onnx.recall}
    keep_freed_pages()
    checked: dict[str, list[ContractResult]] = {}
    results: list[ContractResult] = []
    with old_objects_left_alone():
        for name in (name for name in declared if name in settings):
            if progress is not None:
                progress(name)
            started = time.perf_counter()
            results_here = _checked(target, name, settings[name])
            seconds = time.perf_counter() - started
            checked[name] = [
                replace(
                    result,
                    contract=name,
                    details={**result.details, "seconds_of_contract": round(seconds, 3)},
                )
                for result in results_here
            ]
        # Last, when most of the runs that it asks for have been made.
        for name, rows in checked.items():
            seen = dict(target.cases[0].inputs) if name in _OF_WHOLE_CASES else probe(target)
            results += held_by_numbers(rows, seen, runs)
    return tuple(results)


def _checked(target: Target, name: str, settings: ContractSettings) -> tuple[ContractResult, ...]:
    """One contract; not applicable where the options say so, not run where the module raises."""
    if settings.not_applicable:
        return tuple(not_applicable(name, side, settings.not_applicable) for side in SIDES)
    try:
        return load_contract(name).check(target, settings)
    except ForwardError as error:
        return tuple(not_run(name, side, f"the module does not run: {error}") for side in SIDES)


def held_by_numbers(
    results: Sequence[ContractResult],
    inputs: Arrays,
    runs: Mapping[str, Callable[[Arrays], Arrays]],
) -> tuple[ContractResult, ...]:
    """Results, of which none that compares passes where its side gives NaN on ``inputs``.

    NaN equals NaN bit by bit: such a contract would be kept by no result at all.

    Args:
        inputs: what the contract begins with. runs: side -> its outputs for inputs.
    """
    blind: dict[str, str] = {}
    refuted = []
    for row in results:
        if row.status is Status.PASS and row.contract not in _NO_RESULTS:
            if row.side not in blind:
                blind[row.side] = _why_blind(inputs, runs[row.side])
            if why := blind[row.side]:
                told = not_run(row.name, row.side, why)
                row = replace(told, contract=row.contract, details=row.details)
        refuted.append(row)
    return tuple(refuted)


def _why_blind(inputs: Arrays, run: Callable[[Arrays], Arrays]) -> str:
    """Why a side shows nothing on inputs; "" where it does."""
    try:
        outputs = run(inputs)
    except (ForwardError, OnnxStoppedError) as error:
        return f"what it begins with does not run: {error}"
    for name, value in outputs.items():
        if value.dtype.kind == "f" and np.isnan(value).any():
            return f"'{name}' holds NaN on what it begins with: nothing is seen in it"
    return ""


def _known_names(target: Target) -> dict[str, tuple[str, ...]]:
    axes = {size for spec in target.inputs for size in spec.shape if isinstance(size, str)}
    return {
        "input": target.input_names,
        "output": tuple(spec.name for spec in target.outputs),
        "axis": tuple(sorted(axes)),
    }
