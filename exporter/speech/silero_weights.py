"""The weights of Silero VAD, out of the installed silero-vad package.

``silero_vad.jit`` holds two networks, for 16 and 8 kHz. The names of its tensors are those of
upstream's classes; here they are mapped to the names of ``vad.SileroNetwork``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from exporter.core.errors import WeightsError
from exporter.core.extras import folder_of
from exporter.core.reading import is_regular, reason

_PREFIX = {16000: "_model.", 8000: "_model_8k."}
_RENAMED = {
    "stft.forward_basis_buffer": "stft.weight",
    "decoder.rnn.weight_ih": "lstm.weight_ih_l0",
    "decoder.rnn.weight_hh": "lstm.weight_hh_l0",
    "decoder.rnn.bias_ih": "lstm.bias_ih_l0",
    "decoder.rnn.bias_hh": "lstm.bias_hh_l0",
    "decoder.decoder.2.weight": "head.weight",
    "decoder.decoder.2.bias": "head.bias",
    **{
        f"encoder.{layer}.reparam_conv.{part}": f"encoder.{2 * layer}.{part}"
        for layer in range(4)
        for part in ("weight", "bias")
    },
}


def package_weights(sample_rate_hz: int, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of the network for one sample rate.

    Args:
        sample_rate_hz: 16000 or 8000.
        wanted: the state dict of a fresh network, for its names and shapes.

    Raises:
        MissingPackageError: silero-vad is not installed.
        WeightsError: its JIT file is missing, unreadable or holds another network.
    """
    path = _jit_path()
    return renamed(_jit_state(path), wanted, prefix=_PREFIX[sample_rate_hz], where=str(path))


def file_weights(
    path: Path, sample_rate_hz: int, wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The same from a ``silero_vad.jit`` anywhere.

    Raises:
        WeightsError: the file is missing, unreadable or holds another network.
    """
    return renamed(_jit_state(path), wanted, prefix=_PREFIX[sample_rate_hz], where=str(path))


def installed_release() -> str:
    """Version of the installed silero-vad package; "(not installed)" without one."""
    try:
        return version("silero-vad")
    except PackageNotFoundError:
        return "(not installed)"


def renamed(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, prefix: str, where: str
) -> dict[str, Tensor]:
    """Map the tensors of a Silero JIT state dict to the network's names.

    Args:
        state: state dict with upstream's names.
        wanted: the state dict of a fresh network, for its names and shapes.
        prefix: ``"_model."`` (16 kHz) or ``"_model_8k."`` (8 kHz).
        where: the file, for error messages.

    Raises:
        WeightsError: a tensor is missing, has another shape, or is not known.
    """
    renamed_state = {
        k.removeprefix(prefix): tensor for k, tensor in state.items() if k.startswith(prefix)
    }
    problems = [f"'{name}' is missing" for name in _RENAMED if name not in renamed_state]
    problems += [f"'{name}' is not known" for name in renamed_state if name not in _RENAMED]
    problems += [
        f"'{old}' has shape {tuple(renamed_state[old].shape)}, not {_upstream_shape(wanted[new])}"
        for old, new in _RENAMED.items()
        if old in renamed_state and tuple(renamed_state[old].shape) != _upstream_shape(wanted[new])
    ]
    if problems:
        raise WeightsError(
            "not the Silero VAD network: " + "; ".join(problems),
            where=where,
            remedy="install a silero-vad release of the 6.2 series",
        )
    return {new: renamed_state[old].reshape(wanted[new].shape) for old, new in _RENAMED.items()}


def _upstream_shape(tensor: Tensor) -> tuple[int, ...]:
    """Upstream's kernels have one axis less: ours have height 1."""
    shape = tuple(tensor.shape)
    return (*shape[:2], shape[3]) if len(shape) == 4 else shape


def _jit_path() -> Path:
    # The package is not imported: that sets torch to one thread.
    return folder_of("silero_vad", who="Silero's VAD") / "data" / "silero_vad.jit"


def _jit_state(path: Path) -> Mapping[str, Tensor]:
    if not is_regular(path):
        raise WeightsError(
            "the silero-vad package has no JIT file here",
            where=str(path),
            remedy="reinstall it with: pip install --force-reinstall silero-vad",
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            return torch.jit.load(str(path), map_location="cpu").state_dict()
    except (RuntimeError, ValueError, OSError, LookupError, TypeError, MemoryError) as error:
        raise WeightsError(
            f"not a readable TorchScript file ({reason(error)})",
            where=str(path),
            remedy="reinstall it with: pip install --force-reinstall silero-vad",
        ) from error
