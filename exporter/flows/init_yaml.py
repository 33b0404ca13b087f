"""What was found of an ONNX file, as the YAML that the other commands take.

One line per thing that was found, with the reason behind it; and a contract per property that such
a file should have.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.config.section import Name
from exporter.contracts.result import ContractResult
from exporter.draft.found_axis import FoundAxis
from exporter.flows.init_sizes import BATCH, is_rate
from exporter.flows.init_states import StatePair
from exporter.joining.interface_inputs import Input
from exporter.parity.status import Status, needs_a_word

_PLAIN = re.compile(r"^[A-Za-z_][\w./-]*$")
_YAML_WORDS = frozenset("y n yes no on off true false null".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What was found of a file.

    Attributes:
        inputs: with the names of axes of the YAML. lengths: input -> (input, axis) that it counts.
        fixed: axes of which one size is taken.
        causal: how the measured causality reads; None: it was not looked at.
    """

    path: Path
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    states: tuple[StatePair, ...]
    axes: tuple[FoundAxis, ...]
    fixed: tuple[FoundAxis, ...] = ()
    lengths: Mapping[str, tuple[str, str]]
    causal: ContractResult | None = None

    @property
    def names(self) -> dict[str, str]:
        """Name in the YAML -> the file's, where they differ: lengths have their input's."""
        return {f"{of}_lengths": name for name, (of, _) in self.lengths.items()
                if name != f"{of}_lengths"}  # fmt: skip

    def ours(self, name: str) -> str:
        """What an input is called in the YAML."""
        return next((ours for ours, theirs in self.names.items() if theirs == name), name)


def yaml_of(described: Description, folder: Path) -> str:
    """The text; ``folder`` is where it will lie."""
    path = described.path.resolve()
    near = folder.resolve() in (path.parent, path.parent.parent)
    shown = os.path.relpath(path, folder.resolve()) if near else str(path)
    ours = described.ours
    names = described.names
    model = f"onnx: {_quoted(shown)}"
    if names:
        states = ", ".join(f"{_quoted(a)}: {_quoted(b)}" for a, b in names.items())
        model += f", names: {{{states}}}"
    called = " ".join(path.name.split())  # a second line would be no comment
    lines = [
        f"# {called} as 'export-verify init' found it by running it. What it guessed says so.",
        f"name: {name_of(path)}",
        f"model: {{{model}}}",
    ]
    if described.axes:
        lines.append("axes:")
    lines += [_commented(f"  {axis.name}: {_axis(axis)}", axis.why) for axis in described.axes]
    lines += [f"# '{axis.name}' is {axis.example}: {axis.why}" for axis in described.fixed]
    lines.append("inputs:")
    for item in described.inputs:
        spec, why = _input(item, described)
        lines.append(_commented(f"  {_quoted(ours(item.name))}: {spec}", why))
    lines.append(f"outputs: [{', '.join(_quoted(name) for name in described.outputs)}]")
    if described.states:
        lines.append("states:")
    for state in described.states:
        pair = f"  {_quoted(state.output)}: {_quoted(state.input)}"
        lines.append(_commented(pair, f"proposed: {state.why}"))
    drawn = next((item for item in described.inputs if _is_signal(item, described)), None)
    given = ours((drawn or described.inputs[0]).name)
    draw = "{kind: normal, seed: 1, scale: 0.1}" if drawn else _draw(described.inputs[0])
    lines.append("default_case: drawn")
    lines.append(f"cases: [{{name: drawn, random: {{{_quoted(given)}: {draw}}}}}]")
    lines.append("contracts:")
    lines += [
        _commented(f"  {name}: {options}", why) for name, options, why in _contracts(described)
    ]
    lines += _left_out(described)
    return "\n".join(lines) + "\n"


def _commented(line: str, why: str) -> str:
    return f"{line}  # {why}" if why else line


def name_of(path: Path) -> str:
    """A name of a pipeline, after the file."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:60]
    return name if re.match(_pattern(), name) else f"file_{name}"


def _pattern() -> str:
    return next(item.pattern for item in Name.__metadata__)  # type: ignore[attr-defined]


def _quoted(text: str) -> str:
    plain = _PLAIN.match(text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text)


def _axis(axis: FoundAxis) -> str:
    parts = [] if axis.minimum == 1 or axis.minimum == axis.multiple_of else [
        f"minimum: {axis.minimum}"
    ]  # fmt: skip
    if axis.maximum is not None:
        parts.append(f"maximum: {axis.maximum}")
    if axis.multiple_of > 1:
        parts.append(f"multiple_of: {axis.multiple_of}")
    if axis.example >= 2:
        parts.append(f"example: {axis.example}")
    return f"{{{', '.join(parts)}}}"


def _is_signal(item: Input, described: Description) -> bool:
    carried = {state.input for state in described.states}
    return item.dtype.kind == "f" and item.name not in carried


def _input(item: Input, described: Description) -> tuple[str, str]:
    shape = ", ".join(str(size) for size in item.shape)
    spec = f"dtype: {item.dtype.name}, shape: [{shape}]"
    if any(state.input == item.name for state in described.states):
        return f"{{{spec}}}", "zeros before the first call"
    if is_rate(item):
        return f"{{{spec}, draw: {_draw(item)}}}", "called as a sample rate is"
    if item.name in described.lengths:
        return f"{{{spec}}}", f"how much of '{described.lengths[item.name][0]}' is in use"
    if item.dtype.kind == "b":
        return f"{{{spec}}}", "all True"
    guess = "" if item.dtype.kind == "f" else "a guess: which integers are valid it does not say"
    return f"{{{spec}, draw: {_draw(item)}}}", guess


def _draw(item: Input) -> str:
    if item.dtype.kind == "f":
        return "{kind: normal, scale: 0.1}"
    if is_rate(item):
        return "{kind: constant, value: 16000}"
    if item.dtype.kind == "b":
        return "{kind: booleans, probability: 1.0}"
    return "{kind: integers, low: 0, high: 2}"


def _contracts(described: Description) -> list[tuple[str, str, str]]:
    """Contract, its options and the reason; what a healthy file of this kind keeps."""
    signal = any(_is_signal(item, described) for item in described.inputs)
    batch = any(axis.name == BATCH for axis in described.axes)
    contracts = [("determinism", "{}", "the same in, the same out, bit by bit")]
    if described.axes:
        contracts.append(("shapes", "{}", "every size of the axes above runs"))
    if batch:
        lengths = " and its padding does not count" if described.lengths else ""
        contracts.append(
            ("padding", "{}", f"a row gives among others what it gives alone{lengths}")
        )
    if signal:
        contracts.append(
            ("silence", "{}", "digital silence, clicks and NaN in one row are survived")
        )
    contracts.append(("dtype", "{precisions: [as_built]}", "its types fit together"))
    if described.states:
        contracts.append(
            ("reset", "{}", "with its states put back nothing is left of what was before")
        )
    if described.causal is not None and described.causal.status is Status.PASS:
        options, why = "{}", "measured: nothing later reaches back"
        if described.states and any(axis.name != BATCH for axis in described.axes):
            pairs = ", ".join(
                f"{_quoted(state.input)}: {_quoted(state.output)}" for state in described.states
            )
            options = f"{{streaming: {{state: {{{pairs}}}}}}}"
            why += ", and pieces have to add up to the whole"
        contracts.append(("causality", options, why))
    return contracts


def _left_out(described: Description) -> list[str]:
    causal = described.causal
    if causal is None or not needs_a_word(causal.status):
        return []
    said = " ".join((causal.observed or causal.reason).split())[:120]
    what = "not measured" if causal.status is Status.NOT_RUN else "it sees ahead"
    return [f"  # causality: {{}}  # left out, {what}: {said}"]
