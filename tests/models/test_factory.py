"""A user's own model: what is imported when, what its results are called, whose error it is."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from exporter import cli
from exporter.cases.defaults import length_axis
from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.core.errors import ConfigError, ModelError, UserInputError, WeightsError
from exporter.graph.wrap import Wrapped, wrap
from exporter.report.schema import read_report

MODULE = """\
import torch
from torch import nn


class Frames(nn.Module):
    def __init__(self, width=6, kind="dict"):
        super().__init__()
        self.conv = nn.Conv1d(4, width, 3, stride=2)
        self.norm = nn.BatchNorm1d(width)
        self.kind = kind

    def forward(self, x, x_lengths):
        y = self.norm(self.conv(x.transpose(1, 2))).transpose(1, 2)
        best = y.argmax(-1)
        mean = y.mean(dim=(0, 1))
        kept = (x_lengths - 3) // 2 + 1
        if self.kind == "dict":
            return {"y": y, "best": best, "mean": mean, "kept": kept, "x_again": x * 1.0}
        return (y, best, mean)


def build(width=6, kind="dict"):
    return Frames(width, kind)
"""
YAML = """\
name: mine
model:
  factory: my_model:build
  settings: {width: 5}
axes:
  frames: {minimum: 3, example: 17}
inputs:
  x: {dtype: float32, shape: [batch, frames, 4]}
  x_lengths: {dtype: int64, shape: [batch]}
outputs: [y, best, kept]
cases:
  - {name: short, random: {x: {kind: normal, seed: 1, sizes: {batch: 2, frames: 9}}}}
default_case: short
"""


def project(folder: Path, *, module: str = MODULE, yaml: str = YAML, **changes: str) -> Path:
    """Write ``my_model.py`` and ``mine.yaml``; ``changes`` replaces text of the YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    for change in changes.values():
        old, _, new = change.partition(" => ")
        assert old in yaml
        yaml = yaml.replace(old, new)
    (folder / "my_model.py").write_text(module, encoding="utf-8")
    path = folder / "mine.yaml"
    path.write_text(yaml, encoding="utf-8")
    return path


def wrapped(folder: Path, **options: str) -> Wrapped:
    return wrap(load_pipeline(project(folder, **options), trust=True))


def shapes(found: Wrapped) -> dict[str, tuple[str, tuple]]:
    return {spec.name: (spec.dtype, spec.shape) for spec in found.outputs}


# -- trust ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check", "verify", "golden record"])
def test_without_trust_nothing_of_it_is_imported(tmp_path, capsys, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = project(tmp_path, module="open('imported', 'w').close()\n" + MODULE)
    before = list(sys.path)
    (tmp_path / "x.onnx").write_bytes(b"")
    extra = {"verify": ["--onnx", "x.onnx"], "golden record": ["--reason", "r"]}.get(command, [])
    assert cli.main([*command.split(), str(path), *extra]) == 2
    said = capsys.readouterr().err
    assert "this pipeline runs code: my_model:build" in said
    assert "mine.yaml:3: model.factory" in said and "add --trust" in said
    assert "my_model" not in sys.modules and sys.path == before
    assert not (tmp_path / "imported").exists()


def test_the_python_api_needs_trust_too(tmp_path):
    pipeline = load_pipeline(project(tmp_path))
    with pytest.raises(UserInputError, match="trust=True"):
        wrap(pipeline)
    assert "my_model" not in sys.modules
    assert wrap(pipeline.with_trust()).weights.source.startswith("as my_model:build builds it")


def test_sys_path_and_random_numbers_are_left_as_they_were(tmp_path):
    before, state = list(sys.path), torch.get_rng_state()
    wrapped(tmp_path)
    assert sys.path == before and torch.equal(state, torch.get_rng_state())


# -- what comes out ------------------------------------------------------------------------------


def test_results_are_described_from_runs_at_several_sizes(tmp_path):
    found = wrapped(tmp_path, every="[y, best, kept] => [y, best, mean, kept, x_again]")
    assert shapes(found) == {
        "y": ("float32", ("batch", "y_frames", 5)),
        "best": ("int64", ("batch", "y_frames")),
        "mean": ("float32", (5,)),
        "kept": ("int64", ("batch",)),
        "x_again": ("float32", ("batch", "frames", 4)),
    }
    assert [spec.name for spec in found.outputs if spec.discrete] == ["best", "kept"]
    assert found.example["x"].shape == (3, 17, 4)
    assert found.example["x_lengths"].tolist() == [17, 13, 9]


def test_results_of_a_tuple_are_named_by_the_yaml_in_order(tmp_path):
    found = wrapped(tmp_path, kind="{width: 5} => {kind: tuple}", out="kept] => mean]")
    assert [spec.name for spec in found.outputs] == ["y", "best", "mean"]
    assert found.outputs[0].shape == ("batch", "y_frames", 6)


def test_numbers_and_complex_numbers_among_the_results_are_tensors_of_the_file(tmp_path):
    module = MODULE.replace('"y": y', '"y": y + 1j').replace('"kept": kept', '"kept": 3')
    y, _, kept = wrapped(tmp_path, module=module).outputs
    assert (y.dtype, y.shape[2:]) == ("float32", (5, 2))
    assert (kept.dtype, kept.shape, kept.discrete) == ("int64", (), True)


def test_one_tensor_needs_one_name(tmp_path):
    module = "from torch.nn import Linear\n"
    yaml = YAML.replace("my_model:build", "torch.nn:Linear").replace(
        "{width: 5}", "{in_features: 4, out_features: 2}"
    )
    yaml = yaml.replace("  x_lengths: {dtype: int64, shape: [batch]}\n", "")
    found = wrapped(tmp_path, module=module, yaml=yaml.replace("[y, best, kept]", "[y]"))
    assert shapes(found) == {"y": ("float32", ("batch", "frames", 2))}


def test_a_size_that_follows_the_values_is_symbolic(tmp_path):
    module = MODULE.replace('"mean": mean', '"mean": x[x > 0]')
    found = wrapped(tmp_path, module=module, out="[y, best, kept] => [mean]")
    ((_, (name,)),) = shapes(found).values()
    assert isinstance(name, str) and name.startswith("mean")


def test_seeds_give_the_same_weights_again_and_others_do_not(tmp_path):
    first, again = wrapped(tmp_path / "a"), wrapped(tmp_path / "b")
    other = wrapped(tmp_path / "c", seed="  settings => \n  seed: 3\n  settings")
    assert first.weights.digest == again.weights.digest != other.weights.digest


def test_a_corrected_model_is_imported_anew_and_has_another_digest(tmp_path):
    first = wrapped(tmp_path)
    second = wrapped(tmp_path, module=MODULE.replace("x * 1.0", "x * 2.0"))
    assert first.weights.digest != second.weights.digest
    x = torch.ones(1, 5, 4)
    assert second.module.model(x, torch.tensor([5]))["x_again"].mean() == 2.0


def test_two_folders_may_have_modules_of_one_name(tmp_path):
    project(tmp_path / "a")
    project(tmp_path / "b", module=MODULE.replace("* 1.0", "* 3.0"))
    one = wrap(load_pipeline(tmp_path / "a" / "mine.yaml", trust=True))
    two = wrap(load_pipeline(tmp_path / "b" / "mine.yaml", trust=True))
    arguments = torch.ones(1, 5, 4), torch.tensor([5])
    assert one.module.model(*arguments)["x_again"].mean() == 1.0
    assert two.module.model(*arguments)["x_again"].mean() == 3.0


def test_a_module_may_import_its_neighbours(tmp_path):
    (tmp_path / "factor_of_mine.py").write_text("FACTOR = 4.0\n", encoding="utf-8")
    module = "from factor_of_mine import FACTOR\n" + MODULE.replace("x * 1.0", "x * FACTOR")
    found = wrapped(tmp_path, module=module)
    assert found.module.model(torch.ones(1, 5, 4), torch.tensor([5]))["x_again"].mean() == 4.0
    (tmp_path / "factor_of_mine.py").write_text("FACTOR = 55.0\n", encoding="utf-8")
    again = wrapped(tmp_path, module=module)
    assert again.module.model(torch.ones(1, 5, 4), torch.tensor([5]))["x_again"].mean() == 55.0


def test_a_yaml_that_extends_takes_the_folder_of_the_file_that_names_the_factory(tmp_path):
    project(tmp_path / "base")
    child = tmp_path / "elsewhere" / "child.yaml"
    child.parent.mkdir()
    child.write_text("extends: ../base/mine.yaml\nname: child\n", encoding="utf-8")
    assert wrap(load_pipeline(child, trust=True)).outputs[0].name == "y"


# -- cases ---------------------------------------------------------------------------------------


def test_inputs_that_a_case_leaves_out_follow_those_that_it_gives(tmp_path):
    pipeline = load_pipeline(project(tmp_path), trust=True)
    (case,) = load_cases(pipeline, wrap(pipeline).inputs, ["short"])
    assert list(case.inputs) == ["x", "x_lengths"]
    assert case.inputs["x"].shape == (2, 9, 4) and case.inputs["x_lengths"].tolist() == [9, 6]


def test_sizes_that_a_draw_leaves_out_are_the_examples(tmp_path):
    path = project(tmp_path, sizes=", sizes: {batch: 2, frames: 9} => ")
    pipeline = load_pipeline(path, trust=True)
    (case,) = load_cases(pipeline, wrap(pipeline).inputs, ["short"])
    assert case.inputs["x"].shape == (3, 17, 4)


def test_integers_that_nobody_described_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="which integers 'ids' takes"):
        wrapped(tmp_path, ids="  x_lengths: {dtype: int64 =>   ids: {dtype: int64")


def test_integers_are_drawn_as_their_input_says(tmp_path):
    module = MODULE.replace("x_lengths", "ids")
    change = (
        "x_lengths: {dtype: int64 => ids: {draw: {kind: integers, low: 5, high: 7}, dtype: int64"
    )
    found = wrapped(tmp_path, module=module, ids=change)
    assert set(found.example["ids"].tolist()) <= {5, 6}


# -- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_checkpoint_is_loaded_strictly(tmp_path, name):
    first = wrapped(tmp_path)
    state = {
        key: torch.full_like(value, 2) for key, value in first.module.model.state_dict().items()
    }
    save = torch.save if name.endswith(".pt") else save_file
    save(state, tmp_path / name)
    change = f"  settings => \n  weights: {name}\n  settings"
    found = wrapped(tmp_path, weights=change)
    assert found.module.model.conv.weight.unique().tolist() == [2.0]
    assert found.weights.source == str(tmp_path / name)
    del state["norm.bias"]
    save(state, tmp_path / name)
    with pytest.raises(WeightsError, match="missing: norm.bias"):
        wrapped(tmp_path, weights=change)


def test_a_folder_with_two_checkpoints_is_refused(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch.save({"x": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(WeightsError, match="holds 2 checkpoint files"):
        wrapped(tmp_path, weights="  settings => \n  weights: .\n  settings")


# -- whose error ---------------------------------------------------------------------------------


BROKEN = {
    "no such module": (
        {"name": "my_model:build => other_model:build"},
        ConfigError,
        "mine.yaml:3: model.factory: there is no module 'other_model'",
    ),
    "a module that imports what is not there": (
        {"module": "import torch\nimport not_there_at_all\n"},
        ModelError,
        "my_model.py:2: 'my_model' cannot be imported: ModuleNotFoundError",
    ),
    "a syntax error": (
        {"module": "import torch\n\ndef build(:\n"},
        ModelError,
        "my_model.py:3: 'my_model' cannot be imported: SyntaxError",
    ),
    "no such name": (
        {"name": "my_model:build => my_model:bild"},
        ConfigError,
        "'bild' in .*my_model.py does not exist",
    ),
    "not callable": (
        {"name": "my_model:build => my_model:LIMIT", "module": "LIMIT = 3\n"},
        ConfigError,
        "is not callable",
    ),
    "a keyword that it does not take": (
        {"name": "{width: 5} => {wdth: 5}"},
        ModelError,
        "'my_model:build' raises: TypeError: .*wdth",
    ),
    "the factory raises": (
        {
            "module": MODULE.replace(
                "    return Frames", "    raise ValueError('no')\n    return Frames"
            )
        },
        ModelError,
        "my_model.py:23: 'my_model:build' raises: ValueError: no",
    ),
    "no module comes back": (
        {"module": MODULE.replace("return Frames(width, kind)", "return 3")},
        ConfigError,
        "returns a int, not an nn.Module",
    ),
    "forward raises": (
        {"module": MODULE.replace("x.transpose(1, 2)", "x", 1)},
        ModelError,
        r"model.py:13: the model does not run on x \[3, 17, 4\], x_lengths \[3\]: RuntimeError",
    ),
    "fewer results than names": (
        {"kind": "{width: 5} => {kind: tuple}", "out": "best, kept] => best, kept, mean]"},
        ModelError,
        r"returns 3 result\(s\), 'outputs' names 4",
    ),
    "a name that is not among the results": (
        {"out": "kept] => keep]"},
        ConfigError,
        "there is no output 'keep'",
    ),
    "a result that is no tensor": (
        {"module": MODULE.replace('"kept": kept', '"kept": "3"')},
        ModelError,
        "the result 'kept' is a str, not a tensor",
    ),
    "a bfloat16 input": (
        {"kind": "dtype: float32 => dtype: bfloat16"},
        ConfigError,
        "numpy has no bfloat16",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_the_users_model_is_said_with_its_line(tmp_path, name):
    options, kind, said = BROKEN[name]
    path = list(sys.path)
    with pytest.raises(kind, match=said):
        wrapped(tmp_path, **options)
    assert sys.path == path


def test_a_file_named_like_a_module_in_use_is_refused(tmp_path):
    (tmp_path / "random.py").write_text("def build():\n    pass\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'random' is already the name of a module in use"):
        wrapped(tmp_path, name="my_model:build => random:build")
    assert sys.modules["random"] is random


# -- whole runs ----------------------------------------------------------------------------------


def test_a_run_from_the_command_line(tmp_path, capsys):
    path = project(tmp_path)
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(tmp_path / "out")]) == 0
    assert "PASS" in capsys.readouterr().out


def test_a_branch_on_values_stops_the_capture_with_the_users_line(tmp_path, capsys):
    module = MODULE.replace(
        "        kept =", "        if x.sum() > 0:\n            y = y + 1\n        kept ="
    )
    path = project(tmp_path, module=module)
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "my_model.py:16" in said and "stage 'capture'" in said and "Traceback" not in said


def test_a_case_that_the_model_cannot_run_names_the_line(tmp_path, capsys):
    check = "        if x.shape[1] == 9:\n            raise ValueError('nine')\n        best ="
    path = project(tmp_path, module=MODULE.replace("        best =", check))
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "my_model.py:15" in said and "ValueError: nine" in said


def test_a_limit_of_the_model_is_found_and_said(tmp_path, capsys):
    path = project(tmp_path, low="minimum: 3, => minimum: 1,")
    out = tmp_path / "out"
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(out)]) == 0
    capsys.readouterr()
    notes = read_report(out / "report.json").notes
    assert any("takes at least 3 frames" in n and "my_model.py:13" in n for n in notes), notes


def test_a_size_at_which_the_model_itself_gives_nan_is_a_limit_that_is_said(tmp_path):
    """The deviation of one frame is 0 / 0; from two frames on all is well."""
    deviation = "        y = y + x[:, 2:].std(1, keepdim=True).sum()\n        kept ="
    path = project(
        tmp_path,
        module=MODULE.replace("        kept =", deviation),
        low="minimum: 3, => minimum: 1,",
    )
    out = tmp_path / "out"
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(out)]) == 0
    notes = read_report(out / "report.json").notes
    assert any("takes at least 4 frames" in n and "holds NaN" in n for n in notes), notes


def test_nan_at_larger_sizes_is_a_failure_and_no_limit(tmp_path):
    overflow = "        y = y + torch.log(torch.tensor(11.5) - x.shape[1])\n        kept ="
    path = project(tmp_path, module=MODULE.replace("        kept =", overflow))
    out = tmp_path / "out"
    cli.main(["run", str(path), "--trust", "--output-dir", str(out)])
    assert not any("holds NaN" in note for note in read_report(out / "report.json").notes)


def test_nan_at_every_size_is_no_limit(tmp_path):
    module = MODULE.replace("        kept =", "        y = y + float('nan')\n        kept =")
    path = project(tmp_path, module=module)
    out = tmp_path / "out"
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(out)]) == 1
    assert not any("found in the model" in note for note in read_report(out / "report.json").notes)


def test_a_case_outside_of_a_limit_that_was_found_is_refused_with_it(tmp_path, capsys):
    path = project(
        tmp_path,
        low="minimum: 3, => minimum: 1,",
        size="batch: 2, frames: 9 => batch: 2, frames: 2",
    )
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "'x' has 2 frames; what is exported takes 3 or more, as was found in the model" in said


def test_limits_are_not_made_up_for_a_model_that_takes_multiples(tmp_path):
    check = "        if x.shape[1] % 4 != 1:\n            raise ValueError('4')\n        best ="
    found = wrapped(
        tmp_path,
        module=MODULE.replace("        best =", check),
        low="minimum: 3, => minimum: 3, maximum: 21,",
    )
    (axis,) = (axis for axis in found.inputs[0].axes if axis.name == "frames")
    assert (axis.minimum, axis.maximum) == (3, 21)


UNREAD = MODULE.replace("(x_lengths - 3) // 2 + 1", "x.new_zeros(len(x_lengths), dtype=int)")


def test_an_input_that_the_model_never_reads_is_said_and_not_refused(tmp_path):
    found = wrapped(tmp_path, module=UNREAD)
    assert {spec.name: spec.idle for spec in found.inputs} == {"x": False, "x_lengths": True}
    assert "the model does not read its input 'x_lengths'" in found.notes


def test_an_input_that_is_read_or_returned_is_not_idle(tmp_path):
    assert not any(spec.idle for spec in wrapped(tmp_path).inputs)
    module = MODULE.replace("(x_lengths - 3) // 2 + 1", "x_lengths")
    assert not any(spec.idle for spec in wrapped(tmp_path / "2", module=module).inputs)
    module = MODULE.replace("(x_lengths - 3) // 2 + 1", "y.new_tensor([x_lengths.sum().item()])")
    assert not any(spec.idle for spec in wrapped(tmp_path / "3", module=module).inputs)


@pytest.mark.parametrize(
    ("x", "lengths", "axis"),
    [("x", "x_lengths", "frames"), ("x", "lengths", "frames"), ("words", "word_lengths", "frames")],
)
def test_lengths_are_of_the_input_that_they_are_named_after(tmp_path, x, lengths, axis):
    text = YAML.replace("x_lengths:", f"{lengths}:").replace("  x: {dty", f"  {x}: {{dty")
    pipeline = load_pipeline(project(tmp_path, yaml=text.replace("{x: {kind", f"{{{x}: {{kind")))
    assert length_axis(pipeline, lengths) == axis


def test_every_size_of_an_axis_of_multiples_is_one(tmp_path):
    text = YAML.replace("minimum: 3, example: 17", "multiple_of: 4").replace(
        "frames: 9", "frames: 12"
    )
    found = wrapped(tmp_path, yaml=text)
    assert found.sizes["frames"] % 4 == 0
    pipeline = load_pipeline(tmp_path / "mine.yaml", trust=True)
    assert load_cases(pipeline, found.inputs, ["short"])[0].inputs["x"].shape == (2, 12, 4)
    pipeline = load_pipeline(project(tmp_path, yaml=text.replace("frames: 12", "frames: 10")))
    with pytest.raises(ConfigError, match="multiples of 4"):
        load_cases(pipeline, found.inputs, ["short"])


@pytest.mark.parametrize("wrong", ["example: 18", "maximum: 3"])
def test_a_limit_that_no_multiple_keeps_is_refused(tmp_path, wrong):
    text = YAML.replace("minimum: 3, example: 17", f"multiple_of: 4, {wrong}")
    with pytest.raises(ConfigError, match="multiple of 4"):
        load_pipeline(project(tmp_path, yaml=text))


METHODS = """\
import torch
from torch import nn


class Codec(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 3)

    def forward(self, x):
        raise RuntimeError("only its methods are called")

    def encode(self, x, x_lengths):
        kept = torch.arange(x.shape[1])[None] < x_lengths[:, None]
        return self.mix(x) * kept[..., None]
"""
ENCODE = YAML.replace("my_model:build\n  settings: {width: 5}", "my_model:Codec\n  method: encode")


def test_another_method_than_forward_is_exported(tmp_path):
    text = ENCODE.replace("[y, best, kept]", "[y]")
    path = project(tmp_path, module=METHODS, yaml=text)
    assert cli.main(["run", str(path), "--trust", "--output-dir", str(tmp_path / "out")]) == 0
    report = read_report(tmp_path / "out" / "report.json")
    assert report.verdict == "pass" and report.outputs


def test_a_method_that_is_not_there_is_the_yamls_mistake(tmp_path):
    text = ENCODE.replace("method: encode", "method: enocde")
    with pytest.raises(ConfigError, match=r"model.method.*has no method 'enocde'"):
        wrapped(tmp_path, module=METHODS, yaml=text)
    text = "name: mine\nmodel: {kind: silero_vad, method: encode}\n"
    with pytest.raises(ConfigError, match="of your own"):
        load_pipeline(project(tmp_path, yaml=text))
