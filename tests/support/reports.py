"""Reports as a run would write them, and reports that no run should ever write."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from exporter.parity.measurement import Distance, Measurement
from exporter.report.comparison import (
    CulpritRecord,
    LayerRecord,
    LinkRecord,
    OutputRecord,
    StructureRecord,
    TapRecord,
    VerdictRecord,
)
from exporter.report.schema import (
    ArtifactRecord,
    CaseRecord,
    ContractRecord,
    EnvironmentRecord,
    GoldenRecord,
    PipelineRecord,
    PolicyRecord,
    Report,
    StoppedRecord,
    WaveformRecord,
    WeightsRecord,
)

UNIT = 2.0**-24
HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror=window.hacked=1>",
    "\x1b[31mred\x1b]0;title\x07",
    "a|b`c*d_e[f](javascript:alert(1))",
    "\"quoted\" & 'single' </style>",
    "line\nbreak\r\n\ttab\x00null",
    "\u202eright to left\u2066",
    "[bold red]rich markup[/]",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "<!-- comment -->",
    "__proto__",
    "constructor",
    "@someone #1 https://example.org",
    "x" * 3000,
)

SUBMODULES = (
    ("norm1", "LayerNorm", "aten.layer_norm.default", "encoder.py:121"),
    ("self_attn.linear_q_k_v", "Linear", "aten.linear.default", "attention.py:243"),
    ("self_attn.fsmn_block", "Conv1d", "aten.conv1d.default", "attention.py:215"),
    ("self_attn", "MultiHeadedAttentionSANM", "aten.softmax.int", "attention.py:281"),
    ("self_attn.linear_out", "Linear", "aten.linear.default", "attention.py:290"),
    ("norm2", "LayerNorm", "aten.layer_norm.default", "encoder.py:134"),
    ("feed_forward.w_1", "Linear", "aten.linear.default", "layers.py:31"),
    ("feed_forward.activation", "ReLU", "aten.relu.default", "layers.py:31"),
    ("feed_forward.w_2", "Linear", "aten.linear.default", "layers.py:31"),
)
FRONT = (
    ("vad.stft", "Conv1d", "aten.conv1d.default", "vad.py:88"),
    ("vad.lstm", "LSTM", "aten.lstm.input", "vad.py:120"),
    ("vad.decoder", "Sequential", "aten.sigmoid.default", "vad.py:131"),
    ("frontend.fbank", "KaldiFbank", "aten.log.default", "fbank.py:140"),
    ("frontend.cmvn", "Cmvn", "aten.mul.Tensor", "cmvn.py:44"),
)


def measurement(
    name: str,
    *,
    error: float | None,
    noise: float | None,
    scale: float = 4.0,
    shape: tuple[int, ...] = (2, 87, 512),
    **more: Any,
) -> dict[str, Any]:
    """What ``Measurement.to_json`` saves of a float tap."""

    def distance(value: float | None) -> Distance | None:
        if value is None:
            return None
        return Distance(
            elements=100,
            max_abs=value,
            rms=value / 4,
            worst_index=(0, 3, 17),
            worst_expected=1.25,
            worst_actual=1.25 + value,
        )

    return Measurement(
        name=name,
        dtype_expected="float32",
        dtype_actual="float32",
        shape_expected=shape,
        shape_actual=shape,
        elements=math.prod(shape),
        compared=math.prod(shape),
        scale=scale,
        rms_scale=scale / 3,
        actual=distance(error),
        reference=distance(noise),
        nan_expected=0,
        nan_actual=0,
        **more,
    ).to_json()


def tap(
    name: str,
    op: str,
    source: str,
    *,
    local: float,
    propagated: float,
    noise: float,
    fate: str = "compared",
    into: str | None = None,
) -> TapRecord:
    """A tap whose errors are given relative to its scale."""
    if fate != "compared":
        return TapRecord(name=name, op=op, source=source, fate=fate, into=into, verdict="not run")
    scale = 4.0
    own = 2 * UNIT * scale
    limit = 4 * max(6 * UNIT * scale, own)
    strain = local * scale / limit
    failed = not strain <= 1
    words = f"max error {local * scale:.4g}, limit {limit:.4g} = 4 x the rounding floor"
    return TapRecord(
        name=name,
        op=op,
        source=source,
        fate=fate,
        case="english",
        local=measurement(name, error=local * scale, noise=own),
        propagated=measurement(name, error=propagated * scale, noise=noise * scale),
        local_verdict=VerdictRecord(
            verdict="fail" if failed else "pass",
            who="onnx" if failed else "both within rounding",
            ratio=local * scale / own,
            limit=limit,
            strain=strain,
            reason=words,
        ),
        propagated_verdict=VerdictRecord(
            verdict="fail" if propagated > 8 * noise else "pass",
            who="onnx" if propagated > 8 * noise else "both within rounding",
            ratio=propagated / noise,
            limit=8 * noise * scale,
            strain=propagated / noise / 8,
            reason="",
        ),
        verdict="fail" if failed else "pass",
    )


def module_paths(blocks: int) -> list[tuple[str, str, str, str]]:
    """(module, class, op, source) in the order of the graph."""
    rows = list(FRONT)
    for block in range(blocks):
        for leaf, kind, op, source in SUBMODULES:
            rows.append((f"model.encoder.encoders.{block}.{leaf}", kind, op, source))
    rows.append(("model.ctc.ctc_lo", "Linear", "aten.linear.default", "ctc.py:18"))
    return rows


def layers(
    blocks: int, *, culprit: str | None = None, strength: float = 340.0, taps: int = 1
) -> list[LayerRecord]:
    """Layers of a healthy graph, or of one in which ``culprit`` is wrong."""
    draw = random.Random(7)
    records, noise, broken = [], 2 * UNIT, False
    for depth, (module, kind, op, source) in enumerate(module_paths(blocks)):
        held = []
        noise = UNIT * (2 + 40 * (1 - math.exp(-depth / 90))) * draw.uniform(0.6, 1.5)
        for index in range(taps):
            guilty = module == culprit and index == taps - 1
            broken = broken or guilty
            local = UNIT * draw.uniform(0.5, 9) * (strength if guilty else 1)
            propagated = noise * draw.uniform(0.7, 1.6) * (strength / 4 if broken else 1)
            name = f"{op.split('.')[1]}_{depth * taps + index}"
            fate = "fused" if index == 0 and taps > 1 and depth % 9 == 4 else "compared"
            into = f"{name}_fused" if fate == "fused" else None
            held.append(
                tap(name, op, source, local=local, propagated=propagated, noise=noise, fate=fate,
                    into=into)
            )  # fmt: skip
        judged = [t for t in held if t.local_verdict]
        records.append(
            LayerRecord(
                module=module,
                module_class=kind,
                verdict="fail" if any(t.verdict == "fail" for t in held) else "pass",
                worst_local_strain=max(
                    (t.local_verdict.strain or 0 for t in judged if t.local_verdict), default=None
                ),
                worst_propagated_strain=None,
                taps=held,
            )
        )
    return records


def link(name: str, expected: str, actual: str, verdict: str = "pass", **more: Any) -> LinkRecord:
    held = more.pop("layers", [])
    fates = [t.fate for layer in held for t in layer.taps]
    return LinkRecord(
        name=name,
        expected=expected,
        actual=actual,
        verdict=verdict,
        compared=fates.count("compared") if held else None,
        fused=fates.count("fused") if held else None,
        missing=fates.count("missing") if held else None,
        coverage=1.0 if held else None,
        layers=held,
        **more,
    )


def output(
    link: str, name: str, *, error: float | None, mismatches: int | None = None, ok: bool = True
) -> OutputRecord:
    discrete = mismatches is not None
    return OutputRecord(
        link=link,
        case="english",
        name=name,
        dtype="int64" if discrete else "float32",
        shape=[2, 31] if discrete else [2, 87, 512],
        max_abs=error,
        cosine=None if discrete else 1 - (error or 0) ** 2 / 2,
        mismatches=mismatches,
        measurement=measurement(name, error=error, noise=1e-6),
        verdict=VerdictRecord(
            verdict="pass" if ok else "fail",
            who="both within rounding" if ok else "onnx",
            ratio=None if discrete or error is None else error / 1e-6,
            limit=None if discrete else 5.7e-6,
            reason="" if ok else "max error beyond its limit",
        ),
    )


def outputs(*links: str, bad: tuple[str, ...] = ()) -> list[OutputRecord]:
    rows = []
    for name in links:
        ok = name not in bad
        rows += [
            output(name, "segments", error=None, mismatches=0),
            output(name, "speech_probs", error=1.9e-6),
            output(name, "logits", error=2.6e-6 if ok else 4.1e-2, ok=ok),
            output(name, "token_ids", error=None, mismatches=0 if ok else 3, ok=ok),
        ]
    return rows


def waveform(case: str = "english", seconds: float = 7.0) -> WaveformRecord:
    draw = random.Random(3)
    samples = int(seconds * 16000)
    loud = [(0.12, 0.44), (0.57, 0.9)]
    high = [
        (0.35 if any(a < i / 800 < b for a, b in loud) else 0.004) * draw.random()
        for i in range(800)
    ]
    frames = math.ceil(samples / 512)
    probs = [
        min(1.0, max(0.0, draw.gauss(0.95 if any(a < i / frames < b for a, b in loud) else 0.03,
                                     0.03)))
        for i in range(frames)
    ]  # fmt: skip
    return WaveformRecord(
        case=case,
        sample_rate_hz=16000,
        num_samples=samples,
        minimum=[-h for h in high],
        maximum=high,
        speech_probs=probs,
        hop_samples=512,
        threshold=0.5,
        segments=[(int(a * samples), int(b * samples)) for a, b in loud],
    )


def base(**changes: Any) -> Report:
    """A report of a run that passed; ``changes`` replace fields."""
    held = layers(3)
    values: dict[str, Any] = {
        "tool_version": "0.1.0",
        "verdict": "pass",
        "exit_code": 0 if changes.get("verdict", "pass") == "pass" else 1,
        "headline": "PASS: 33 taps of 33 within 4 times float32 rounding; outputs equal as shipped",
        "pipeline": PipelineRecord(
            name="sensevoice_tiny",
            digest="5f0c" * 16,
            graph_digest="9a1d" * 16,
            file="pipelines/sensevoice_tiny.yaml",
            weights=WeightsRecord(source="seeded (seed 0)", digest="77ab" * 16, seeded=True),
        ),
        "environment": EnvironmentRecord(
            versions={"torch": "2.13.0", "onnx": "1.23.0", "onnxruntime-gpu": "1.31.0"},
            python="3.11.7",
            platform="Linux x86_64",
            cpu_flags=["avx2", "avx512f", "fma"],
            threads=2,
            providers=["CPUExecutionProvider"],
        ),
        "policy": PolicyRecord(
            factor=4.0, precision="float32", overrides=[], max_ambiguous=0, min_coverage=1.0
        ),
        "artifacts": [
            ArtifactRecord(
                name="model", path="model.onnx", sha256="ab" * 32, nodes=4582, bytes=936_412_004
            ),
            ArtifactRecord(
                name="exported",
                path="exported.onnx",
                sha256="cd" * 32,
                nodes=7579,
                bytes=937 * 10**6,
            ),
        ],
        "links": [
            link("captured", "eager PyTorch", "captured program"),
            link("exported", "captured program", "exported.onnx", layers=held),
            link("simplified", "captured program", "model.onnx", layers=held),
            link("deployed", "eager PyTorch", "model.onnx, CPU, all optimisations"),
        ],
        "culprits": [],
        "outputs": outputs("captured", "exported", "simplified", "deployed"),
        "cases": [
            CaseRecord(
                name="english",
                origin="golden/audio/english.wav",
                shapes={"waveform": [112000], "language": [], "text_norm": []},
                expect_empty=[],
                text=["<|en|><|NEUTRAL|>the quick brown fox", "please call a taxi"],
            )
        ],
        "contracts": [
            ContractRecord(name="shapes", side="onnx", verdict="pass", observed="6 lengths"),
            ContractRecord(name="silence", side="both", verdict="pass"),
        ],
        "waveforms": [waveform()],
        "notes": ["onnxsim: 7,579 -> 4,582 nodes, 937.0 MB -> 936.4 MB"],
        "not_checked": [
            "padding: the graph has no batch axis",
            "CUDA: this machine has no such provider",
        ],
        "timings": {"build": 3.2, "capture": 12.4, "export": 31.0, "simplify": 4.4, "layers": 9.7},
    }  # fmt: skip
    return Report(**(values | changes))


def culprit(layer: str, *, link: str = "simplified", **changes: Any) -> CulpritRecord:
    values: dict[str, Any] = {
        "link": link,
        "stage": "simplify",
        "layer": layer,
        "op": "aten.linear.default",
        "tap": "linear_31",
        "source": "layers.py:31",
        "case": "english",
        "local_error": 4.1e-4,
        "propagated_error": 8.8e-3,
        "ratio": 340.0,
        "limit": 5.7e-6,
        "who": "onnx",
        "reason": "max error 0.00041, limit 5.7e-06 = 4 x the rounding floor; initialiser"
        " 'w_2.weight' differs at (17, 4)",
    }
    return CulpritRecord(**(values | changes))


def passed() -> Report:
    return base()


def stage_fail() -> Report:
    """A stage could not do its work: what comes after it was not run."""
    return base(
        verdict="fail",
        headline="FAIL: stage 'simplify' stopped: onnxsim refused the graph (Resize with a"
        " dynamic scale)",
        links=[
            link("captured", "eager PyTorch", "captured program"),
            link("exported", "captured program", "exported.onnx", layers=layers(3)),
            link("simplified", "captured program", "model.onnx", "not run",
                 reason="stage 'simplify' failed: onnxsim refused the graph"),
            link("deployed", "eager PyTorch", "model.onnx, CPU", "not run",
                 reason="stage 'simplify' made no file"),
        ],
        outputs=outputs("captured", "exported"),
        contracts=[ContractRecord(name="silence", side="onnx", verdict="not run",
                                  reason="there is no shipped file")],
    )  # fmt: skip


def layer_fail(blocks: int = 3, taps: int = 1) -> Report:
    guilty = f"model.encoder.encoders.{blocks // 2}.feed_forward.w_2"
    broken = layers(blocks, culprit=guilty, taps=taps)
    return base(
        verdict="fail",
        headline=f"FAIL: onnxsim changed {guilty} (Linear, layers.py:31): 340 times float32"
        " rounding; ONNX is wrong",
        links=[
            link("captured", "eager PyTorch", "captured program"),
            link("exported", "captured program", "exported.onnx", layers=layers(blocks, taps=taps)),
            link("simplified", "captured program", "model.onnx", "fail",
                 reason="1 layer fails by itself", layers=broken),
            link("deployed", "eager PyTorch", "model.onnx, CPU", "fail",
                 reason="logits beyond the limit"),
        ],
        culprits=[
            culprit(guilty, tap=t.name)
            for layer in broken
            for t in layer.taps
            if t.verdict == "fail"
        ],
        structure=[StructureRecord(kind="initializer", node="/w_2/MatMul", name="w_2.weight",
                                   expected="0.0313", actual="-0.0313", layer=guilty)],
        outputs=outputs("captured", "exported", "simplified", "deployed",
                        bad=("simplified", "deployed")),
    )  # fmt: skip


def contract_fail() -> Report:
    return base(
        verdict="fail",
        headline="FAIL: contract 'causality' broken by model.decoder.layers.3.conv: it sees 2"
        " frames ahead, 0 declared",
        contracts=[
            ContractRecord(name="causality", side="pytorch", verdict="fail",
                           observed="2 frames of lookahead", limit="0 frames",
                           where="model.decoder.layers.3.conv (Conv1d, conv.py:52)",
                           advice="pad this convolution on the left only, or declare"
                           " lookahead_frames: 2",
                           reason="gradient of output 10 with respect to input 12 is 0.031, not 0"),
            ContractRecord(name="silence", side="onnx", verdict="pass"),
            ContractRecord(name="padding", side="both", verdict="not applicable",
                           reason="the graph has no batch axis"),
        ],
    )  # fmt: skip


def golden_fail() -> Report:
    return base(
        verdict="fail",
        headline="FAIL: golden 'english' moved: logits by 3.1e-3 (limit 2.2e-5), first at"
        " vad.lstm",
        golden=[
            GoldenRecord(case="english", state="moved", verdict="fail", moved=["logits"],
                         first_layer="vad.lstm", observed=3.1e-3, limit=2.2e-5,
                         reason="environment moved too: onnxruntime-gpu 1.30.0 -> 1.31.0",
                         advice="run the recorded versions again, or record with a reason"),
            GoldenRecord(case="silence", state="same", verdict="pass"),
        ],
    )  # fmt: skip


def empty() -> Report:
    """Nothing was compared at all."""
    return base(
        verdict="not run", headline="NOT RUN: nothing was compared", links=[], outputs=[], cases=[],
        contracts=[], waveforms=[], notes=[], not_checked=[], timings={}, artifacts=[],
    )  # fmt: skip


def one_layer() -> Report:
    single = layers(1)[:1]
    return base(links=[link("exported", "captured program", "exported.onnx", layers=single)],
                outputs=outputs("exported"), waveforms=[])  # fmt: skip


def many_taps() -> Report:
    """5,000 taps in each of two links, the size of the full SenseVoice and more."""
    return layer_fail(blocks=70, taps=8)


def not_finite() -> Report:
    """NaN and Inf in every figure that can hold one."""
    worst = LayerRecord(
        module="model.norm",
        module_class="LayerNorm",
        verdict="fail",
        worst_local_strain=math.nan,
        worst_propagated_strain=math.inf,
        taps=[
            TapRecord(
                name=f"norm_{index}",
                op="aten.layer_norm.default",
                source="",
                fate="compared",
                case="english",
                local=measurement("norm", error=value, noise=0.0, scale=scale),
                propagated=measurement("norm", error=value, noise=value, scale=scale),
                local_verdict=VerdictRecord(
                    verdict="fail", who="unknown", ratio=value, limit=value, strain=value
                ),
                verdict="fail",
            )
            for index, (value, scale) in enumerate(
                [(math.nan, 1.0), (math.inf, 1.0), (-math.inf, 0.0), (0.0, 0.0), (1e308, 1e-308)]
            )
        ],
    )
    return base(
        verdict="fail",
        headline="FAIL: NaN in model.norm",
        links=[link("exported", "captured program", "exported.onnx", "fail", layers=[worst])],
        culprits=[
            culprit("model.norm", local_error=math.nan, propagated_error=math.inf, ratio=math.inf)
        ],
        outputs=[output("exported", "logits", error=math.nan, ok=False)],
        golden=[
            GoldenRecord(case="english", state="moved", verdict="fail", observed=math.nan,
                         limit=math.inf)
        ],
        timings={"export": math.nan},
        waveforms=[
            WaveformRecord(case="nan", sample_rate_hz=16000, num_samples=2,
                           minimum=[math.nan, -math.inf], maximum=[math.inf, math.nan],
                           speech_probs=[math.nan], hop_samples=512)
        ],
    )  # fmt: skip


def with_names(name: str) -> Report:
    """A report in which ``name`` stands wherever a name, a path or a sentence can stand."""
    held = layers(1)[0]
    bad = held.model_copy(
        update={
            "module": name,
            "module_class": name,
            "taps": [
                held.taps[0].model_copy(
                    update={"name": name, "op": name, "source": name, "case": name, "into": name,
                            "verdict": "fail"}
                )
            ],
        }
    )  # fmt: skip
    return base(
        verdict="fail",
        headline=name,
        pipeline=PipelineRecord(
            name=name, digest=name, graph_digest=name, file=name,
            weights=WeightsRecord(source=name, digest=name, seeded=True),
        ),
        environment=EnvironmentRecord(
            versions={name: name}, python=name, platform=name, cpu_flags=[name], threads=1,
            providers=[name],
        ),
        policy=PolicyRecord(factor=4.0, precision=name, overrides=[{name: name}], max_ambiguous=0,
                            min_coverage=None),
        artifacts=[ArtifactRecord(name=name, path=name, sha256=name, nodes=None, bytes=1)],
        links=[link(name, name, name, "fail", reason=name, layers=[bad])],
        culprits=[culprit(name, link=name, stage=name, op=name, tap=name, source=name, case=name,
                          who=name, reason=name)],
        structure=[StructureRecord(kind=name, node=name, name=name, expected=name, actual=name,
                                   tap=name, layer=name)],
        outputs=[output(name, name, error=1.0, ok=False)],
        cases=[CaseRecord(name=name, origin=name, shapes={name: [1]}, expect_empty=[name],
                          text=[name])],
        contracts=[ContractRecord(name=name, side=name, verdict="fail", observed=name, limit=name,
                                  where=name, advice=name, reason=name, details={name: name})],
        golden=[GoldenRecord(case=name, state=name, verdict="fail", moved=[name],
                             first_layer=name, reason=name, advice=name)],
        waveforms=[waveform(case=name)],
        notes=[name],
        not_checked=[name],
        timings={name: 1.0},
    )  # fmt: skip


def stopped(name: str = "enc.py:7") -> Report:
    """A run that a stage ended; ``name`` stands wherever the stage's own words can stand."""
    return base(
        verdict="fail",
        headline=f"stage 'capture' stopped at {name}: torch.export refused the module",
        stopped=StoppedRecord(
            stage="capture", detail=f"{name}\n\n{name}", finished=["wrap", name], where=name,
            trace=f"runs/{name}/stopped.txt",
        ),
        options=["--output-dir", name],
        links=[
            link("eager -> captured", "eager", "captured", "fail", reason=name),
            link("captured -> exported", "captured", "exported", "not run", reason=name),
        ],
        outputs=[], cases=[], waveforms=[], artifacts=[],
        contracts=[ContractRecord(name=name, side="both", verdict="not run", reason=name)],
    )  # fmt: skip


def figures(values: list[float | None], scale: float) -> Report:
    """A layer whose nine figures, and those of an output, a golden and a culprit, are given."""
    local, free, noise, ratio, limit, strain, share, observed, cosine = values
    verdict = VerdictRecord(verdict="fail", who="onnx", ratio=ratio, limit=limit, strain=strain)
    held = TapRecord(
        name="norm", op="aten.layer_norm.default", source="norm.py:1", fate="compared",
        local=measurement("norm", error=local, noise=noise, scale=scale),
        propagated=measurement("norm", error=free, noise=noise, scale=scale),
        local_verdict=verdict, propagated_verdict=verdict, verdict="fail",
    )  # fmt: skip
    layer = LayerRecord(
        module="model.norm", module_class="LayerNorm", verdict="fail", worst_local_strain=strain,
        worst_propagated_strain=share, taps=[held],
    )  # fmt: skip
    bad = output("exported", "logits", error=local, ok=False)
    return base(
        verdict="fail",
        links=[link("exported", "captured", "exported.onnx", "fail", layers=[layer])],
        culprits=[culprit("model.norm", local_error=local, propagated_error=free, ratio=ratio,
                          limit=limit)],
        outputs=[bad.model_copy(update={"cosine": cosine, "verdict": verdict})],
        golden=[GoldenRecord(case="english", state="moved", verdict="fail", observed=observed,
                             limit=limit)],
        timings={"export": scale},
    )  # fmt: skip


KINDS: dict[str, Callable[[], Report]] = {
    "passed": passed,
    "stage fail": stage_fail,
    "layer fail": layer_fail,
    "contract fail": contract_fail,
    "golden fail": golden_fail,
    "stopped": stopped,
    "empty": empty,
    "one layer": one_layer,
    "not finite": not_finite,
    **{f"hostile {index}": (lambda n=n: with_names(n)) for index, n in enumerate(HOSTILE)},
}
