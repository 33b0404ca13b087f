"""The situations of docs/situations.md: what people reported, what says it, and what is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "situations.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One of them.

    Attributes:
        thread: where it was reported, without the address.
        says: the YAML that says it, from ``pipelines``.
        verdict: what is right. told: words of the verdict, of a stream.
        held_by: ``file::test`` below ``tests``; "" for a stream, which is run here.
    """

    thread: str
    says: str
    verdict: str
    told: str = ""
    held_by: str = ""


FEATURES = "sensevoice_batch_tiny.yaml"
_PLANTED = "features/test_planted.py::test_a_planted_difference_is_named_alone"

SITUATIONS = (
    Situation(thread="3D-Speaker 235", says=FEATURES, verdict="fail", held_by=_PLANTED),
    Situation(thread="kaldifeat 101", says=FEATURES, verdict="fail", held_by=_PLANTED),
    Situation(
        thread="NeMo 3974",
        says=FEATURES,
        verdict="fail",
        held_by="features/test_planted.py::test_what_librosa_does_otherwise_is_named",
    ),
    Situation(
        thread="mlx-audio 592",
        says=FEATURES,
        verdict="fail",
        held_by="features/test_planted.py::test_several_differences_are_named_together",
    ),
    Situation(
        thread="sherpa-onnx 2844",
        says="systems/whisper_tiny.yaml",
        verdict="fail",
        held_by="systems/test_whisper_system.py::test_a_file_of_nan_is_never_green",
    ),
    Situation(
        thread="sherpa 472",
        says="situations/tail_dropped.yaml",
        verdict="fail",
        told="never come out",
    ),
    Situation(
        thread="icefall 1402",
        says="situations/zeros_are_heard.yaml",
        verdict="fail",
        told="the last call alone differs, which was filled with zeros",
    ),
    Situation(
        thread="wenet 1801",
        says="situations/positions_begin_again.yaml",
        verdict="fail",
        told="from call 1 on every call differs",
    ),
    Situation(
        thread="espnet_onnx 49",
        says="situations/dummy_cache.yaml",
        verdict="fail",
        told="the first call differs already",
    ),
    Situation(
        thread="icefall 2032",
        says="streams/caches_exchanged.yaml",
        verdict="fail",
        told="from call 1 on every call differs",
    ),
    Situation(
        thread="piper 255, before",
        says="situations/clicks.yaml",
        verdict="fail",
        told="from call 1 on every call differs",
    ),
    Situation(
        thread="piper 255, after", says="situations/windows_with_context.yaml", verdict="pass"
    ),
    Situation(
        thread="DeepFilterNet 655",
        says="streams/no_memory.yaml",
        verdict="fail",
        told="behind its window",
    ),
    Situation(
        thread="DeepFilterNet 119",
        says="situations/late_and_unsaid.yaml",
        verdict="fail",
        told="the whole, 2 frame(s) late",
    ),
    Situation(
        thread="DeepFilterNet 600",
        says="situations/slower_than_promised.yaml",
        verdict="fail",
        told="waits for 3 steps (30 ms)",
    ),
    Situation(
        thread="espnet_onnx 36",
        says="systems/whisper_tiny.yaml",
        verdict="fail",
        held_by="systems/test_whisper_system.py"
        "::test_other_tokens_are_shown_with_the_margin_of_the_first",
    ),
    Situation(
        thread="sherpa-onnx 20",
        says="systems/rnnt_tiny.yaml",
        verdict="fail",
        held_by="systems/test_other_systems.py::test_a_planted_fault_is_found_in_its_graph",
    ),
    Situation(
        thread="sherpa-onnx 2805",
        says="systems/rnnt_tiny.yaml",
        verdict="pass",
        held_by="drivers/test_transducer.py::test_greedy_is_torchaudios_beam_of_one",
    ),
    Situation(
        thread="espnet_onnx 118",
        says="systems/ctc_tiny.yaml",
        verdict="pass",
        held_by="systems/test_other_systems.py::test_a_prefix_beam_agrees_and_is_read_as_text",
    ),
)
