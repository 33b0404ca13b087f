"""A user's own model: any ``nn.Module`` that a callable named by the YAML returns.

    model:
      factory: my_package.my_module:build     # or a class
      settings: {width: 144}                  # its keyword arguments
    inputs:
      x: {dtype: float32, shape: [batch, frames, 80]}

The names of the inputs say which parameter of ``forward`` takes each (``exporter.models.binding``);
it returns a tensor, or lists, tuples and dicts of them. Since this runs code that a file names, it
needs trust (``--trust``).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from exporter.cases.defaults import default_array, example_sizes, length_axis, own_seed
from exporter.config import Pipeline
from exporter.core.errors import ConfigError, ModelError, UserInputError, WeightsError
from exporter.core.tensors import Axis, TensorSpec
from exporter.models.binding import Binding, UnboundError, bind_inputs
from exporter.models.built import Built, WeightsInfo
from exporter.models.custom_translation import load_translations
from exporter.models.factory_uses import recorded
from exporter.models.fast_path import fast_path_note, has_fast_path, without_fast_path
from exporter.models.infer_outputs import infer_outputs, supported
from exporter.models.limits import find_limits, limited
from exporter.models.results import flat_results, leaves
from exporter.models.touched_tensors import Touched
from exporter.models.user_code import blamed, code_digest, find_callable, importable
from exporter.models.weights import (
    checkpoint_path,
    digest_tensors,
    load_strictly,
    read_model_pt,
    read_safetensors,
    resolve_weights,
)


def build(pipeline: Pipeline) -> Built:
    """Import and call a pipeline's factory, and learn what its module returns.

    Raises:
        UserInputError: the pipeline is not trusted.
        ConfigError: there is no such callable, or its inputs are not described.
        ModelError: the user's code raises; says on which line.
        WeightsError: the checkpoint cannot be read or does not fit.
    """
    target = str(pipeline.model.factory)
    where = pipeline.where("model", "factory")
    if not pipeline.trusted:
        raise UserInputError(
            f"this pipeline runs code: {target}",
            where=where,
            remedy="read that code, then add --trust (from Python: trust=True)",
        )
    folder = pipeline.factory_folder
    sizes = example_sizes(pipeline)
    example = _tensors(pipeline, sizes, 0)
    place = f"{folder}|{target}"
    given = pipeline.module
    with contextlib.nullcontext() if given is not None else importable(folder):
        with recorded(place):
            factory = _factory(pipeline, target, folder, where)
            module = _call(factory, pipeline, where)
            translations = load_translations(pipeline, folder)
        binding = _binding(module, pipeline)
        _settle(module, binding, pipeline, sizes)
        source = _load_weights(module, pipeline)
        _for_inference(module)
        # Never on the object that is captured: what it keeps for itself would grow there.
        with recorded(place) as used:
            probe = Probe(_twin(module, factory, pipeline, where), binding, pipeline)
            axes = _axes(pipeline)
            idle = probe.idle(sizes)
            limits = find_limits(probe.judged_by(sizes), axes, sizes)
            axes = limited(axes, limits)
            outputs = _outputs(probe, sizes, axes)
            unread = (f"the model does not read its input '{name}'" for name in sorted(idle))
            notes = (*(limit.note() for limit in limits), *unread, *probe.notes(sizes))
    code = code_digest(factory, module, used)
    both = f"{digest_tensors(module.state_dict())}\n{code}"
    weights = WeightsInfo(
        source=source, digest=hashlib.sha256(both.encode()).hexdigest(), seeded=False
    )
    return Built(
        module=module,
        takes="tensors",
        inputs=tuple(
            dataclasses.replace(spec, idle=spec.name in idle)
            for spec in input_specs(pipeline, axes)
        ),
        outputs=outputs,
        weights=weights,
        example=example,
        states=pipeline.states,
        binding=binding,
        translations=translations,
        notes=notes,
        sizes=sizes,
        example_at=lambda at, seed=0: _probed(pipeline, at, seed),
    )


def input_specs(
    pipeline: Pipeline, axes: Mapping[str, Axis] | None = None
) -> tuple[TensorSpec, ...]:
    """The ``inputs`` of a YAML as specs, in order.

    Args:
        axes: what is known of their axes; None: what the YAML says.
    """
    axes = _axes(pipeline) if axes is None else axes
    drawn = {name for name, spec in pipeline.inputs.items() if "draw" in spec.model_fields_set}
    starts_at_zero = set(pipeline.states.values()) - drawn
    return tuple(
        TensorSpec(
            name=name,
            dtype=spec.dtype,
            shape=tuple(spec.shape),
            axes=tuple(axes[size] for size in dict.fromkeys(spec.shape) if isinstance(size, str)),
            choices=dict(spec.choices),
            unit=spec.unit,
            initial=0.0 if name in starts_at_zero else None,
        )
        for name, spec in pipeline.inputs.items()
    )


def _axes(pipeline: Pipeline) -> dict[str, Axis]:
    return {name: pipeline.axis(name) for name in example_sizes(pipeline)}


def _factory(pipeline: Pipeline, target: str, folder: Path, where: str) -> Callable[..., Any]:
    """What the YAML names; of a pipeline that was made for a module, what gives that module."""
    if pipeline.module is not None:
        return lambda: pipeline.module
    return find_callable(target, folder, where=where)


def _call(factory: Any, pipeline: Pipeline, where: str) -> nn.Module:
    settings = dict(pipeline.model.settings)
    # A generator of its own: the caller's random numbers stay what they were.
    with torch.random.fork_rng(devices=[]), blamed(where, f"'{pipeline.model.factory}' raises"):
        torch.manual_seed(pipeline.model.seed)
        module = factory(**settings)
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"'{pipeline.model.factory}' returns a {type(module).__name__}, not an nn.Module",
            where=where,
            remedy="name a function or class that returns an nn.Module",
        )
    return module


def _load_weights(module: nn.Module, pipeline: Pipeline) -> str:
    """Load the checkpoint if there is one; returns where the weights come from."""
    text = pipeline.model.weights
    if text == "seeded":
        return f"as {pipeline.model.factory} builds it, torch seed {pipeline.model.seed}"
    where = pipeline.where("model", "weights")
    load_strictly(module, _state(text, where), where=text)
    return text


def _state(text: str, where: str) -> Mapping[str, Tensor]:
    """The tensors of a ``.safetensors`` or ``.pt`` file, or of the only such file of a folder."""
    path = checkpoint_path(text, where)
    if text.startswith("hub:") or path.is_dir():
        folder = resolve_weights(text, seed=0, where=where).folder or path
        files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        if len(files) != 1:
            raise WeightsError(
                f"'{text}' holds {len(files)} checkpoint files, not one",
                where=where,
                remedy="give the path of one .safetensors or .pt file",
            )
        path = files[0]
    if path.suffix != ".safetensors":
        return read_model_pt(path)
    return read_safetensors(path)


def _tensors(pipeline: Pipeline, sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    """One tensor per input; another seed gives other floats (integers keep their rules)."""
    tensors = {}
    for name, spec in pipeline.inputs.items():
        array = default_array(pipeline, name, sizes)
        if seed and array.dtype.kind == "f":
            draw = np.random.Generator(np.random.PCG64([seed, own_seed(pipeline, name)]))
            scale = float(np.abs(array.astype(np.float64)).max(initial=0.0)) or 1.0
            array = (array + 0.5 * scale * draw.standard_normal(array.shape)).astype(array.dtype)
        tensors[name] = torch.from_numpy(np.array(array, dtype=spec.dtype))
    return tensors


def _probed(pipeline: Pipeline, sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    """An example at other sizes; with a seed, of other values and with rows of other lengths."""
    return _padded(pipeline, sizes, seed) if seed else _tensors(pipeline, sizes, 0)


def _padded(pipeline: Pipeline, sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    tensors = _tensors(pipeline, sizes, seed)
    for name, value in tensors.items():
        axis = length_axis(pipeline, name)
        if axis is not None and "draw" not in pipeline.inputs[name].model_fields_set:
            longest = sizes[axis] - sizes[axis] // 3
            shorter = longest - torch.arange(value.numel()).reshape(value.shape)
            tensors[name] = shorter.clamp(min=1).to(value.dtype)
    return tensors


def _binding(module: nn.Module, pipeline: Pipeline) -> Binding:
    method = pipeline.model.method
    called = getattr(module, method, None)
    if not callable(called):
        raise ConfigError(
            f"'{pipeline.model.factory}' builds a {type(module).__name__}, which has no method"
            f" '{method}'",
            where=pipeline.where("model", "method"),
            remedy="name a method that takes the inputs, or leave 'method' out for forward",
        )
    try:
        bound = bind_inputs(called, list(pipeline.inputs))
        pairs = frozenset(n for n, spec in enumerate(pipeline.inputs.values()) if spec.pairs)
        return dataclasses.replace(bound, method=method, pairs=pairs)
    except UnboundError as error:
        raise ConfigError(
            f"{method}({', '.join(error.parameters)}) has no parameter for"
            f" {', '.join(error.names)}",
            where=pipeline.where("inputs", error.names[0]),
            remedy="call an input like its parameter; of a list NAME.0, NAME.1, of a dict NAME.KEY",
        ) from error


def _twin(module: nn.Module, factory: Any, pipeline: Pipeline, where: str) -> nn.Module:
    """A copy of a module; built anew where it cannot be copied."""
    try:
        return copy.deepcopy(module)
    except Exception:  # noqa: BLE001 - the user's classes; a second one of the factory's will do
        twin = _call(factory, pipeline, where)
    twin.load_state_dict(module.state_dict())
    return _for_inference(twin)


def _settle(
    module: nn.Module, binding: Binding, pipeline: Pipeline, sizes: Mapping[str, int]
) -> None:
    """Run a module once that learns the shapes of its weights from an input (``LazyLinear``)."""
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(pipeline.model.seed)
            Probe(module.cpu().eval(), binding, pipeline).run(sizes, 0)


def _for_inference(module: nn.Module) -> nn.Module:
    """The module itself, in eval mode and without gradients.

    What it has computed from its weights while gradients were on (``weight_norm`` keeps such a
    weight) could not be copied, and whatever runs a copy would say that the model stops.
    """
    module.cpu().eval()
    for parameter in module.parameters():  # a ScriptModule has no requires_grad_ of its own
        parameter.requires_grad_(False)
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor) and not value.is_leaf:
                setattr(part, name, value.detach())
    return module


class Probe:
    """A model that is run to learn what it returns.

    Args:
        module: may change while it is run. binding: how it is called.
    """

    def __init__(self, module: nn.Module, binding: Binding, pipeline: Pipeline):
        self.pipeline = pipeline
        self._module = module
        self._binding = binding

    def run(self, sizes: Mapping[str, int], seed: int) -> Any:
        """What the model returns at some sizes.

        Seed 0: as it is traced. Any other: other values, and lengths shorter than their input where
        the model takes them.
        """
        if seed:
            with contextlib.suppress(ModelError), without_fast_path():
                return self._call(_padded(self.pipeline, sizes, seed))
        with without_fast_path():
            return self._call(_tensors(self.pipeline, sizes, seed))

    def judged_by(self, traced: Mapping[str, int]) -> Callable[[Mapping[str, int]], None]:
        """Runs at sizes; NaN below the ``traced`` ones, which give none, is no size that it takes.

        The deviation of one frame is 0 / 0: of such a result nobody can say that a file has it.
        """
        sound = not _holds_nan(self.run(traced, 0))

        def run(at: Mapping[str, int]) -> None:
            result = self.run(at, 0)
            # At larger sizes it is an overflow, which nobody may take for a limit.
            if sound and any(at[name] < traced[name] for name in traced) and _holds_nan(result):
                raise ModelError("its result holds NaN there")

        return run

    def idle(self, sizes: Mapping[str, int]) -> frozenset[str]:
        """Inputs that no operator ever gets; their shape may be asked for."""
        if any(isinstance(part, torch.jit.ScriptModule) for part in self._module.modules()):
            return frozenset()  # what TorchScript does with its inputs is not seen from here
        values = _tensors(self.pipeline, sizes, 0)
        with without_fast_path(), Touched() as touched:
            result = self._call(values)
        returned = {id(value) for value in leaves(result)}
        used = touched.ids | returned
        return frozenset(name for name, value in values.items() if id(value) not in used)

    def notes(self, sizes: Mapping[str, int]) -> tuple[str, ...]:
        """What a report should say of the model."""
        if not has_fast_path(self._module):
            return ()
        names = self.pipeline.outputs
        with contextlib.suppress(ModelError):
            note = fast_path_note(
                lambda: flat_results(self._call(_padded(self.pipeline, sizes, 1)), names)
            )
            return () if note is None else (note,)
        return ()

    def _call(self, values: Mapping[str, Tensor]) -> Any:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
        where = self.pipeline.where("model", "factory")
        with torch.no_grad(), blamed(where, f"the model does not run on {shapes}"):
            before = {name: tuple(value.shape) for name, value in values.items()}
            result = self._binding.call(self._module, list(values.values()))
        for name, shape in before.items():
            if tuple(values[name].shape) != shape:
                raise ModelError(
                    f"the model changes the shape of its input '{name}' in place, which is its"
                    f" caller's: {list(shape)} becomes {list(values[name].shape)}",
                    where=where,
                    remedy="take the operator without '_' at its end (unsqueeze, transpose)",
                )
        return result


def _holds_nan(result: Any) -> bool:
    tensors = [value for value in leaves(result) if isinstance(value, Tensor)]
    return any(bool(torch.isnan(value).any()) for value in tensors if value.dtype.is_floating_point)


def _outputs(
    probe: Probe, sizes: Mapping[str, int], axes: Mapping[str, Axis]
) -> tuple[TensorSpec, ...]:
    pipeline = probe.pipeline
    where = pipeline.where("outputs")
    specs = infer_outputs(probe.run, sizes, axes, pipeline.outputs, where=where)
    for spec in specs:
        if spec.name in pipeline.outputs and not supported(getattr(torch, spec.dtype)):
            raise ModelError(
                f"the result '{spec.name}' is {spec.dtype}, which cannot be compared",
                where=where,
                remedy="return float32",
            )
    return specs
