"""Silence and limits: inputs at the edge of what there is.

Digital silence, a constant, a full-scale square wave, one click, noise of 1e-8, NaN, Inf and no
samples at all. Finite input gives finite output; both sides agree; what the pipeline declares
("silence yields no tokens") holds. What NaN and Inf give is the model's business unless it is
declared (``non_finite: finite``), but both sides must give it, and in one row only: a broken
recording must not spoil the others of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.contracts.compare.agree import disagreement
from exporter.contracts.compare.differ import shown
from exporter.contracts.compare.noise import Noise, noise_of
from exporter.contracts.locate.beside_program import first_unlike_program
from exporter.contracts.locate.finite import first_op_not_finite, first_value_not_finite, not_finite
from exporter.contracts.probes import probe
from exporter.contracts.result import (
    ONNX,
    SIDES,
    TORCH,
    Answer,
    ContractResult,
    Location,
    not_applicable,
)
from exporter.contracts.silence.settings import Settings
from exporter.contracts.silence.signals import Signal, make_signals
from exporter.contracts.silence.together import together
from exporter.contracts.silence.unsteady import STEADY, Unsteady, unsteady
from exporter.contracts.target import ForwardError, Target, on_file
from exporter.core.errors import OnnxStoppedError
from exporter.core.tensors import Arrays
from exporter.parity.status import Status

NAME = "silence"
_GUARD = "guard this op against inputs without signal or without frames"
_EPSILON = (
    "what is left of such a signal is rounding, and this makes it large: add an epsilon or a floor"
    " where it is divided by, or its logarithm is taken"
)
_COMPARE = "compare this op's definition on both sides for this value"


class _Bad(Exception):  # noqa: N818 - a finding that ends the check of one signal, no error
    def __init__(
        self, what: str, where: Location | None, advice: str, status: Status = Status.FAIL
    ):
        super().__init__(what)
        self.what, self.where, self.advice, self.status = what, where, advice, status


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What one signal gave, and what is to be said of it although it does not fail."""

    text: str
    said: str = ""

    @property
    def shown(self) -> str:
        return f"{self.text}; said only: {self.said}" if self.said else self.text


def check(target: Target, settings: Settings) -> tuple[ContractResult, ...]:
    """Check both sides."""
    axis = target.signal_axis(settings.input, settings.axis)
    if axis is None or not target.spec(axis.input).dtype.startswith(("float", "bfloat")):
        why = "no input is a signal of floating values"
        return tuple(not_applicable(NAME, side, why) for side in SIDES)
    inputs = probe(target)
    noise = noise_of(target)
    signals = make_signals(target, axis, inputs, settings)
    torch_rows: dict[str, _Row] = {}
    onnx_rows: dict[str, _Row] = {}
    torch_bad: list[tuple[str, _Bad]] = []
    onnx_bad: list[tuple[str, _Bad]] = []
    well = _well_together(target, signals, settings, noise)
    for signal in signals:
        if signal.name in well:
            torch_rows[signal.name], row = well[signal.name]
            onnx_rows |= {} if row is None else {signal.name: row}
            continue
        left: dict[str, np.ndarray] | None = None
        try:
            left = _run_torch(target, signal)
            torch_rows[signal.name] = _torch(target, signal, settings, left, noise)
        except _Bad as bad:
            torch_rows[signal.name] = _Row(text=bad.what)
            if bad.status is Status.FAIL:
                torch_bad.append((signal.name, bad))
        if target.onnx.problem is None:
            try:
                right = _run_onnx(target, signal)
                onnx_rows[signal.name] = (
                    _Row(text=right)
                    if isinstance(right, str)
                    else _onnx(target, signal, settings, left, right, noise)
                )
            except _Bad as bad:
                onnx_rows[signal.name] = _Row(text=bad.what)
                onnx_bad.append((signal.name, bad))
    found = _verdict(TORCH, torch_bad, torch_rows)
    return found, on_file(NAME, target, lambda: _verdict(ONNX, onnx_bad, onnx_rows))


def _well_together(
    target: Target, signals: Sequence[Signal], settings: Settings, noise: Noise
) -> dict[str, tuple[_Row, _Row | None]]:
    """Rows of the signals that break a row, of each side, where both are well in one batch;
    nothing where anything is to be said."""
    batch = together(target, signals)
    if batch is None:
        return {}
    rows: dict[str, tuple[_Row, _Row | None]] = {}
    try:
        whole = target.torch(batch.inputs)
        other = target.onnx.run(batch.inputs) if target.onnx.problem is None else None
        if not batch.fits(whole) or not (other is None or batch.fits(other)):
            return {}
        rights = [None, None] if other is None else batch.parts(other)
        for signal, left, right in zip(batch.signals, batch.parts(whole), rights, strict=True):
            here = _torch(target, signal, settings, left, noise)
            there = None
            if right is not None:
                there = _onnx(target, signal, settings, left, right, noise)
            if here.said or (there is not None and there.said):
                return {}
            rows[signal.name] = here, there
    except (_Bad, ForwardError, OnnxStoppedError):
        return {}
    return rows


def _run_torch(target: Target, signal: Signal) -> dict[str, np.ndarray]:
    try:
        return target.torch(signal.inputs)
    except ForwardError as error:
        if signal.refusable:
            raise _Bad(f"refused: {error.text}", None, "", Status.NOT_APPLICABLE) from error
        where = target.raised_at(error)
        raise _Bad(f"raises {error.kind}: {error.text}", where, _GUARD) from error


def _torch(target: Target, signal: Signal, settings: Settings, found: Arrays, noise: Noise) -> _Row:
    bad = _not_finite(target, found, signal, settings)
    if bad is not None:
        where = first_op_not_finite(target, signal.inputs, **_spoiled_row(signal))
        raise _Bad(bad, where, _advice(signal))
    _expected(found, signal, settings)
    if signal.name in STEADY:
        shaky = unsteady(target, signal.inputs, found, noise)
        if shaky is not None:
            return _Row(text=_summary(found), said=_said(shaky, settings))
    return _Row(text=_summary(found))


def _run_onnx(target: Target, signal: Signal) -> dict[str, np.ndarray] | str:
    """Outputs, or in words that the signal is refused, as it may be."""
    try:
        return target.onnx.run(signal.inputs)
    except OnnxStoppedError as error:
        if signal.refusable:
            return f"refused: {str(error)[:120]}"
        where = target.onnx.place_of_node(error.node)
        raise _Bad(f"raises: {str(error)[:300]}", where, _GUARD) from error


def _onnx(
    target: Target,
    signal: Signal,
    settings: Settings,
    left: Arrays | None,
    found: Arrays,
    noise: Noise,
) -> _Row:
    bad = _not_finite(target, found, signal, settings)
    if bad is not None:
        where = first_value_not_finite(target, signal.inputs, **_spoiled_row(signal))
        raise _Bad(bad, where, _advice(signal))
    _expected(found, signal, settings)
    if left is not None and not signal.finite:
        said = (
            None
            if settings.non_finite == "report"
            else _same_numbers(target.beside, left, found, signal)
        )
        if said is not None:
            return _Row(text=_summary(found), said=said)
    elif left is not None:
        different = disagreement(target, signal.inputs, left, found, noise, fragile_agrees=True)
        if different is not None and not different.fragile:
            where = first_unlike_program(target, signal.inputs)
            raise _Bad(f"{target.beside} and ONNX disagree: {different.text()}", where, _COMPARE)
        shaky = None
        if different is not None and signal.name in STEADY:
            shaky = unsteady(target, signal.inputs, left, noise, found)
        if shaky is not None:
            return _Row(text=_summary(found), said=_said(shaky, settings))
    return _Row(text=_summary(found))


def _said(shaky: Unsteady, settings: Settings) -> str:
    if settings.steady == "report":
        return shaky.text()
    raise _Bad(shaky.text(), shaky.where, f"{_EPSILON}, or declare steady: report")


def _same_numbers(beside: str, left: Arrays, right: Arrays, signal: Signal) -> str | None:
    """With NaN or Inf in: equal shapes, and what is no number on one side is none on the other.

    What PyTorch made of an infinity and a clip in ONNX has stopped is returned, to be said only.
    """
    for name, value in left.items():
        other = right[name]
        if value.shape != other.shape:
            shapes = f"{list(value.shape)} in {beside} and {list(other.shape)} in ONNX"
            what = f"'{name}' is {shapes}"
            raise _Bad(what, None, _advice(signal))
        if value.dtype.kind != "f":
            continue
        worse = np.isfinite(value) & ~np.isfinite(other)
        better = np.isnan(value) & ~np.isnan(other)
        if not (worse | better).any():
            continue
        at = int(np.flatnonzero(worse if worse.any() else better)[0])
        here, there = shown(value.reshape(-1)[at]), shown(other.reshape(-1)[at])
        what = f"'{name}' is {here} in {beside} and {there} in ONNX"
        if worse.any() or signal.name == "nan":
            raise _Bad(what, None, f"{_advice(signal)}, or declare non_finite: report")
        return what
    return None


def _advice(signal: Signal) -> str:
    if signal.finite:
        return "add an epsilon or a floor where this op divides, takes a root or a logarithm"
    return "replace NaN and Inf at the entrance (torch.nan_to_num), or keep rows apart"


def _not_finite(target: Target, found: Arrays, signal: Signal, settings: Settings) -> str | None:
    """What is NaN or infinite and ought not to be."""
    if signal.finite or settings.non_finite == "finite":
        return not_finite(found)
    if signal.row is None:
        return None
    for name, value in found.items():
        position = target.batch_position(name)
        if position is None or value.dtype.kind != "f":
            continue
        if not np.isfinite(np.delete(value, signal.row, axis=position)).all():
            return f"a {signal.name} in row {signal.row} reaches other rows of '{name}'"
    return None


def _expected(found: Arrays, signal: Signal, settings: Settings) -> None:
    expected = {str(tried): wanted for tried, wanted in settings.expect.items()}
    for name, wanted in expected.get(signal.name, {}).items():
        value = found.get(name)
        if value is None:
            raise _Bad(f"there is no output '{name}'", None, "correct the contract's 'expect'")
        wrong = value.size if wanted == "empty" else int(np.count_nonzero(value))
        if wrong:
            what = f"'{name}' should be {wanted} and has {wrong} values that are not"
            raise _Bad(what, None, "move the threshold that decides this, or the declaration")


def _spoiled_row(signal: Signal) -> dict[str, Any]:
    return {} if signal.finite else {"row": signal.row, "rows": signal.rows}


def _summary(found: Arrays) -> str:
    parts = []
    for name, value in found.items():
        if not value.size:
            parts.append(f"{name} empty")
        elif value.dtype.kind == "f":
            finite = value[np.isfinite(value)]
            peak = f"{np.abs(finite).max():.3g}" if finite.size else "none finite"
            bad = value.size - finite.size
            parts.append(f"{name} peak {peak}" + (f", {bad} not finite" if bad else ""))
        else:
            parts.append(f"{name} {list(value.shape)}")
    return "; ".join(parts)


def _verdict(side: str, bad: list[tuple[str, _Bad]], rows: dict[str, _Row]) -> ContractResult:
    said = Answer(NAME, side, {"signals": {name: row.shown for name, row in rows.items()}})
    if not bad:
        told = [f"said only: {name}: {row.said}" for name, row in rows.items() if row.said]
        return said.passed(
            f"{len(rows)} signals as declared",
            "no NaN, no crash, both sides agree",
            "; ".join([", ".join(rows), *told]),
        )
    name, first = bad[0]
    count, reason = f"{len(bad)} of {len(rows)} signals", f"{name}: {first.what}"
    return said.failed(count, "0", reason, where=first.where, advice=first.advice)
