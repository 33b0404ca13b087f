"""``export-verify init``: a YAML that runs as it is, found by running what it is for."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from exporter import run
from exporter.cli import cli, main
from exporter.config import load_pipeline
from exporter.core.errors import ModelError, UserInputError
from exporter.draft.text import pipeline_text
from exporter.flows.init import InitOptions, init
from exporter.flows.init_folder import folder_source
from exporter.report.progress import Progress

ZOO = Path(__file__).resolve().parents[1] / "pipelines" / "zoo"
CODE = '''
import torch
from torch import nn

class Encoder(nn.Module):
    """Looks back only; rows are masked."""
    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv1d(8, width, 3)
        self.head = nn.Linear(width, 5)
    def forward(self, feats, feats_lengths, scale=None):
        valid = torch.arange(feats.shape[1]) < feats_lengths[:, None]
        hidden = nn.functional.pad((feats * valid[:, :, None]).transpose(1, 2), (2, 0))
        return {"scores": self.head(self.conv(hidden).transpose(1, 2)) * valid[:, :, None]}

class Reversed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 4)
    def forward(self, tokens):
        return self.table(tokens).flip(1)

class Offers(nn.Module):
    def forward(self, a, b):
        if a.shape[-1] != 77 or b.dim() != 5:
            raise ValueError("never guessed")
        return a.sum(-1) + b.sum((1, 2, 3, 4))
    def example_inputs(self):
        return torch.randn(2, 77), torch.randn(2, 3, 1, 2, 2)

class Picky(nn.Module):
    def forward(self, x):
        raise RuntimeError("no")

def number():
    return 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "mine.py").write_text(textwrap.dedent(CODE), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(source: str, **options) -> tuple[dict, str]:
    written = init(source, InitOptions(**options), stages=Progress(quiet=True))
    return yaml.safe_load(written.text), written.text


def test_a_module_gets_inputs_axes_and_contracts_each_with_a_reason(folder):
    found, text = made("mine:Encoder", settings={"width": 7})
    assert found["inputs"] == {
        "feats": {"dtype": "float32", "shape": ["batch", "frames", 8]},
        "feats_lengths": {"dtype": "int64", "shape": ["batch"]},
    }
    assert found["outputs"] == ["scores"] and set(found["axes"]) == {"batch", "frames"}
    assert set(found["contracts"]) == {"shapes", "mutation", "determinism", "padding", "causality"}
    reasons = [line for line in text.splitlines() if line.startswith("  ") and "  # " in line]
    assert len(reasons) == 2 + 2 + 5
    assert load_pipeline(folder / "encoder.yaml").model.settings == {"width": 7}


def test_what_it_writes_runs_without_an_edit(folder):
    code = main(["init", "mine:Encoder", "-q"])
    assert code == 0
    report = run(folder / "encoder.yaml", trust=True, cache=False)
    assert report.verdict == "pass", report.headline
    assert {held.contract for held in report.contracts} >= {"padding", "causality"}


def test_a_contract_that_pytorch_does_not_keep_is_said_and_not_proposed(folder):
    found, text = made("mine:Reversed")
    assert found["inputs"]["tokens"]["draw"] == {"kind": "integers", "low": 0, "high": 30}
    assert "causality" not in found["contracts"] and "# causality: not proposed: " in text


def test_a_module_that_offers_its_inputs_is_believed(folder):
    found, _ = made("mine:Offers")
    assert found["inputs"]["a"]["shape"] == ["batch", 77]


def test_inputs_that_are_given_are_taken(folder):
    found, _ = made("mine:Encoder", inputs=("feats=float32[2,30,8]", "feats_lengths=int64[2]"))
    assert found["inputs"]["feats"]["shape"] == ["batch", "frames", 8]


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("mine:Encoder", {"settings": {"wide": 3}}, "unexpected keyword argument 'wide'"),
        ("mine:number", {}, "returns a int, not an nn.Module"),
        ("mine:Gone", {}, "does not exist"),
        ("mine:Encoder", {"method": "encode"}, "has no method 'encode'"),
        ("mine:Encoder", {"inputs": ("feats",)}, "is no input"),
        ("mine", {}, "neither package.module:callable, nor"),
        (".", {}, "nothing in this folder says"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_remedy(folder, source, options, said):
    with pytest.raises(UserInputError, match=said) as caught:
        made(source, **options)
    assert caught.value.remedy
    assert not list(folder.glob("*.yaml"))


def test_a_module_that_nothing_runs_on_says_what_it_said_itself(folder):
    with pytest.raises(ModelError, match="RuntimeError: no"):
        made("mine:Picky")


def test_a_file_that_is_there_is_kept(folder):
    made("mine:Encoder")
    with pytest.raises(UserInputError, match="there already"):
        made("mine:Encoder")
    made("mine:Encoder", force=True)


def test_settings_that_are_no_mapping_are_refused(folder):
    done = CliRunner().invoke(cli, ["init", "mine:Encoder", "--settings", "[1]"])
    assert done.exit_code == 2 and "names and values" in done.output


def test_a_checkpoint_of_a_shipped_system_extends_its_pipeline(folder):
    held = folder / "my-sensevoice"
    held.mkdir()
    (held / "config.yaml").write_text("model: SenseVoiceSmall\n", encoding="utf-8")
    found, _ = made("my-sensevoice")
    assert found["extends"].endswith("sensevoice.yaml")
    pipeline = load_pipeline(folder / "my_sensevoice.yaml")
    assert pipeline.model.kind == "sensevoice" and pipeline.model.weights == str(held)


def test_a_class_in_a_checkpoint_that_is_code_is_refused(folder):
    held = folder / "evil"
    held.mkdir()
    config = {"model_type": "bert", "architectures": ["Bert(); import os #"]}
    (held / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserInputError, match="no name of a class"):
        made("evil")
    assert not list(folder.glob("evil*.py"))


def test_a_checkpoint_of_funasr_cannot_ask_for_code_to_be_run(folder):
    """Its config.yaml is merged into what the stub says, and what the stub says wins."""
    loaded = pytest.importorskip("funasr.download.download_model_from_hub")
    held = folder / "evil_asr"
    held.mkdir()
    (folder / "bad.py").write_text("open('ran', 'w').close()\n", encoding="utf-8")
    asked = f"model: Conformer\ntrust_remote_code: true\nremote_code: {folder / 'bad.py'}\n"
    (held / "config.yaml").write_text(asked, encoding="utf-8")
    (held / "model.pt").touch()
    names: dict = {"__file__": str(folder / "evil_asr_factory.py")}
    exec(folder_source(held, folder).stub.replace("import funasr", ""), names)
    said: dict = {}

    class Funasr:
        @staticmethod
        def AutoModel(**options):  # noqa: N802 - its name
            said.update(loaded.download_model(**options))
            return SimpleNamespace(model=SimpleNamespace(encoder="encoder"))

    names["funasr"] = Funasr
    assert names["build"]() == "encoder"
    assert said["model_path"] == str(held) and not (folder / "ran").exists()


def test_a_name_of_several_lines_stays_a_comment():
    text = pipeline_text({"name": "x"}, said={}, head=["of a\nmodel: y"], tail=["b\nz: 1"])
    assert yaml.safe_load(text) == {"name": "x"}


@pytest.mark.slow
def test_a_hugging_face_checkpoint_gets_a_stub_and_a_yaml_that_runs(folder):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        vocab_size=40,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(folder / "tiny-bert")
    found, _ = made("tiny-bert")
    assert found["model"]["factory"] == "tiny_bert_factory:build"
    assert found["inputs"]["input_ids"]["draw"]["high"] == 40
    report = run(folder / "tiny_bert.yaml", trust=True, cache=False)
    assert report.verdict == "pass", report.headline


MODELS = (
    "ta_conformer ta_deepspeech sb_ecapa mo_seanet_encoder fa_sanm fa_fsmn hf_bert hf_wav2vec2"
    " hf_convnext ta_rnnt_joiner"
).split()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_zoo_gets_a_yaml_that_runs_without_an_edit(name, tmp_path):
    for path in ZOO.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    held = load_pipeline(ZOO / f"{name}.yaml").model
    options = {"settings": held.settings, "output": tmp_path / f"{name}.yaml"}
    made(str(held.factory), method=held.method, **options)
    report = run(tmp_path / f"{name}.yaml", trust=True, cache=False, output_dir=tmp_path / "run")
    assert report.verdict == "pass", report.headline
