"""A repair is right when PyTorch computes the same with it and without.

The module itself is run both ways, at several sizes and on other values, with rows of different
lengths. The same bits: that is all. Other bits, as where a sum is taken in another order: then
both ways are run in float64, where they have to agree as closely as float64 does, and the repair
may be no less accurate in float32 than PyTorch is.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from exporter.core.errors import first_line
from exporter.core.tensors import Axis
from exporter.graph.repairs.frame import Log, Repair, repaired
from exporter.graph.repairs.module_run import ModuleRun

_CLOSE = 1e-10
"""Of the largest value: what two orders of a sum may differ by in float64."""
_WORSE = 4.0
"""A repair's error in float32 may be this many times PyTorch's, or a few roundings."""
_ROUNDINGS = 64 * torch.finfo(torch.float32).eps

_WIDER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}

Probe = tuple[str, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What running a module with and without repairs showed.

    Attributes:
        probes: how many inputs both were run on.
        differs: where they are not the same, in words; "" when they are everywhere.
        strain: largest error in float32 over PyTorch's own; None: the same bits everywhere.
    """

    probes: int
    differs: str = ""
    strain: float | None = None

    def words(self) -> str:
        """For a report."""
        if self.strain is None:
            return f"the same bits with and without on {self.probes} inputs"
        return (
            f"on {self.probes} inputs the same in float64 with and without; in float32"
            f" {self.strain:.2g} times as far from that as PyTorch is"
        )


def probes(
    example: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    axes: Mapping[str, Axis],
    make: Callable[..., Mapping[str, Tensor]] | None,
) -> Iterator[Probe]:
    """Inputs that a repair is tried on: the example, then other sizes, values and lengths.

    Args:
        make: an example at other sizes; with a seed: other values, and rows of other lengths.
    """
    yield "the example", example
    if make is None:
        return
    named = {name: size for name, size in sizes.items() if name in axes}
    longer = {name: size + 2 + size // 4 for name, size in named.items()}
    shorter = {name: max(1, (2 * size) // 3) for name, size in named.items()}
    for at, seed in ((named, 1), (longer, 2), (shorter, 3), (longer, 0)):
        at = {name: _taken(axes[name], size, named[name]) for name, size in at.items()}
        label = ", ".join(f"{name} {size}" for name, size in at.items())
        yield f"{label}, seed {seed}", make({**sizes, **at}, seed)


def _taken(axis: Axis, size: int, known: int) -> int:
    """The size itself, or one nearby that the axis takes; the known one at last."""
    near = (size + step for step in range(axis.multiple_of))
    return next((each for each in near if axis.takes(each)), known)


def prove(run: ModuleRun, repairs: Sequence[Repair], inputs: Iterable[Probe]) -> Proof:
    """Run a module with repairs and without. Inputs that the module itself refuses do not count."""
    seen, strains = 0, []
    for label, values in inputs:
        plain = _run(run, values, ())
        if isinstance(plain, Exception):
            continue
        seen += 1
        other = _run(run, values, repairs)
        if isinstance(other, Exception):
            return Proof(probes=seen, differs=f"on {label} it stops: {first_line(other)}")
        wrong = _unlike(plain, other)
        if wrong:
            return Proof(probes=seen, differs=f"on {label} {wrong}")
        if not all(_same(a, b) for a, b in zip(plain, other, strict=True)):
            strain = _strain(run, values, repairs, plain, other)
            if isinstance(strain, str):
                return Proof(probes=seen, differs=f"on {label} {strain}")
            strains.append(strain)
    if not seen:
        return Proof(probes=0, differs="the module ran on no input")
    return Proof(probes=seen, strain=max(strains, default=None))


def _run(
    run: ModuleRun,
    values: Mapping[str, Tensor],
    repairs: Sequence[Repair],
    *,
    wide: bool = False,
) -> list[Tensor] | Exception:
    try:
        own = copy.deepcopy(run.module)
        own = own._apply(_widened) if wide else own
        fed = [_widened(v.clone()) if wide else v.clone() for v in values.values()]
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(torch.no_grad())
            if wide:
                stack.enter_context(_Wide())
            stack.enter_context(repaired(replace(run, module=own), repairs))
            for repair in repairs:
                stack.enter_context(repair.running())
            torch.manual_seed(0)
            return list(own(*fed))
    except Exception as error:  # noqa: BLE001 - whatever the user's model raises
        return error


class _Wide(TorchDispatchMode):
    """Run in float64 what a module makes, or casts, in a narrower type as well."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        schema = func._schema
        shows = any(each.alias_info for each in (*schema.arguments, *schema.returns))
        args, kwargs = tree_map(_widened_type, (args, kwargs or {}))
        if _makes_floats(func, args, kwargs):
            kwargs = {**kwargs, "dtype": torch.float64}
        if shows:
            return func(*args, **kwargs)
        args, kwargs = tree_map(_widened, (args, kwargs))
        return tree_map(_widened, func(*args, **kwargs))


def _makes_floats(func: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """True for what computes floats of numbers (a window, ``linspace``) in torch's usual type."""
    if kwargs.get("dtype") is not None or any(isinstance(v, Tensor) for v in tree_leaves(args)):
        return False
    name = func._schema.name.removeprefix("aten::")
    return name.endswith("_window") or name in ("linspace", "logspace")


def _widened_type(value: Any) -> Any:
    return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value


def _widened(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(_WIDER[value.dtype]) if value.dtype in _WIDER else value


def _unlike(plain: Sequence[Tensor], other: Sequence[Tensor]) -> str:
    """What no rounding explains."""
    for number, (a, b) in enumerate(zip(plain, other, strict=True)):
        if a.dtype != b.dtype or a.shape != b.shape:
            return (
                f"output {number} is {b.dtype} {list(b.shape)}, not {a.dtype} {list(a.shape)}"
            ).replace("torch.", "")
        if not a.is_floating_point() and not a.is_complex() and not torch.equal(a, b):
            return f"output {number}: {(a != b).float().mean():.0%} of its values differ"
        if a.is_floating_point() and not torch.equal(a.isfinite(), b.isfinite()):
            return f"output {number}: NaN or infinity in other places"
    return ""


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())


def _strain(
    run: ModuleRun,
    values: Mapping[str, Tensor],
    repairs: Sequence[Repair],
    plain: Sequence[Tensor],
    other: Sequence[Tensor],
) -> float | str:
    truth = _run(run, values, (), wide=True)
    wide = _run(run, values, repairs, wide=True)
    if isinstance(truth, Exception) or isinstance(wide, Exception):
        return "has other bits, and float64, which would tell rounding from error, does not run"
    strain = 0.0
    for number, (right, also, a, b) in enumerate(zip(truth, wide, plain, other, strict=True)):
        if _same(a, b):
            continue
        if right.shape != a.shape:
            return f"output {number} has another shape in float64"
        # Infinities and NaN are in the same places of both already, and say nothing of rounding.
        counts = right.isfinite() & a.isfinite()
        scale = float(right[counts].abs().max()) if counts.any() else 0.0
        away = _distance(right, also)
        if not away <= _CLOSE * max(scale, 1e-30):
            return f"output {number} is away by {away:.3g} of {scale:.3g} in float64"
        allowed = max(_distance(right[counts], a[counts]), _ROUNDINGS * scale)
        error = _distance(right[counts], b[counts])
        if not error <= _WORSE * allowed:
            return f"output {number} is away by {error:.3g} of {scale:.3g} in float32"
        strain = max(strain, error / allowed if allowed else 0.0)
    return strain


def _distance(right: Tensor, tensor: Tensor) -> float:
    if right.shape != tensor.shape:
        return float("inf")
    a, b = right.double(), tensor.double()
    alike = (a == b) | (a.isnan() & b.isnan())
    away = (a - b).abs()[~alike].nan_to_num(nan=float("inf"))
    return float(away.max()) if away.numel() else 0.0


def checked(
    run: ModuleRun, repairs: Sequence[Repair], inputs: Sequence[Probe]
) -> tuple[Proof, dict[Repair, str]]:
    """Prove repairs together; where that fails, which of them are wrong, and how."""
    proof = prove(run, repairs, inputs)
    if not proof.differs:
        return proof, {}
    alone = {repair: prove(run, [repair], inputs).differs for repair in repairs}
    wrong = {repair: why for repair, why in alone.items() if why}
    return proof, wrong or dict.fromkeys(repairs, proof.differs)


def note_of(repair: Repair, log: Log, proof: Proof) -> str:
    """What a report says of a repair: what it replaced, where, how often, and the proof."""
    return f"repaired '{repair.name}': {log.words()}: {repair.replaces}; {proof.words()}"
