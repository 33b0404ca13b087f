"""Every page that the program writes for people to look at, with the verdict it shows first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from exporter.matrix.report import HTML, write_matrix
from exporter.monitor.page import page_of
from exporter.report.html import render_html
from exporter.report.lowering import FileRow, LayerRow, LoweringReport, Point
from exporter.report.lowering_page import render_page
from exporter.report.schema import ContractRecord, GoldenRecord, LatencyRecord, Report
from exporter.report.system import (
    BucketRecord,
    DifferenceRecord,
    HeardRecord,
    ManifestRecord,
    SystemReport,
)
from exporter.report.system_text import write_system_report
from tests.matrix.test_page import result_of
from tests.report import test_system_verdict as systems
from tests.support import reports

LONG = "model.encoder.encoders0.0.self_attn.linear_q_k_v.with.a.very.long.name.indeed.feed_forward"
SENTENCE = (
    "the largest error 0.00041 is 340 times what float32 PyTorch itself is off from float64 at"
    f" {LONG} (aten.linear.default, /home/somebody/projects/speech/encoders/layers.py:31)"
)


def _report(report: Report) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "report.html").write_text(render_html(report), encoding="utf-8")
        return folder / "report.html"

    return write


def everything_said() -> Report:
    """Sentences and names as long as real ones wherever they can stand, figures of every kind."""
    seams = {"error": [1e-7 * 1.1**n for n in range(90)], "limit": 1e-4, "starts": [0, 30, 60]}
    held = reports.layer_fail()
    return held.model_copy(
        update={
            "headline": f"FAIL: {SENTENCE}",
            "links": [
                link.model_copy(update={"reason": SENTENCE}) if link.verdict != "pass" else link
                for link in held.links
            ],
            "contracts": [
                *held.contracts,
                ContractRecord(
                    name="stream", side="onnx", verdict="fail", observed="2 frames of lookahead",
                    limit="0 frames", where=LONG, reason=SENTENCE, advice=SENTENCE,
                    details={"seam_curve": seams, "windows": 3, "modules": {LONG: 1.5}},
                ),
                ContractRecord(name="padding", side="both", verdict="not run", reason=SENTENCE),
                ContractRecord(name="dtype", side="both", verdict="ambiguous", reason=SENTENCE),
            ],
            "latency": [
                LatencyRecord(
                    deployment="CPU, all optimisations, 2 threads", case="english", rounds=5,
                    seconds=0.0231, least=0.0222, load_seconds=0.4, memory_bytes=93_000_000,
                    audio_seconds=7.0,
                )
            ],
            "notes": [*held.notes, SENTENCE],
            "not_checked": [*held.not_checked, SENTENCE],
        }
    )  # fmt: skip


def golden_page(state: str = "moved") -> Report:
    """As ``golden check`` writes one: no links, no outputs, the cases against what was recorded."""
    bad = state == "moved"
    held = [
        GoldenRecord(
            case="english", state=state, verdict="fail" if bad else "pass",
            moved=["logits"] if bad else [], first_layer=LONG if bad else None,
            observed=3.1e-3 if bad else 1e-7, limit=2.2e-5,
            reason=f"output logits: {SENTENCE}" if bad else "",
            advice="run the recorded versions again, or record with a reason" if bad else None,
        ),
        *(GoldenRecord(case=name, state="same", verdict="pass") for name in
          ("mandarin", "noisy", "silence", "long", "noise_seed_1")),
    ]  # fmt: skip
    return reports.base(
        verdict="fail" if bad else "pass",
        headline=f"golden 'english' moved: output 'logits' {SENTENCE}" if bad
        else "golden 'sensevoice_tiny' same: 6 case(s) as recorded",
        links=[], outputs=[], contracts=[], waveforms=[], golden=held,
    )  # fmt: skip


def system(word: str) -> SystemReport:
    """A recogniser of two graphs with a manifest behind it."""
    bad = word == "fail"
    text = "the quick brown fox jumps over the lazy dog and please call a taxi " * 4
    difference = DifferenceRecord(
        number=1, what="token", at=17, graph="decoder", expected=[812, 4], actual=[813, 4],
        margin=2.1e-3, noise=4.4e-6, tie=False,
        reason="the margin 0.0021 is 480 times what float32 costs there",
    )  # fmt: skip
    made = systems.result(
        word, int(bad), text=text, onnx_text=text.replace("fox", "box") if bad else text,
        differences=[difference] if bad else [],
        heard=[HeardRecord(output="waveform", level_db=-0.1, si_sdr_db=61.2,
                           log_spectral_distance_db=0.03, max_error=4e-4)],
    )  # fmt: skip
    failed = {"fail": 1} if bad else {}
    buckets = [
        BucketRecord(name=name, utterances=60, verdicts={"pass": 60 - bad, **failed},
                     token_errors=int(bad), tokens=1200, word_error_rate=0.041,
                     onnx_word_error_rate=0.042)
        for name in ("all", "up to 5 s", "5 to 15 s", "noisy_far_field")
    ]  # fmt: skip
    manifest = ManifestRecord(
        file="recordings/evaluation/manifest.jsonl", utterances=60, done=60,
        verdict=systems.verdict(word, reason=SENTENCE if bad else "all utterances agree"),
        verdicts={"pass": 60 - bad, **failed}, buckets=buckets,
        worst=[f"speaker_17/utterance_0042: {SENTENCE}"] if bad else [], audio_seconds=411.0,
    )  # fmt: skip
    layer = LONG if bad else ""
    return systems.report(
        graphs=[
            systems.graph(),
            systems.graph(word).model_copy(
                update={"name": "encoder_streaming", "headline": SENTENCE}
            ),
        ],
        calls=[
            systems.calls(),
            systems.calls(word, "encoder_streaming", layer=layer),
        ],
        results=[made, systems.result()],
        manifest=manifest,
        notes=["Weights are SEEDED, not trained: the tokens mean nothing."],
        not_checked=[SENTENCE],
    )


def _system(word: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_system_report(system(word), folder)
        return folder / "system.html"

    return write


def _matrix(folder: Path) -> Path:
    write_matrix(result_of(folder), folder)
    return folder / HTML


def _monitor(folder: Path) -> Path:
    evalues = ["level_db", "dc_ratio", "spectral_centroid_of_the_first_band"]
    rows = [
        {"time": 1e9 + 60 * n, "kind": "drift", "threshold": 5800,
         "alarms": evalues[:1] if n > 5 else [],
         "evalues": {name: 10.0 ** (n if name == "level_db" else 0) for name in evalues}}
        for n in range(8)
    ]  # fmt: skip
    rows += [
        {"time": 1e9 + 60 * n, "kind": "replay", "state": "same", "strain": 0.2 + 0.01 * n}
        for n in range(8)
    ]
    rows.append({"time": 1e9 + 900, "kind": "shadow", "state": "moved", "strain": 4.1,
                 "first_layer": LONG, "reason": SENTENCE})  # fmt: skip
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "monitor.html").write_text(page_of(folder / "log.jsonl"), encoding="utf-8")
    return folder / "monitor.html"


def lowering(word: str) -> LoweringReport:
    """Sixty layers, eight of which stay in float32."""
    layers = [
        LayerRow(name=f"model.encoder.encoders.{n // 6}.feed_forward.w_{n % 6}", module="m",
                 kinds=["MatMul"], weights=512 * 512, own=10.0 ** (-1 - n / 20),
                 effect=10.0 ** (-1.5 - n / 15), gained=0.0004, stays=n < 8,
                 why="its error alone is beyond the limit" if n < 8 else "")
        for n in range(60)
    ]  # fmt: skip
    files = [
        FileRow(name=name, bytes=size * 10**6, seconds=cost, error=error, flips=flips, doubtful=1,
                decisions=0, cases=["english", "mandarin"])
        for name, size, cost, error, flips in (
            ("float32", 938, 0.28, 1e-6, 0), ("all of it in int8", 240, 0.12, 0.21, 9),
            ("chosen", 301, 0.14, 0.012, 0),
        )
    ]  # fmt: skip
    return LoweringReport(
        pipeline="sensevoice_tiny", to="int8", file="runs/sensevoice_tiny/lower/model.onnx",
        verdict=word, exit_code=int(word != "pass"),
        headline="8 of 60 layers stay in float32; 301 MB instead of 938 MB, 2.0 times as fast",
        max_error=0.02, max_flips=0, prefer="size", layers=layers, files=files,
        confirmed=files[-1].model_copy(update={"name": "chosen, on other cases"}),
        curve=[Point(limit=10.0**-n, kept=5 * n, error=10.0**-n, worth=1 - n / 9)
               for n in range(1, 8)],
        rounds=["8 layers kept at a limit of 0.02: error 0.012"], runs=14, seconds=31.0,
        yaml="precision:\n  to: int8\n  keep_float32:\n" + "".join(
            f"  - {row.name}\n" for row in layers[:8]),
        judged=f"pass: {SENTENCE}", notes=[SENTENCE],
    )  # fmt: skip


def _lowering(word: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "lower.html").write_text(render_page(lowering(word)), encoding="utf-8")
        return folder / "lower.html"

    return write


PAGES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "report pass": (_report(reports.passed()), "PASS"),
    "report fail": (_report(everything_said()), "FAIL"),
    "report contract": (_report(reports.contract_fail()), "FAIL"),
    "report stopped": (_report(reports.stopped()), "FAIL"),
    "report empty": (_report(reports.empty()), "NOT RUN"),
    "report not finite": (_report(reports.not_finite()), "FAIL"),
    "golden moved": (_report(golden_page()), "FAIL"),
    "golden same": (_report(golden_page("same")), "PASS"),
    "system pass": (_system("pass"), "PASS"),
    "system fail": (_system("fail"), "FAIL"),
    "lower pass": (_lowering("pass"), "PASS"),
    "lower fail": (_lowering("fail"), "FAIL"),
    "matrix": (_matrix, "FAIL"),
    "monitor": (_monitor, "finding(s)"),
}
