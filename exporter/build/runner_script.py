"""``run_model.py``: what a user of the shipped file starts from, written beside it."""

from __future__ import annotations

import json
from pathlib import Path

from exporter.config.inputs import Case
from exporter.core.files import write_text
from exporter.core.tensors import TensorSpec

_SPEECH = '''"""Usage: python run_model.py recording.wav   (mono, {rate} Hz)

Prints the segments of speech and their tokens. Needs numpy, onnxruntime and soundfile.
The other inputs are those of the report's case '{case}'{said}."""
import json, pathlib, sys
import numpy as np, onnxruntime, soundfile

if len(sys.argv) != 2:
    print(__doc__, file=sys.stderr)
    sys.exit(2)
here = pathlib.Path(__file__).parent
session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
waveform, rate = soundfile.read(sys.argv[1], dtype="float32")
if waveform.ndim != 1 or rate != {rate}:
    sys.exit("the model takes a mono recording at {rate} Hz")
results = session.run(None, {{"waveform": waveform, {prompts}}})
found = dict(zip([output.name for output in session.get_outputs()], results))
table = here / "tokens.json"
text = json.loads(table.read_text(encoding="utf-8")) if table.exists() else None
for span, ids, n in zip(found["segments"], found["token_ids"], found["token_lengths"]):
    tokens = ids[:n].tolist()
    said = "".join(text[i] for i in tokens) if text else tokens
    print(f"{{span[0] / rate:.3f}} - {{span[1] / rate:.3f}} s:", said)
'''


def write_runner(
    folder: Path,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[str, ...],
    sample_rate_hz: int,
    tokens: tuple[str, ...] | None,
    default: Case,
) -> list[str]:
    """Write ``tokens.json`` (if there is a table) and, for a speech graph, ``run_model.py``.

    Args:
        default: the pipeline's case of which the other inputs are taken.

    Returns the names of the files written.
    """
    written = []
    if tokens is not None:
        write_text(folder / "tokens.json", json.dumps(list(tokens), ensure_ascii=False))
        written.append("tokens.json")
    if inputs[0].name == "waveform" and {"segments", "token_ids", "token_lengths"} <= set(outputs):
        # Those of the case that the report shows: the same recording gives the same tokens.
        chosen = {spec.name: _chosen(spec, default) for spec in inputs[1:] if spec.choices}
        prompts = ", ".join(
            f'"{name}": np.array({number}, dtype="{spec.dtype}")'
            for spec in inputs[1:]
            for name, number in ((spec.name, chosen.get(spec.name)),)
            if number is not None
        )
        words = {
            spec.name: {number: word for word, number in spec.choices.items()}
            for spec in inputs[1:]
        }
        said = "".join(f", {name} {words[name].get(n, n)}" for name, n in chosen.items())
        text = _SPEECH.format(rate=sample_rate_hz, prompts=prompts, case=default.name, said=said)
        write_text(folder / "run_model.py", text)
        written.append("run_model.py")
    return written


def _chosen(spec: TensorSpec, default: Case) -> int:
    """The number of an input with choices: the case's, else the first."""
    given = default.inputs.get(spec.name)
    if isinstance(given, str) and given in spec.choices:
        return spec.choices[given]
    return given if isinstance(given, int) else next(iter(spec.choices.values()))
