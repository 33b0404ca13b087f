"""Find which layers of a file stay in float32: lower, measure, predict, choose, run; a few rounds.

all lowered -> own errors -> effects at the targets -> choice -> file -> run ---> good enough?
                                    ^------- linearised where that file is -----------'
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exporter.core.errors import UserInputError
from exporter.core.stages import Stages
from exporter.core.tensors import Case
from exporter.execution.deployment import Deployment
from exporter.execution.node_times import node_times
from exporter.execution.quantisers import KINDS, Order, write_lowered
from exporter.graph.index import GraphIndex
from exporter.graph.onnx_file import open_graph, open_in_place
from exporter.graph.program import Program
from exporter.interpret.flipped import Flips
from exporter.interpret.propagated import Effects, Targets, targets_of
from exporter.lowering.choice import predicted
from exporter.lowering.effects import effects_of
from exporter.lowering.gains import bytes_saved, seconds_gained
from exporter.lowering.layers import Layer, find_layers
from exporter.lowering.outcome import NOISE, Outcome, TargetRun, TorchOutcome, truth_of
from exporter.lowering.own_errors import LoweredFile, OwnErrors, own_errors
from exporter.lowering.rounds import Round, Rounds, Wanted

_MARGINS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search has found.

    Attributes:
        layers: that may be lowered; columns of the effects.
        own: relative error of each layer by itself, the worst case. effects: linearised at
            PyTorch's values, one per case. overflowing: places of layers that must stay.
        gain: what lowering each is worth. seconds: [L] gained, where times were measured.
        lowered: places of the layers that are lowered in the file.
        outcomes: of that file on the cases of the choice. everything: of all lowered.
        met: the file is within what is wanted on these cases.
        runs: of a whole model, forward or backward, PyTorch's and onnxruntime's.
    """

    layers: tuple[Layer, ...]
    own: np.ndarray
    effects: tuple[Effects, ...]
    overflowing: frozenset[int]
    gain: np.ndarray
    seconds: np.ndarray | None
    lowered: frozenset[int]
    outcomes: tuple[Outcome, ...]
    everything: tuple[Outcome, ...]
    rounds: tuple[Round, ...]
    met: bool
    runs: int
    order: Order

    @property
    def kept(self) -> tuple[Layer, ...]:
        """Layers that stay in float32."""
        return tuple(la for n, la in enumerate(self.layers) if n not in self.lowered)


@dataclass(slots=True, kw_only=True)
class Search:
    """A search on one float32 file.

    Args:
        source: the file. program: what it was exported from. cases: of the choice.
        folder: for files that are tried.

    Attributes:
        plain: the graph of the file.
    """

    source: Path
    program: Program
    cases: Sequence[Case]
    folder: Path
    deployment: Deployment
    budget: int
    wanted: Wanted
    stages: Stages
    eight: frozenset[str] = frozenset()
    runs: int = 0
    plain: GraphIndex = field(init=False)
    _targets: Targets = field(init=False)
    _truths: tuple[TorchOutcome, ...] = field(init=False)
    _turned: tuple[Flips, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.plain = open_graph(self.source)
        self._targets = targets_of(self.program)
        self._truths = tuple(truth_of(self.program, c.inputs, self._targets) for c in self.cases)
        self._turned = tuple(Flips(self.program, case.inputs) for case in self.cases)
        self.runs += 2 * len(self.cases)

    @property
    def everything(self) -> Path:
        """The file with all layers lowered."""
        return self.folder / "all.onnx"

    def order(self, kept: Sequence[Layer]) -> Order:
        """What an engine is asked for when these layers stay."""
        nodes = frozenset(node for layer in kept for node in layer.nodes)
        return Order(
            to=self.wanted.to,
            keep=nodes,
            eight=self.eight,
            calibration=[case.inputs for case in self.cases],
        )

    def layers(self) -> tuple[tuple[Layer, ...], LoweredFile]:
        """Lower everything; returns what was lowered, and the file.

        Raises:
            UserInputError: the engine lowers nothing of it.
        """
        write_lowered(self.source, self.everything, self.order(()))
        file = LoweredFile.of(self.program, open_graph(self.everything))
        kinds = KINDS.get(self.wanted.to)
        shared = file.shared(self.program, self.plain)
        layers = find_layers(self.plain, shared, file.lowered, kinds)
        if not layers:
            raise UserInputError(
                f"onnxruntime lowers nothing of this file to {self.wanted.to}",
                remedy="it lowers products, convolutions and LSTMs with constant weights",
            )
        return layers, file

    def write(self, target: Path, kept: Sequence[Layer]) -> None:
        """Write the file in which these layers stay, once everything has been lowered."""
        write_lowered(self.source, target, self.order(kept), self.everything)

    def outcomes(self, path: Path, file: LoweredFile) -> tuple[Outcome, ...]:
        """Run a file on the cases of the choice."""
        run = TargetRun(self.program, path, file, self._targets, self.deployment)
        self.runs += len(self.cases)
        pairs = zip(self.cases, self._truths, strict=True)
        return tuple(run.outcome(case.inputs, truth) for case, truth in pairs)

    def effects(
        self, layers: Sequence[Layer], own: Sequence[OwnErrors], lowered: frozenset[int] | None
    ) -> tuple[Effects, ...]:
        """Effects of all layers on every case, linearised where ``lowered`` ones are injected."""
        inside = [layers[n] for n in sorted(lowered or ())]
        injected = frozenset(tap for layer in inside for tap in layer.taps)
        found: list[Effects] = []
        for number, (case, held) in enumerate(zip(self.cases, own, strict=True)):
            effects, runs = effects_of(
                self.program,
                case.inputs,
                layers,
                held.errors,
                self._targets,
                directions=self.wanted.directions,
                casts=held.casts,
                decisions=_MARGINS,
                injected=injected,
                counts=self._counts(number),
                seed=number,
            )
            found.append(effects)
            self.runs += runs
        return tuple(found)

    def _counts(self, number: int) -> Callable[[str, int, float], bool]:
        """Whether a decision of a case is beyond float32's noise, and changes what comes out."""
        noise, turned = self._truths[number].noise, self._turned[number]

        def counts(name: str, index: int, gap: float) -> bool:
            if gap <= NOISE * noise.get(name, 0.0):
                return False
            before = turned.runs
            found = turned.matters(name, index)
            self.runs += turned.runs - before
            return found

        return counts

    def find(self, target: Path, fixed: Sequence[str] | None = None) -> Found:
        """Find the layers that stay, and write the file.

        Args:
            fixed: names of layers that somebody has chosen already: nothing is searched.

        Raises:
            UserInputError: nothing can be lowered, or ``fixed`` names what does not exist.
        """
        began = time.monotonic()
        with self.stages.stage("lower everything") as stage:
            layers, file = self.layers()
            everything = self.outcomes(self.everything, file)
            stage.result(f"{len(layers)} layers")
        with self.stages.stage("errors of the layers"):
            inputs = [case.inputs for case in self.cases]
            own = own_errors(self.program, file, inputs, self.deployment, self.budget)
            self.runs += 4 * len(self.cases)
        never = _overflowing(layers, own)
        with self.stages.stage("effects at the outputs"):
            first = self.effects(layers, own, None)
        seconds = self._seconds(layers) if self.wanted.prefer == "speed" else None
        gain = self._worth(layers, seconds)
        rounds: list[Round] = []
        best: tuple[frozenset[int], tuple[Outcome, ...]] | None = None
        with self.stages.stage("choose") as stage:
            if fixed is not None:
                lowered = frozenset(_without(layers, fixed))
                best = (lowered, self.tried(layers, lowered, target, rounds, first))
            else:
                best = Rounds(
                    wanted=self.wanted,
                    first=first,
                    effects_at=lambda lowered: self.effects(layers, own, lowered),
                    run=lambda lowered, effects: self.tried(
                        layers, lowered, target, rounds, effects
                    ),
                    gain=gain,
                    never=never,
                    fits=self.wanted.met_by(everything),
                    done=rounds,
                    began=began,
                ).best()
            stage.result(f"{len(layers) - len(best[0])} of {len(layers)} stay in float32")
        if not rounds or best[1] is not rounds[-1].outcomes:
            self.write(target, [la for n, la in enumerate(layers) if n not in best[0]])
        kept = [la for n, la in enumerate(layers) if n not in best[0]]
        return Found(
            layers=layers,
            own=_own(layers, own),
            effects=first,
            overflowing=never,
            gain=gain,
            seconds=seconds,
            lowered=best[0],
            outcomes=best[1],
            everything=everything,
            rounds=tuple(rounds),
            met=self.wanted.met_by(best[1]),
            runs=self.runs,
            order=self.order(kept),
        )

    def tried(
        self,
        layers: tuple[Layer, ...],
        lowered: frozenset[int],
        target: Path,
        rounds: list[Round],
        effects: Sequence[Effects],
    ) -> tuple[Outcome, ...]:
        kept = [la for n, la in enumerate(layers) if n not in lowered]
        self.write(target, kept)
        outcomes = self.outcomes(target, LoweredFile.of(self.program, open_in_place(target)))
        mask = np.array([float(n in lowered) for n in range(len(layers))])
        rounds.append(
            Round(
                kept=len(kept),
                predicted=predicted(effects, mask),
                outcomes=outcomes,
                met=self.wanted.met_by(outcomes),
            )
        )
        return outcomes

    def _seconds(self, layers: tuple[Layer, ...]) -> np.ndarray:
        with self.stages.stage("time of the nodes"):
            inputs = self.cases[0].inputs
            self.runs += 12
            plain = node_times(self.source, inputs, self.deployment)
            return seconds_gained(
                layers, plain, node_times(self.everything, inputs, self.deployment)
            )

    def _worth(self, layers: tuple[Layer, ...], seconds: np.ndarray | None) -> np.ndarray:
        saved = bytes_saved(layers, self.wanted.to)
        if seconds is not None:
            return seconds
        # Nodes without weights count as well: each that stays costs two casts.
        nodes = np.array([len(layer.nodes) for layer in layers], np.float64)
        return saved / max(float(saved.sum()), 1.0) + nodes / max(float(nodes.sum()), 1.0)


def _own(layers: Sequence[Layer], own: Sequence[OwnErrors]) -> np.ndarray:
    return np.array(
        [
            max((held.relative.get(tap, 0.0) for held in own for tap in layer.taps), default=0.0)
            for layer in layers
        ]
    )


def _overflowing(layers: Sequence[Layer], own: Sequence[OwnErrors]) -> frozenset[int]:
    return frozenset(
        n
        for n, layer in enumerate(layers)
        if any(tap in held.overflowing for held in own for tap in (*layer.taps, *layer.reads))
    )


def _without(layers: Sequence[Layer], names: Sequence[str]) -> set[int]:
    """Places of all layers but those that are named."""
    unknown = [name for name in names if not any(layer.called(name) for layer in layers)]
    if unknown:
        raise UserInputError(
            f"keep_float32: no layer that is lowered is called {', '.join(unknown)}",
            remedy=f"for example {', '.join(layer.name for layer in layers[:4])}",
        )
    return {n for n, layer in enumerate(layers) if not any(layer.called(w) for w in names)}
