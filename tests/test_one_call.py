"""A module, its inputs, a path: a file and a verdict, without a YAML."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

import exporter
from exporter.core.errors import MissingPackageError, UserInputError
from exporter.draft.axes import Mover, find_axes, lengths_of
from exporter.draft.content import draft_of
from exporter.draft.values import named_values, subject_of
from exporter.flows.one_call import GIVEN, ExportFailedWarning, _hand_over


class Encoder(nn.Module):
    """Frames halved, rows masked by their lengths."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(8, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, 8]`` and ``[B]``."""
        valid = torch.arange(feats.shape[1]) < feat_lens[:, None]
        hidden = self.conv((feats * valid[:, :, None]).transpose(1, 2)).transpose(1, 2)
        return self.head(hidden), (feat_lens + 1) // 2


ARGS = (torch.randn(1, 20, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([20]))


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[exporter.Report, Path]:
    path = tmp_path_factory.mktemp("one") / "encoder.onnx"
    return exporter.export(Encoder(), ARGS, path, cache=False), path


def test_one_call_gives_a_file_and_a_report_that_passes(exported):
    report, path = exported
    assert report.verdict == "pass" and report.exit_code == 0 and path.is_file()
    assert {case.name for case in report.cases} == {"example", GIVEN}
    given = next(case for case in report.cases if case.name == GIVEN)
    assert given.shapes == {"feats": [1, 20, 8], "feat_lens": [1]}
    notes = " ".join(report.notes)
    assert "axis 'batch' may vary" in notes and "axis 'frames' may vary" in notes
    saved = (path.parent / "encoder_report" / "report.json").read_text(encoding="utf-8")
    assert "axis 'frames' may vary" in saved


class Sloppy(nn.Module):
    """Its padding leaks: every convolution of a batch shows it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, feats: Tensor, feats_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, 4]`` and ``[B]``."""
        return self.conv(feats.transpose(1, 2)).transpose(1, 2), feats_lengths + 0


def test_a_file_that_fails_is_not_handed_over_in_silence(tmp_path):
    path = tmp_path / "sloppy.onnx"
    args = (torch.randn(2, 12, 4), torch.tensor([12, 7]))
    asked = {"contracts": {"padding": None}, "cache": False}
    with pytest.warns(ExportFailedWarning, match=r"was not written; the file lies in") as caught:
        report = exporter.export(Sloppy(), args, path, **asked)
    assert report.verdict == "fail" and report.headline in str(caught[0].message)
    assert not path.exists() and (tmp_path / "sloppy_report" / "model.onnx").is_file()
    with pytest.warns(ExportFailedWarning, match="was written all the same"):
        exporter.export(Sloppy(), args, path, keep_failed=True, **asked)
    assert path.is_file()


def test_the_callers_module_stays_as_it_was():
    module = Encoder().train()
    module.head.weight.requires_grad_(True)
    subject = subject_of(module)
    assert module.training and module.head.weight.requires_grad
    assert not subject.module.training and "training mode" in subject.notes[0]


def test_a_file_of_another_exporter_is_judged_under_its_own_names(exported, tmp_path):
    path = tmp_path / "theirs.onnx"
    module = Encoder().eval()
    torch.onnx.export(
        module,
        ARGS,
        path,
        dynamo=False,
        input_names=["input.1", "n"],
        dynamic_axes={"input.1": [1]},
    )
    report = exporter.verify(module, ARGS, path, cache=False)
    assert report.verdict == "pass", report.headline
    assert any("fixes input.1[0]" in note for note in report.notes)
    assert any("'frames' may vary" in note for note in report.notes)
    module.head.bias.data[1] += 0.01
    assert exporter.verify(module, ARGS, path, cache=False).verdict == "fail"


def with_weights_beside(path: Path, value: float) -> bytes:
    """An export whose weights are a file of their own; its bytes."""
    path.parent.mkdir(exist_ok=True)
    held = numpy_helper.from_array(np.full(4, value, np.float32), "w")
    ends = [helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [held]))
    beside = f"{path.name}.data"
    onnx.save(model, str(path), save_as_external_data=True, location=beside, size_threshold=0)
    return path.with_name(beside).read_bytes()


def test_weights_beside_do_not_replace_those_of_another_export(tmp_path):
    first = with_weights_beside(tmp_path / "enc_report" / "model.onnx", 1.0)
    with_weights_beside(tmp_path / "dec_report" / "model.onnx", 2.0)
    data = tmp_path / "model.onnx.data"
    _hand_over(tmp_path / "enc_report", tmp_path / "enc.onnx", stopped=False)
    assert data.read_bytes() == first
    with pytest.raises(UserInputError, match=r"another one is there") as caught:
        _hand_over(tmp_path / "dec_report", tmp_path / "dec.onnx", stopped=False)
    assert "another folder" in str(caught.value.remedy)
    assert data.read_bytes() == first and not (tmp_path / "dec.onnx").exists()
    again = with_weights_beside(tmp_path / "enc_report" / "model.onnx", 3.0)
    _hand_over(tmp_path / "enc_report", tmp_path / "enc.onnx", stopped=False)
    assert data.read_bytes() == again and (tmp_path / "enc.onnx").is_file()


def test_the_figures_are_a_data_frame(exported):
    report, _ = exported
    frame = report.to_dataframe()
    assert len(frame) == len(report.rows()) and set(frame["kind"]) == {"output", "value"}
    inside = frame[(frame["kind"] == "value") & (frame["module"] == "model.head")]
    assert (inside["verdict"] == "pass").all() and inside["strain"].max() < 1


def test_without_pandas_the_remedy_is_said(exported, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match="pip install pandas"):
        exported[0].to_dataframe()


def test_axes_that_are_given_are_taken_and_no_others(tmp_path):
    subject = subject_of(Encoder())
    values = named_values(subject.called, ARGS)
    draft = draft_of(subject, values, dynamic_axes={"feats": {1: "time"}})
    assert [axis.name for axis in draft.axes] == ["time"]
    with pytest.raises(UserInputError, match="no dimension 7"):
        draft_of(subject, values, dynamic_axes={"feats": {7: "x"}})


class Tied(nn.Module):
    """Two inputs whose rows must be as many, a third that goes its own way in steps of four."""

    def forward(self, left: Tensor, right: Tensor, blocks: Tensor) -> Tensor:
        """Sums."""
        return (left * right).sum(1) + blocks.reshape(-1, 4).sum() + left.new_zeros(5)[:1]


def test_sizes_that_belong_together_are_one_axis_and_steps_are_found():
    values = {"left": torch.randn(1, 6), "right": torch.randn(1, 6), "blocks": torch.randn(12)}
    subject = subject_of(Tied())
    found = {axis.places: axis for axis in find_axes(Mover(subject.run, values, {}))}
    assert set(found) == {
        (("left", 0), ("right", 0)),
        (("left", 1), ("right", 1)),
        (("blocks", 0),),
    }
    assert found[(("blocks", 0),)].multiple_of == 4


def test_integers_that_count_another_inputs_steps_are_lengths():
    values = named_values(Encoder().forward, ARGS)
    assert lengths_of(values) == {"feat_lens": ("feats", 1)}
    assert not lengths_of({"x": torch.randn(2, 7), "index": torch.tensor([7, 3])})


@pytest.mark.parametrize(
    ("module", "args", "said"),
    [
        (Encoder, ARGS, "is no module"),
        (Encoder(), "text", "is no set of inputs"),
        (Encoder(), (*ARGS, torch.ones(1)), "3 inputs are given, forward takes 2"),
        (Encoder(), (ARGS[0], 20), "'feat_lens' is a int, not a tensor"),
        (Encoder(), (torch.randn(1, 20, 9), ARGS[1]), "does not run on feats"),
        (Encoder(), {"feats": ARGS[0], "speech": ARGS[1], "more": ARGS[1]}, "no parameter for"),
    ],
)
def test_what_cannot_be_called_is_said_with_a_remedy(module, args, said, tmp_path):
    with pytest.raises(UserInputError, match=said) as caught:
        exporter.export(module, args, tmp_path / "x.onnx")
    assert caught.value.remedy
    assert not (tmp_path / "x.onnx").exists()


def test_a_method_and_an_instance_that_is_called_are_exported_too():
    class Holder:
        def __init__(self):
            self.net = Encoder()

        def __call__(self, feats: Tensor) -> Tensor:
            return self.net(feats, torch.full((feats.shape[0],), feats.shape[1]))[0]

    held = subject_of(Holder())
    assert any(name.endswith("head.weight") for name in held.module.state_dict())
    values = named_values(held.called, ARGS[0])
    assert draft_of(held, values).outputs == ("output",) and list(values) == ["feats"]
    assert subject_of(Encoder().forward).module.head.out_features == 5
