"""Everything that can be wrong with a pipeline YAML names file, line and key, and the remedy."""

from __future__ import annotations

import pytest

from exporter.config import load_pipeline
from exporter.core.errors import ConfigError
from tests.config.texts import SMALLEST, refused, write

WRONG_LINE_6 = {
    "unknown key, near a known one": ("vda: null", "vda: unknown key", "did you mean 'vad'?"),
    "unknown key, far from all": ("zzzz: 1", "zzzz: unknown key", "known here: name"),
    "key of another section": ("opset: 18", "opset: unknown key", "belongs under 'export'"),
    "unknown key in a section": (
        "vad: {treshold: 0.4}",
        "vad.treshold: unknown key",
        "did you mean 'threshold'?",
    ),
    "unknown key in a list": (
        "parity: {overrides: [{taps: a, factor: 2, reson: b}]}",
        "parity.overrides[0].reson: unknown key",
        "did you mean 'reason'?",
    ),
    "wrong type": ("export: {opset: '18'}", "export.opset: '18' is", "valid integer"),
    "yes is no boolean": ("required: yes", "required: 'yes' is", "valid boolean"),
    "number for a section": ("vad: 3", "vad: 3 is", "mapping of keys"),
    "too low": ("export: {opset: 17}", "export.opset: 17 is", "greater than or equal to 18"),
    "too high": ("export: {opset: 24}", "export.opset: 24 is", "less than or equal to 23"),
    "threshold": ("vad: {threshold: 1.5}", "vad.threshold: 1.5 is", "less than 1"),
    "thresholds in disorder": (
        "vad: {threshold: 0.3, negative_threshold: 0.5}",
        "vad: negative_threshold 0.5 is above",
        "",
    ),
    "not a number": ("parity: {factor: .nan}", "parity.factor: nan is", "finite number"),
    "infinite": ("vad: {min_speech_ms: .inf}", "vad.min_speech_ms: inf is", "finite number"),
    "factor of one": ("parity: {factor: 1}", "parity.factor: 1 is", "greater than 1"),
    "no such choice": (
        "parity: {precision: float8}",
        "parity.precision: 'float8' is",
        "did you mean 'float32'?",
    ),
    "override without a reason": (
        "parity: {overrides: [{taps: a, factor: 2}]}",
        "parity.overrides[0].reason: this key is missing",
        "add 'reason:'",
    ),
    "override with a blank reason": (
        "parity: {overrides: [{taps: a, factor: 2, reason: ' '}]}",
        "parity.overrides[0].reason: ' ' is",
        "at least 1 character",
    ),
    "length of nothing": ("lengths: {waveform: [0]}", "lengths.waveform[0]: 0 is", ""),
    "length in words": ("lengths: {waveform: [ten]}", "lengths.waveform[0]: 'ten' is", "integer"),
    "coverage above one": ("min_coverage: 1.1", "min_coverage: 1.1 is", "less than or equal to 1"),
    "contract that is a number": ("contracts: {padding: 3}", "contracts.padding: 3 is", ""),
    "axis that nothing has": ("axes: {time: {minimum: 2}}", "axes: no input has an axis", ""),
    "shape below zero": (
        "inputs: {a: {dtype: int64, shape: [-1]}}",
        "inputs.a: a size of -1",
        "",
    ),
    "dtype": (
        "inputs: {a: {dtype: f32, shape: [1]}}",
        "inputs.a.dtype: 'f32' is",
        "did you mean 'float32'?",
    ),
    "option of another draw": (
        "inputs: {a: {dtype: float32, shape: [1], draw: {kind: normal, low: 1}}}",
        "inputs.a.draw: kind 'normal' has no option 'low'",
        "",
    ),
    "duplicate key": ("name: y", "name: this key was already given in line 1", "keep one"),
    "duplicate key inside": ("vad: {kind: silero, kind: silero}", "vad.kind: this key was", ""),
    "tag that runs code": (
        "vad: !!python/object/apply:os.system ['echo pwned > pwned']",
        "vad: the tag '!!python/object/apply:os.system' is not allowed",
        "without tags",
    ),
    "tag on a key": ("? !!python/name:os.system ''\n: 1", "top level: a key must be", ""),
    "own tag": ("vad: !mine {}", "vad: the tag '!mine' is not allowed", ""),
    "value that does not fit its tag": ("vad: !!int abc", "vad: 'abc' does not fit", ""),
    "merge key": ("<<: {vad: null}", "'<<' is not supported", "extends: FILE"),
    "list as key": ("? [1, 2]\n: 3", "top level: a key must be a plain word", ""),
    "alias of itself": ("vad: &a [*a]", "too deeply nested", ""),
    "extends nothing": ("extends: ''", "extends: 'extends' names one file", ""),
    "extends a list": ("extends: [a.yaml]", "extends: 'extends' names one file", ""),
    "extends a file that is not there": (
        "extends: y.yaml",
        "extends: there is no file 'y.yaml'",
        "",
    ),
    "extends itself": ("extends: x.yaml", "extends: files extend each other", "break the circle"),
}


@pytest.mark.parametrize("name", WRONG_LINE_6)
def test_a_wrong_line_is_named_with_its_key_and_its_remedy(tmp_path, monkeypatch, name):
    line, said, remedy = WRONG_LINE_6[name]
    monkeypatch.chdir(tmp_path)
    message = refused(write(tmp_path, SMALLEST + line + "\n"))
    assert message.startswith("x.yaml:6: ")
    assert said in message
    assert remedy in message.partition("\n  ")[2]
    assert message.partition("\n  ")[2].strip(), "there must be a remedy"
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"], "nothing may be run"


WRONG_WHOLE = {
    "empty": ("", "x.yaml:1: this is no pipeline: it is empty"),
    "a list": ("- a\n", "x.yaml:1: this is no pipeline: it holds no keys"),
    "a word": ("hello", "x.yaml:1: this is no pipeline"),
    "not YAML": ("name: x\nmodel: [\n", "this is not YAML"),
    "a tab": ("name: x\nmodel:\n\tkind: y\n", "x.yaml:3: this is not YAML"),
    "two documents": ("a: 1\n---\nb: 1\n", "this is not YAML"),
    "control character": ("name: \x01\n", "this is not YAML"),
    "nested beyond reason": ("a: " + "[" * 5000, "this is not YAML"),
    "model missing": (
        SMALLEST.replace("model: {kind: sensevoice}\n", ""),
        "model: this key is missing",
    ),
    "model is null": (SMALLEST.replace("{kind: sensevoice}", ""), "model: this key is missing"),
    "neither kind nor factory": (
        SMALLEST.replace("kind: sensevoice", "seed: 1"),
        "x.yaml:2: model: give either",
    ),
    "kind and factory": (
        SMALLEST.replace("kind: sensevoice", "kind: a, factory: 'a:b'"),
        "x.yaml:2: model: give either 'kind'",
    ),
    "factory that is no path": (
        SMALLEST.replace("kind: sensevoice", "factory: a.b"),
        "x.yaml:2: model.factory",
    ),
    "factory without inputs": (
        SMALLEST.replace("kind: sensevoice", "factory: 'a:b'"),
        "inputs: a model with a 'factory' needs",
    ),
    "no outputs": (SMALLEST.replace("[tokens]", "[]"), "x.yaml:3: outputs"),
    "output twice": (
        SMALLEST.replace("[tokens]", "[a, a]"),
        "x.yaml:3: outputs: an output is named twice",
    ),
    "no cases": (SMALLEST.replace("cases: [", "cases: []\n# "), "x.yaml:4: cases"),
    "default case unknown": (
        SMALLEST.replace("default_case: c", "default_case: d"),
        "x.yaml:5: default_case: there is no case 'd'; cases: c",
    ),
    "cases of one name": (
        SMALLEST.replace("]\ndefault", ", {name: c, random: {a: {kind: click}}}]\ndefault"),
        "x.yaml:4: cases: two cases are called 'c'",
    ),
    "neither audio nor random": (
        SMALLEST.replace("random: {waveform: {kind: normal, num_samples: 100}}", "inputs: {a: 1}"),
        "x.yaml:4: cases[0]: give either 'audio'",
    ),
    "audio and random": (
        SMALLEST.replace("random:", "audio: x.yaml, random:"),
        "x.yaml:4: cases[0]: give either 'audio'",
    ),
    "recording missing": (
        SMALLEST.replace("random: {waveform: {kind: normal, num_samples: 100}}", "audio: a/no.wav"),
        "x.yaml:4: cases[0].audio: there is no recording 'a/no.wav'",
    ),
    "name that is no file name": (
        SMALLEST.replace("name: x", "name: ../x"),
        "x.yaml:1: name: '../x' is",
    ),
    "two sizes of a draw": (
        SMALLEST.replace("num_samples: 100", "num_samples: 1, shape: [1]"),
        "x.yaml:4: cases[0].random.waveform: give only one of",
    ),
    "kind of a draw": (
        SMALLEST.replace("kind: normal", "kind: nrmal"),
        "x.yaml:4: cases[0].random.waveform.kind: 'nrmal' is",
    ),
}


@pytest.mark.parametrize("name", WRONG_WHOLE)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path, monkeypatch, name):
    text, said = WRONG_WHOLE[name]
    monkeypatch.chdir(tmp_path)
    message = refused(write(tmp_path, text))
    assert message.startswith("x.yaml")
    assert said in message
    assert "\n  " in message


def test_every_problem_is_reported_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = "vda: 1\nexport: {opset: 9, simplfy: true}\nmin_coverage: 2\n"
    text = SMALLEST.replace("random: {waveform: {kind: normal, num_samples: 100}}", "audio: no.wav")
    message = refused(write(tmp_path, text + lines))
    assert message.startswith("x.yaml: 5 problems\n")
    for where in ("x.yaml:4:", "x.yaml:6:", "x.yaml:7:", "x.yaml:8:"):
        assert where in message


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x07\xff\xfe\x00")
    assert "this is not text in UTF-8" in refused(path)


def test_a_file_that_is_too_large_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    assert "too large to be a pipeline" in refused(path)


@pytest.mark.parametrize("name", ["", "nowhere/x.yaml", "a\0b"])
def test_a_path_that_leads_nowhere_is_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        load_pipeline(tmp_path / name)


def test_aliases_that_multiply_are_refused(tmp_path):
    lines = ["a: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too many values" in refused(write(tmp_path, "\n".join(lines)))


def test_a_misspelt_required_key_is_one_problem_and_a_missing_one_beside_it_another(tmp_path):
    text = SMALLEST.replace("outputs:", "outputz:").replace("name: x\n", "")
    message = refused(write(tmp_path, text))
    assert "2 problems" in message
    assert "did you mean 'outputs'?" in message
    assert "name: this key is missing" in message
    assert "outputs: this key is missing" not in message
