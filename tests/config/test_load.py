"""What a valid YAML becomes: values, extends, paths, places, digests."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.cases.draw import KINDS
from exporter.config import Pipeline, load_pipeline, pipeline_schema
from exporter.config.inputs import DRAW_OPTIONS, Draw
from exporter.config.yaml_tree import Place, dotted
from tests.config.texts import SMALLEST, load, refused, write

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = sorted((ROOT / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_every_pipeline_of_the_repository_loads_and_is_named_for_its_file(path):
    pipeline = load_pipeline(path)
    assert pipeline.name == path.stem
    assert pipeline.description
    assert path.read_text(encoding="utf-8").startswith(
        "# yaml-language-server: $schema=./schema.json\n"
    )


def test_there_are_pipelines():
    assert {"sensevoice", "sensevoice_tiny"} <= {path.stem for path in PIPELINES}


def test_the_schema_file_is_up_to_date():
    written = json.loads((ROOT / "pipelines" / "schema.json").read_text(encoding="utf-8"))
    assert written == pipeline_schema(), "run: export-verify schema > pipelines/schema.json"


def test_the_schema_describes_every_section():
    schema = pipeline_schema()
    assert set(schema["properties"]) == {*Pipeline.model_fields, "extends"}
    assert schema["else"]["required"] == ["name", "model", "outputs", "cases", "default_case"]


def test_defaults(tmp_path):
    pipeline = load(tmp_path)
    assert pipeline.vad is None
    assert pipeline.features is None
    assert pipeline.model.weights == "seeded"
    assert pipeline.export.opset == 18
    assert pipeline.parity.precision == "float32"
    assert pipeline.parity.max_ambiguous == 0
    assert pipeline.min_coverage is None
    assert pipeline.required is True


def test_values_of_all_sections(tmp_path):
    pipeline = load(
        tmp_path,
        """\
sample_rate_hz: 8000
vad: {threshold: 0.4, max_segment_ms: null, round_to_ms: false}
features: {num_mels: 40, window: povey}
inputs: {a: {dtype: int64, shape: [batch, 3], choices: {one: 1}}}
axes: {batch: {minimum: 2, maximum: 9, example: 4}}
export: {opset: 21, simplify: false, external_data: true}
lengths: {waveform: [400, 16000]}
parity: {factor: 3, precision: float16, overrides: [{taps: 'a.*', factor: 8, reason: why}]}
min_coverage: 9.5e-1
contracts: {padding: {garbage: 1e3}, causality: , silence: false}
required: false
""",
    )
    assert pipeline.vad is not None
    assert (pipeline.vad.threshold, pipeline.vad.max_segment_ms) == (0.4, None)
    assert pipeline.vad.round_to_ms is False
    assert pipeline.features is not None
    assert (pipeline.features.num_mels, pipeline.features.lfr_m) == (40, 7)
    assert pipeline.inputs["a"].shape == ("batch", 3)
    assert pipeline.axes["batch"].example == 4
    assert pipeline.lengths == {"waveform": (400, 16000)}
    assert pipeline.parity.overrides[0].reason == "why"
    assert pipeline.min_coverage == 0.95
    assert pipeline.contracts == {"padding": {"garbage": 1000.0}, "causality": None}
    assert pipeline.required is False


def test_a_pipeline_is_frozen(tmp_path):
    pipeline = load(tmp_path)
    with pytest.raises(ValidationError):
        pipeline.name = "y"  # pyright: ignore
    with pytest.raises(ValidationError):
        pipeline.model.seed = 1  # pyright: ignore


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("true", True),
        ("1e3", 1000.0),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("-7", -7),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("'1'", "1"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path, text, value):
    pipeline = load(tmp_path, f"model_is: {text}".replace("model_is", "contracts: {a: {b") + "}}")
    found = pipeline.contracts["a"]
    assert found == {"b": value}
    assert type(found["b"]) is type(value)  # pyright: ignore


class TestExtends:
    def test_mappings_are_merged_and_lists_replaced(self, tmp_path):
        base = SMALLEST + "vad: {threshold: 0.4, min_speech_ms: 100}\nlengths: {waveform: [1, 2]}\n"
        write(tmp_path, base, "base.yaml")
        child = write(
            tmp_path,
            "extends: base.yaml\nname: y\nvad: {threshold: 0.6}\nlengths: {waveform: [3]}\n",
        )
        pipeline = load_pipeline(child)
        assert pipeline.name == "y"
        assert pipeline.vad is not None
        assert (pipeline.vad.threshold, pipeline.vad.min_speech_ms) == (0.6, 100)
        assert pipeline.lengths == {"waveform": (3,)}

    def test_null_takes_a_section_a_setting_and_a_default_away(self, tmp_path):
        base = (
            SMALLEST.replace("{kind: sensevoice}", "{kind: sensevoice, settings: {a: 1, b: 2}}")
            + "vad: {threshold: 0.4}\nexport: {opset: 20}\nparity: {factor: 3}\n"
        )
        write(tmp_path, base, "base.yaml")
        child = write(
            tmp_path,
            "extends: base.yaml\nvad: null\nexport: {opset: null}\nparity: null\n"
            "model: {settings: {a: null}}\n",
        )
        pipeline = load_pipeline(child)
        assert pipeline.vad is None
        assert pipeline.export.opset == 18
        assert pipeline.parity.factor is None
        assert pipeline.model.settings == {"b": 2}

    def test_null_leaves_a_required_key_missing(self, tmp_path):
        write(tmp_path, SMALLEST, "base.yaml")
        message = refused(write(tmp_path, "extends: base.yaml\noutputs: null\n"))
        assert "outputs: this key is missing" in message

    def test_a_section_that_was_taken_away_can_be_given_anew(self, tmp_path):
        write(tmp_path, SMALLEST + "vad: {threshold: 0.4, min_speech_ms: 1}\n", "a.yaml")
        write(tmp_path, "extends: a.yaml\nvad: null\n", "b.yaml")
        pipeline = load_pipeline(write(tmp_path, "extends: b.yaml\nvad: {threshold: 0.7}\n"))
        assert pipeline.vad is not None
        assert (pipeline.vad.threshold, pipeline.vad.min_speech_ms) == (0.7, 250)

    def test_an_inherited_contract_can_be_switched_off(self, tmp_path):
        write(tmp_path, SMALLEST + "contracts: {padding: {a: 1}, silence: }\n", "base.yaml")
        child = write(tmp_path, "extends: base.yaml\ncontracts: {padding: false}\n")
        assert load_pipeline(child).contracts == {"silence": None}

    def test_a_circle_over_three_files_is_named_whole(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name, base in (("a", "b"), ("b", "c"), ("c", "a")):
            write(tmp_path, f"extends: {base}.yaml\n", f"{name}.yaml")
        message = refused(tmp_path / "a.yaml")
        assert "a.yaml -> b.yaml -> c.yaml -> a.yaml" in message
        assert message.startswith("c.yaml:1: extends")

    def test_an_error_is_placed_in_the_file_that_makes_it(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(tmp_path, SMALLEST + "\nexport: {opset: 9}\n", "base.yaml")
        message = refused(write(tmp_path, "extends: base.yaml\nname: y\nvda: 1\n"))
        assert "base.yaml:7: export.opset" in message
        assert "x.yaml:3: vda" in message

    def test_paths_count_from_the_file_that_sets_them(self, tmp_path):
        (tmp_path / "base").mkdir()
        recording = tmp_path / "base" / "a.wav"
        shutil.copy(ROOT / "golden" / "audio" / "silence.wav", recording)
        text = SMALLEST.replace(
            "random: {waveform: {kind: normal, num_samples: 100}}", "audio: a.wav"
        )
        text = text.replace("{kind: sensevoice}", "{kind: sensevoice, weights: ckpt}")
        write(tmp_path / "base", text, "base.yaml")
        pipeline = load_pipeline(write(tmp_path, "extends: base/base.yaml\nname: y\n"))
        assert pipeline.cases[0].audio == recording.resolve()
        assert pipeline.model.weights == str(tmp_path.resolve() / "base" / "ckpt")


@pytest.mark.parametrize("weights", ["seeded", "hub:ORG/NAME@abc"])
def test_weights_that_are_no_path_stay_as_they_are(tmp_path, weights):
    text = SMALLEST.replace("{kind: sensevoice}", f"{{kind: sensevoice, weights: '{weights}'}}")
    assert load_pipeline(write(tmp_path, text)).model.weights == weights


class TestWhere:
    def test_it_follows_extends_to_the_file_that_sets_a_key(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(tmp_path, SMALLEST + "vad:\n  threshold: 0.4\n  min_speech_ms: 100\n", "base.yaml")
        child = write(tmp_path, "extends: base.yaml\n\nvad:\n  threshold: 0.6\n")
        pipeline = load_pipeline(child)
        assert pipeline.where("vad", "threshold") == "x.yaml:4: vad.threshold"
        assert pipeline.where("vad", "min_speech_ms") == "base.yaml:8: vad.min_speech_ms"
        assert pipeline.where("cases", 0, "name") == "base.yaml:4: cases[0].name"
        assert pipeline.where("vad") == "x.yaml:3: vad"

    def test_a_key_that_no_file_gives_is_placed_at_its_section(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pipeline = load(tmp_path, "vad:\n  threshold: 0.6\n")
        assert pipeline.where("vad", "speech_pad_ms") == "x.yaml:6: vad.speech_pad_ms"
        assert pipeline.where("export", "opset") == "x.yaml:1: export.opset"

    def test_it_survives_other_weights(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        changed = load(tmp_path).with_weights("elsewhere")
        assert changed.model.weights == "elsewhere"
        assert changed.where("model", "kind") == "x.yaml:2: model.kind"

    def test_keys_read_like_code(self):
        assert dotted(("cases", 0, "random", "x")) == "cases[0].random.x"
        assert dotted(()) == "top level"


class TestDigest:
    def test_layout_comments_order_and_written_defaults_do_not_count(self, tmp_path):
        first = load(tmp_path, "export: {opset: 18}\nvad: {threshold: 0.5}\n")
        text = "vad:\n    threshold: 5e-1  # a half\n" + SMALLEST + "description: other words\n"
        second = load_pipeline(write(tmp_path, text, "other.yaml"))
        assert first.digest == second.digest
        assert len(first.digest) == 64

    @pytest.mark.parametrize(
        ("line", "graph_too"),
        [
            ("vad: {threshold: 0.4}", True),
            ("export: {opset: 19}", True),
            ("sample_rate_hz: 8000", True),
            ("parity: {factor: 9}", False),
            ("contracts: {padding: }", False),
            ("min_coverage: 0.5", False),
        ],
    )
    def test_what_is_said_counts(self, tmp_path, line, graph_too):
        before, after = load(tmp_path), load(tmp_path, line + "\n")
        assert before.digest != after.digest
        assert (before.graph_digest != after.graph_digest) is graph_too

    def test_other_weights_count(self, tmp_path):
        before = load(tmp_path)
        assert before.with_weights("other").graph_digest != before.graph_digest

    def test_a_recording_counts_by_content_and_not_by_place(self, tmp_path):
        digests = []
        for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
            folder = tmp_path / name
            folder.mkdir()
            (folder / f"{name}.wav").write_bytes(content)
            text = SMALLEST.replace(
                "random: {waveform: {kind: normal, num_samples: 100}}", f"audio: {name}.wav"
            )
            digests.append(load_pipeline(write(folder, text)).digest)
        assert digests[0] == digests[1] != digests[2]

    def test_a_section_digest_ignores_the_rest(self, tmp_path):
        before, after = load(tmp_path), load(tmp_path, "parity: {factor: 9}\n")
        assert before.section_digest("model", "vad") == after.section_digest("vad", "model")
        assert before.section_digest("parity") != after.section_digest("parity")


def test_a_recording_of_the_user_becomes_a_case_with_the_inputs_of_the_default_one(tmp_path):
    pipeline = load_pipeline(ROOT / "pipelines" / "sensevoice_tiny.yaml")
    more = pipeline.with_recording("mine", tmp_path / "my.wav")
    assert more.case("mine").audio == tmp_path / "my.wav"
    assert more.case("mine").inputs == pipeline.case("english").inputs
    assert len(pipeline.cases) + 1 == len(more.cases)
    assert more.digest != pipeline.digest
    with pytest.raises(KeyError):
        pipeline.case("mine")


def test_draws_have_the_kinds_and_options_that_the_drawing_code_has():
    assert {kind: frozenset(options) for kind, (_, options) in KINDS.items()} == DRAW_OPTIONS


def test_a_draw_hands_over_only_what_was_given():
    draw = Draw(kind="uniform", low=-2, num_samples=5, seed=3)
    assert draw.options == {"low": -2.0}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(Pipeline.model_fields)), value=VALUES)
def test_no_value_of_any_section_ends_in_anything_but_an_answer(tmp_path_factory, key, value):
    """Loading says yes, or refuses with a place; it never breaks."""
    from exporter.core.errors import ConfigError

    folder = tmp_path_factory.mktemp("any")
    text = "\n".join(line for line in SMALLEST.splitlines() if not line.startswith(f"{key}:"))
    path = write(folder, f"{text}\n{key}: {json.dumps(value)}\n")
    try:
        pipeline = load_pipeline(path)
    except ConfigError as error:
        assert "x.yaml" in str(error)
        assert "\n  " in str(error)
    else:
        assert len(pipeline.digest) == 64


def test_a_place_is_a_value():
    assert dataclasses.astuple(Place(file="a", line=1)) == ("a", 1)


@pytest.mark.parametrize("name", ["plain.yaml", "of 12:30.yaml"])
def test_the_file_of_a_pipeline_is_whole_whatever_it_is_called(tmp_path, name):
    path = tmp_path / name
    path.write_text(SMALLEST, encoding="utf-8")
    assert load_pipeline(path).file == str(path)
