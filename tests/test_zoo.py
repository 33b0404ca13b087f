"""The zoo: every YAML is read, and names a factory that is there."""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from exporter.config import load_pipeline

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "pipelines" / "zoo"
sys.path.insert(0, str(ROOT / "scripts"))

import zoo  # noqa: E402
import zoo_table  # noqa: E402

MODELS = sorted(path.stem for path in ZOO.glob("*.yaml"))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_zoo_has_a_factory_and_a_case_of_its_own(name):
    pipeline = load_pipeline(ZOO / f"{name}.yaml")
    module, _, made = str(pipeline.model.factory).partition(":")
    tree = ast.parse((ZOO / f"{module}.py").read_text())
    there = {getattr(node, "name", None) for node in tree.body}
    there |= {
        t.id
        for n in tree.body
        if isinstance(n, ast.Assign)
        for t in n.targets
        if isinstance(t, ast.Name)
    }
    assert made in there and pipeline.name == name and pipeline.cases


def test_the_zoo_is_as_large_as_it_is_said_to_be():
    assert len(MODELS) >= 100


QUICK = (
    "mo_quantizer_decode mo_quantizer_encode mo_seanet_decoder mo_seanet_encoder mo_transformer"
    " ta_mel_spectrogram ta_deepspeech ta_rnnt_joiner ta_conformer ta_wavernn"
    " sb_fbank sb_transformer sb_ecapa fa_fsmn fa_sanm fa_ct_transformer"
    " hf_dac_encode hf_dac_decode hf_wav2vec2 hf_llama_step"
).split()


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_model_of_the_zoo_passes_and_its_file_is_right_at_other_sizes(name):
    package = {"mo": "moshi", "ta": "torchaudio", "sb": "speechbrain", "fa": "funasr"}
    # Looked for, not imported: importing SpeechBrain by itself leaves placeholders among the
    # modules that raise for whoever looks through them (hypothesis).
    if find_spec(package.get(name[:2], "transformers")) is None:
        pytest.fail("a package of the zoo is not installed")
    found = zoo.ours(name)
    assert found["status"] == "pass", found["why"]
    assert found["elsewhere"]["agreed"] and not found["elsewhere"]["wrong"]


def test_a_file_that_is_wrong_at_another_size_is_counted_as_wrong():
    row = {"ours": {"status": "pass", "elsewhere": {"agreed": [], "wrong": ["batch 4: y is away"]}}}
    assert zoo_table.outcome(row) == "wrong file"
    row["ours"]["elsewhere"]["wrong"] = []
    assert zoo_table.outcome(row) == "pass"
    assert zoo_table.outcome({}) == "not run"
