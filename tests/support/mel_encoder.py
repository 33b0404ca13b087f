"""SpeechBrain's own MelSpectrogramEncoder, of whatever release is on the path, put under contract.

Run as a program it prints its findings as JSON: the release that writes into its input is installed
beside the current one and can only be imported in a process of its own.

    python tests/support/mel_encoder.py FOLDER_FOR_FILES [FOLDER_OF_A_RELEASE]
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OLD = "speechbrain-0.5.16"
SIZES: dict[str, Any] = {
    "channels": [64, 64, 64, 64, 192],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "dilations": [1, 2, 3, 4, 1],
    "groups": [1, 1, 1, 1, 1],
    "attention_channels": 16,
    "lin_neurons": 32,
}


def old_release() -> Path:
    """Folder that holds the old release; ``scripts/install-upstream speechbrain-old`` makes it."""
    return Path(sys.prefix) / "upstream" / OLD


class OnMels(nn.Module):
    """Upstream's ``encode_mel_spectrogram_batch`` with lengths in frames.

    Args:
        pass_lengths_on: also to the embedding model, which upstream leaves out.
    """

    def __init__(self, *, pass_lengths_on: bool = False) -> None:
        super().__init__()
        self.encoder: Any = upstream_encoder()
        self.pass_lengths_on = pass_lengths_on

    def forward(self, mels: Tensor, mels_lengths: Tensor) -> Tensor:
        shares = mels_lengths.to(torch.float32) / mels.shape[2]
        if not self.pass_lengths_on:
            return self.encoder.encode_mel_spectrogram_batch(mels, shares)
        features = self.encoder.hparams.normalizer(mels.transpose(1, 2), shares)
        return self.encoder.hparams.embedding_model(features, shares)


def upstream_encoder(seed: int = 0) -> Any:
    """The real class with a small ECAPA-TDNN of fixed-seed weights."""
    from exporter.models.seeding import seed_weights
    from exporter.models.upstream import quiet_upstream

    with quiet_upstream():
        try:
            from speechbrain.inference.encoders import MelSpectrogramEncoder
        except ImportError:
            from speechbrain.pretrained.interfaces import MelSpectrogramEncoder
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
        from speechbrain.processing.features import InputNormalization

    network = ECAPA_TDNN(input_size=80, **SIZES)
    seed_weights(network, seed)
    modules = {
        "normalizer": InputNormalization(norm_type="sentence", std_norm=False),
        "embedding_model": network,
    }
    return MelSpectrogramEncoder(modules=modules, hparams=dict(modules), run_opts={"device": "cpu"})


def mels(frames: int, seed: int, *, level: float = -5.0) -> Tensor:
    """Log mels ``[1, 80, frames]``, as loud as speech."""
    draw = torch.Generator().manual_seed(seed)
    return level + 2.0 * torch.randn(1, 80, frames, generator=draw)


def subject(module: nn.Module, *, batch: str | int = "batch", onnx: Any = None) -> Any:
    """The module under contract, fed with log mels; ``batch`` is an axis or a fixed size."""
    from exporter.core.tensors import Axis, TensorSpec
    from tests.support.target_from_module import target_from_module

    rows = (Axis(name="batch"),) if batch == "batch" else ()
    time = Axis(name="time", minimum=5)
    return target_from_module(
        module.eval().requires_grad_(False),
        inputs=(
            TensorSpec(name="mels", dtype="float32", shape=(batch, 80, "time"),
                       axes=(*rows, time)),
            TensorSpec(name="mels_lengths", dtype="int64", shape=(batch,), axes=rows),
        ),
        outputs=(
            TensorSpec(name="embedding", dtype="float32", shape=(batch, 1, 32), axes=rows),
        ),
        values={"mels": mels(40, 5).numpy(), "mels_lengths": np.array([40])},
        with_onnx=False,
        onnx=onnx,
    )  # fmt: skip


def as_dict(result: Any) -> dict[str, Any]:
    """A contract's result, as far as tests look at it."""
    where = result.where
    return {
        "status": str(result.status),
        "reason": result.reason,
        "observed": result.observed,
        "module": where.module if where else None,
        "op": where.op if where else None,
        "source": where.source if where else None,
    }


def mutation() -> dict[str, Any]:
    """What a call does to the caller's log mels, and who finds it."""
    from exporter.contracts import run_contracts

    module = OnMels().eval()
    given, kept = mels(40, 1), mels(40, 1)
    first = module(given, torch.tensor([40]))
    changed = float((given - kept).pow(2).mean())
    # Normalising is idempotent: a second call on what the first left looks right.
    again = float((module(given, torch.tensor([40])) - first).abs().max())
    found = as_dict(run_contracts(subject(module), {"mutation": None})[0])
    return {"mse_of_input": changed, "second_call_differs": again, **found}


def legacy_export(folder: Path) -> dict[str, Any]:
    """Trace the encoder on one recording; compare on it and on another one."""
    import onnxruntime

    from exporter.contracts import run_contracts
    from exporter.contracts.onnx_side import opened

    module, file = OnMels().eval(), folder / "legacy.onnx"
    full = torch.tensor([40])
    with torch.no_grad():
        torch.onnx.export(
            module,
            (mels(40, 1), full),
            str(file),
            input_names=["mels", "mels_lengths"],
            output_names=["embedding"],
            dynamic_axes={"mels": {2: "time"}},
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    taken = {item.name for item in session.get_inputs()}

    def relative(seed: int, level: float) -> float:
        sound = mels(40, seed, level=level)
        fed = {"mels": sound.numpy().copy(), "mels_lengths": full.numpy()}
        found = session.run(None, {name: fed[name] for name in taken})[0]
        wanted = module(sound, full).numpy()
        return float(np.abs(found - wanted).max() / np.abs(wanted).max())

    made = subject(module, batch=1, onnx=opened(file))
    made.example = {"mels": mels(40, 1), "mels_lengths": full}
    shapes = run_contracts(made, {"shapes": {"sizes": {"time": [40, 53]}}})[1]
    return {
        "traced": relative(1, -5.0),
        "other": relative(2, -4.0),
        "inputs": sorted(taken),
        "shapes": as_dict(shapes),
    }


def main() -> None:
    folder, *release = sys.argv[1:]
    # Ours first: old releases have a package "tests" of their own.
    sys.path[:0] = [str(Path(__file__).parents[2]), *release]
    warnings.simplefilter("ignore")
    import speechbrain

    told = {
        "file": speechbrain.__file__,
        "installed": version("speechbrain"),
        "mutation": mutation(),
        "legacy": legacy_export(Path(folder)) if release else None,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
