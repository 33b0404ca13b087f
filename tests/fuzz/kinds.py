"""Every kind of input by its name, with how large a share of a sweep it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

from tests.fuzz import array_files, checkpoints, onnx_files, plain_files, service_files
from tests.fuzz.attempt import Attempt, Make

KINDS: Mapping[str, tuple[Make, int]] = {
    "yaml": (plain_files.yaml_file, 26),
    "audio": (plain_files.audio_file, 6),
    "arrays": (array_files.array_file, 6),
    "report": (plain_files.report_file, 10),
    "program": (plain_files.program_files, 6),
    "golden": (plain_files.golden_files, 10),
    "checkpoint": (checkpoints.checkpoint_folder, 10),
    "tensors": (checkpoints.tensors_file, 8),
    "inspect": (onnx_files.inspect, 10),
    "verify": (onnx_files.verify, 5),
    "golden check": (onnx_files.golden_check, 5),
    "debug": (onnx_files.debug, 4),
    "alone": (onnx_files.alone, 4),
    "compare": (onnx_files.compare, 4),
    "strange": (onnx_files.strange, 10),
    "monitor": (service_files.monitor, 6),
    "several": (service_files.several, 4),
    "manifest": (plain_files.manifest_file, 4),
}


def make(kind: str, seed: int, corpus: Path, work: Path) -> Attempt:
    """The attempt of a kind and a seed, its files written to ``work``; always the same one."""
    return KINDS[kind][0](Random(f"{kind}:{seed}"), corpus, work)
