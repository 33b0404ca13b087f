"""Where weights come from, and putting them into a module without guessing."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from exporter.config import Pipeline
from exporter.core.errors import UserInputError, WeightsError, first_line
from exporter.core.extras import need
from exporter.core.files import name_of_open, open_regular
from exporter.core.memory import total_memory
from exporter.core.reading import Door, is_regular, path_of, reason
from exporter.models.built import WeightsInfo
from exporter.models.seeding import seed_weights

_HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_SHOWN = 3
DOOR = Door(
    error=WeightsError,
    says="this is no readable checkpoint",
    remedy="fetch the file again; it may be cut off, or a pointer of Git LFS",
    most_bytes=64 << 20,  # of text; tensors are mapped
)
DAMAGED_SAFETENSORS = (SafetensorError, UserInputError, OSError, ValueError, LookupError)
# The unpickler of torch says so in many ways, and asks for memory that a damaged size names.
_DAMAGED_PICKLE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, UserInputError, EOFError),
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, AssertionError, MemoryError, ImportError),
)
_PLAIN = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8}
    | {torch.int8, torch.int16, torch.int32, torch.int64}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSource:
    """A resolved ``model.weights``: seeded, or a folder that exists on this machine."""

    kind: Literal["seeded", "folder"]
    label: str
    folder: Path | None = None


def weights_of(pipeline: Pipeline, *, files: bool = False) -> WeightsSource:
    """``resolve_weights`` of what a pipeline names."""
    where = pipeline.where("model", "weights")
    return resolve_weights(
        pipeline.model.weights, seed=pipeline.model.seed, where=where, files=files
    )


def resolve_weights(
    text: str, *, seed: int, where: str | None = None, files: bool = False
) -> WeightsSource:
    """Turn ``seeded``, a folder or ``hub:ORG/NAME@REVISION`` into something to read.

    Args:
        text: the value of ``model.weights``.
        seed: for ``seeded``.
        where: file, line and key that gave it.
        files: a single file is a checkpoint too.

    Raises:
        WeightsError: no such folder, no revision, or the hub cannot be reached. There is no
            fall back to seeded weights.
    """
    if text == "seeded":
        return WeightsSource(kind="seeded", label=f"seeded seed={seed}")
    if text.startswith("hub:"):
        return WeightsSource(kind="folder", label=text, folder=_download(text, where))
    folder = checkpoint_path(text, where)
    if not folder.is_dir() and not (files and folder.is_file()):
        what = "is a file" if folder.exists() else "does not exist"
        raise WeightsError(
            f"the checkpoint folder '{text}' {what}",
            where=where,
            remedy="give 'seeded', a checkpoint folder, or hub:ORG/NAME@REVISION",
        )
    return WeightsSource(kind="folder", label=text, folder=folder)


def checkpoint_path(text: str, where: str | None) -> Path:
    """The path that ``model.weights`` names.

    Raises:
        WeightsError: no file can have it.
    """
    try:
        return path_of(text)
    except ValueError as error:
        raise WeightsError(
            f"this is no path of a checkpoint: {error}",
            where=where,
            remedy="give 'seeded', a checkpoint, or hub:ORG/NAME@REVISION",
        ) from error


def _download(text: str, where: str | None) -> Path:
    match = _HUB.fullmatch(text)
    if match is None:
        raise WeightsError(
            f"'{text}' names no fixed revision",
            where=where,
            remedy="write hub:ORG/NAME@REVISION with a commit or a tag, for example "
            "hub:FunAudioLLM/SenseVoiceSmall@3eb3b4e",
        )
    need("huggingface_hub", who="reading from the hub", where=where)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(match["repo"], revision=match["revision"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise WeightsError(
            f"cannot fetch '{text}': {first_line(error, 1000)}",
            where=where,
            remedy="check name, revision and network, or give the path of a folder you fetched",
        ) from error


def read_model_pt(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a ``model.pt`` without running code from it.

    Accepts a plain state dict, and one below ``state_dict``, ``model_state_dict`` or ``model``,
    as FunASR's ``load_pretrained_model`` does.

    Raises:
        WeightsError: missing, damaged, holding more than tensors, or no state dict.
    """
    path = Path(path)
    content = read_pt(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return _only_tensors(content, path)


def read_pt(path: Path) -> Any:
    """Read all of a ``.pt`` file without running code from it; tensors stay mapped to the file.

    Raises:
        WeightsError: missing, damaged, or holding more than tensors, numbers, text and containers.
    """
    if not is_regular(path):
        raise WeightsError(
            "there is no such file", where=str(path), remedy="give the whole checkpoint folder"
        )
    try:
        with open_regular(path) as stream:
            zipped = stream.read(4) == b"PK\x03\x04"
            path_text = str(name_of_open(stream, path))
            return torch.load(path_text, map_location="cpu", weights_only=True, mmap=zipped)
    except _DAMAGED_PICKLE as error:
        if "global" not in str(error).lower():
            raise DOOR.bad(path, reason(error)) from error
        raise WeightsError(
            "this pickle holds more than tensors and is not loaded: that would run its code",
            where=str(path),
            remedy="save it again as a plain state dict: torch.save(model.state_dict(), path)",
        ) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` file.

    Raises:
        WeightsError: it is missing or damaged.
    """
    try:
        with open_regular(path) as stream:  # safetensors would wait for a pipe
            return load_file(name_of_open(stream, path))
    except DAMAGED_SAFETENSORS as error:
        raise DOOR.bad(path, reason(error)) from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Put a state dict into a module: every key, every shape, nothing left over.

    A common prefix ``module.`` or ``model.`` of all keys is removed. The tensors are assigned,
    not copied, as float32, so a module on the meta device takes no memory before.

    Raises:
        WeightsError: tensors are missing, unexpected or of another shape; names the first ones.
    """
    state = _without_prefix(state, set(module.state_dict()))
    wanted = module.state_dict()
    both = [name for name in wanted if name in state]
    sizes = {n: (list(state[n].shape), list(wanted[n].shape)) for n in both}
    other = [
        f"{n} {actual} instead of {size}" for n, (actual, size) in sizes.items() if actual != size
    ]
    packed = [n for n in both if not _is_plain(state[n])]
    sound = [n for n, (actual, size) in sizes.items() if actual == size and n not in packed]
    problems = [
        *_listed("missing", [name for name in wanted if name not in state]),
        *_listed("unexpected", [name for name in state if name not in wanted]),
        *_listed("of another shape", other),
        *_listed("no plain numbers", packed),
        *_listed("not finite", [n for n in sound if not bool(torch.isfinite(state[n]).all())]),
    ]
    if problems:
        raise WeightsError(
            "the checkpoint does not fit the model: " + "; ".join(problems),
            where=where,
            remedy="check that settings and checkpoint describe the same model",
        )
    ready = {
        name: tensor.to(wanted[name].dtype) if tensor.dtype != wanted[name].dtype else tensor
        for name, tensor in state.items()
    }
    module.load_state_dict(ready, strict=True, assign=True)


def seed_module(module: nn.Module, seed: int) -> None:
    """Give a module, also one on the meta device, fixed-seed weights on the CPU."""
    size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    if size > total_memory():
        raise WeightsError(
            f"the weights of this model take {size / 2**30:,.0f} GiB, more than this machine has",
            remedy="correct the sizes in its settings, or take a larger machine",
        )
    module.to_empty(device="cpu")
    seed_weights(module, seed)


def describe_weights(module: nn.Module, source: WeightsSource) -> WeightsInfo:
    """Digest what a module holds now."""
    return WeightsInfo(
        source=source.label,
        digest=digest_tensors(module.state_dict()),
        seeded=source.kind == "seeded",
    )


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over name, dtype, shape and bytes of all tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().resolve_conj().resolve_neg().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_plain(tensor: Tensor) -> bool:
    """Real numbers that lie in memory, one by one: not sparse, quantised, packed or absent."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.dtype in _PLAIN
    )


def _only_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"there is no state dict in it, but a {type(content).__name__}",
            where=str(path),
            remedy="save it as torch.save(model.state_dict(), path)",
        )
    wrong = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise WeightsError(
            f"not a tensor: {', '.join(wrong[:_SHOWN])}",
            where=str(path),
            remedy="save the state dict alone, without optimiser or step counts",
        )
    return {str(name): value for name, value in content.items()}


def _without_prefix(state: Mapping[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in state) and not wanted & set(state):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(names[:_SHOWN])}{more}"]
