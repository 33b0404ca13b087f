"""What a file is known by, and which files there are: what changed never takes an old verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import cli
from exporter.matrix import jobs
from exporter.matrix.jobs import variant_job
from exporter.matrix.load import load_matrix
from exporter.matrix.schema import release_key
from tests.matrix import toy

HEAD = "name: m\npipelines: [made.yaml]\n"


def job(folder: Path, text: str = toy.TEXT, weights: str = "seeded"):
    """The first file of a matrix whose pipeline has these weights."""
    toy.matrix(folder)
    yaml = folder / "made.yaml"
    yaml.write_text(
        yaml.read_text().replace(
            "{kind: sensevoice}", f"{{kind: sensevoice, weights: '{weights}'}}"
        )
    )
    (folder / "toy.yaml").write_text(text)
    held = load_matrix(folder / "toy.yaml")
    return variant_job(held, next(held.space.cells()), trust=False)


def test_a_checkpoint_is_known_by_its_content_and_not_by_its_path(tmp_path: Path):
    folder = tmp_path / "checkpoint"
    (folder / "inside").mkdir(parents=True)
    (folder / "config.yaml").write_text("a: 1\n")
    (folder / "inside" / "model.pt").write_bytes(b"one")
    first = job(tmp_path, weights="checkpoint")
    assert first.kept and job(tmp_path, weights="checkpoint").name == first.name
    names = {first.name}
    (folder / "inside" / "model.pt").write_bytes(b"two")
    names.add(job(tmp_path, weights="checkpoint").name)
    (folder / "inside" / "model.pt").rename(folder / "model.pt")
    names.add(job(tmp_path, weights="checkpoint").name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"linked")
    (folder / "model.pt").unlink()
    (folder / "model.pt").symlink_to(elsewhere)
    names.add(job(tmp_path, weights="checkpoint").name)
    elsewhere.write_bytes(b"linked anew")
    names.add(job(tmp_path, weights="checkpoint").name)
    assert len(names) == 5


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ("seeded", True),
        ("hub:ORG/NAME@" + "3" * 40, True),
        ("hub:ORG/NAME@main", False),
        ("hub:ORG/NAME@3eb3b4e", False),
        ("not_there", False),
    ],
)
def test_weights_that_may_be_others_tomorrow_are_read_anew(weights: str, kept: bool, tmp_path):
    assert job(tmp_path, weights=weights).kept is kept


def test_weights_on_an_axis_are_found_from_the_matrix_and_known_by_content(tmp_path: Path):
    (tmp_path / "one.pt").write_bytes(b"one")
    text = HEAD + "axes: {set: {model.weights: [one.pt]}}\n"
    first = job(tmp_path, text)
    assert first.said["yaml"]["model"]["weights"] == str(tmp_path / "one.pt")
    (tmp_path / "one.pt").write_bytes(b"two")
    assert job(tmp_path, text).name != first.name
    recorded = job(tmp_path, HEAD)
    yaml = tmp_path / "made.yaml"
    yaml.write_text(yaml.read_text().replace("seed: 2", "seed: 3"))
    held = load_matrix(tmp_path / "toy.yaml")
    assert variant_job(held, next(held.space.cells()), trust=False).name != recorded.name


def test_all_of_the_code_that_judges_is_in_the_names():
    """A report's verdict decides whether a file was made."""
    assert not jobs._SHOWS & {"report", "golden", "flows", "parity", "cache"}
    beside = {path.name for path in Path(jobs.__file__).parent.glob("*.py")}
    shows_or_plans = {"cells", "covering", "engine", "explain", "load", "report", "run", "schema"}
    assert beside - set(jobs._DECIDES) == {"__init__.py", *(f"{n}.py" for n in shows_or_plans)}


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ("{set: {model.factory: ['mine:build']}}", "'model.factory' is no axis"),
        ("{set: {model.onnx: ['a.onnx']}}", "'model.onnx' is no axis"),
        ("{set: {contracts.causality: [false]}}", "'contracts.causality' is no axis"),
        ("{set: {deploy.threads: [1]}}", "use 'provider', 'level' and 'threads'"),
        ("{set: {cases.one: [1]}}", "use the axis 'case' or 'length'"),
        ("{opset: [18], set: {export.opset: [18, 20]}}", "are one axis"),
        ("{set: {export.opsett: [18]}}", "toy.yaml:3: export.opsett"),
        ("{set: {export.opset: [18, 99]}}", "toy.yaml:3: export.opset"),
        ("{set: {model.weights.deeper: [1]}}", "toy.yaml:3: model.weights"),
        ("{precision: [float31]}", "toy.yaml:3"),
        ("{onnxruntime: [1.30.0, '1.30']}", "1.30 and 1.30.0 are one release"),
        ("{onnxruntime: {values: [1.30.0], between: [1.30.0]}}", "is here twice"),
        ("{onnxruntime: [1.30.0foo]}", "'1.30.0foo' is no release"),
        ("{onnxruntime: ['1.2*']}", "toy.yaml:3"),
    ],
)
def test_what_is_no_axis_is_told_before_anything_runs(axes: str, said: str, tmp_path, capsys):
    toy.matrix(tmp_path)
    (tmp_path / "toy.yaml").write_text(f"{HEAD}axes: {axes}\n")
    assert cli.main(["matrix", str(tmp_path / "toy.yaml"), "--github"]) == 2
    told = capsys.readouterr().err
    assert said in told, told


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (
            "axes: {threads: [1, 2]}\nconstraints: [{when: {threads: 2}, never: true}]\n",
            "'2' stands in no cell",
        ),
        (
            "axes: {onnxruntime: [1.29.0, 1.30.0]}\n"
            "constraints: [{when: {onnxruntime: '1.28*'}, never: true}]\n",
            "no value of 'onnxruntime' is '1.28*'",
        ),
        (
            "axes: {level: [all, basic]}\nresources: [{when: {level: alll}, needs: {gpu: 1}}]\n",
            "resources[0].when.level",
        ),
    ],
)
def test_a_constraint_that_does_other_than_it_looks_is_told(rest: str, said: str, tmp_path, capsys):
    toy.matrix(tmp_path)
    (tmp_path / "toy.yaml").write_text(HEAD + rest)
    assert cli.main(["matrix", str(tmp_path / "toy.yaml"), "--github"]) == 2
    assert said in capsys.readouterr().err


def test_a_pipeline_of_which_no_case_is_asked_is_no_part_that_is_green(tmp_path: Path, capsys):
    toy.matrix(tmp_path)
    other = (tmp_path / "made.yaml").read_text().replace("name: made", "name: other")
    (tmp_path / "other.yaml").write_text(other.replace("name: one", "name: only").replace(
        "default_case: one", "default_case: only"
    ))  # fmt: skip
    text = "name: m\npipelines: [made.yaml, other.yaml]\naxes: {case: [one]}\n"
    (tmp_path / "toy.yaml").write_text(text)
    assert cli.main(["matrix", str(tmp_path / "toy.yaml"), "--github"]) == 2
    assert "'other' stands in no cell" in capsys.readouterr().err
    (tmp_path / "toy.yaml").write_text(text.replace("[one]", "[one, only]"))
    assert cli.main(["matrix", str(tmp_path / "toy.yaml"), "--github"]) == 0


def test_seeds_of_weights_that_are_not_seeded_are_no_axis(tmp_path: Path, capsys):
    toy.matrix(tmp_path)
    yaml = tmp_path / "made.yaml"
    held = yaml.read_text()
    (tmp_path / "toy.yaml").write_text(HEAD + "axes: {seed: [1, 2]}\n")
    assert cli.main(["matrix", str(tmp_path / "toy.yaml"), "--github"]) == 0
    yaml.write_text(held.replace("{kind: sensevoice}", "{kind: sensevoice, weights: there.pt}"))
    assert cli.main(["matrix", str(tmp_path / "toy.yaml"), "--github"]) == 2
    assert "a seed changes nothing there" in capsys.readouterr().err


@pytest.mark.parametrize("inherited", [False, True])
def test_nobodys_code_runs_without_trust(inherited: bool, tmp_path: Path, capsys):
    """Neither of a pipeline, nor of one that it extends, when a matrix is read, planned or run."""
    toy.matrix(tmp_path)
    mark = tmp_path / "it_ran"
    (tmp_path / "mine.py").write_text(f"open({str(mark)!r}, 'w')\n")
    own = "name: own\nmodel: {factory: 'mine:build'}\noutputs: [y]\n"
    own += "inputs: {x: {dtype: float32, shape: [2, 4]}}\n"
    own += "cases: [{name: one, random: {x: {kind: normal}}}]\ndefault_case: one\n"
    (tmp_path / "own.yaml").write_text(own)
    if inherited:
        (tmp_path / "own.yaml").rename(tmp_path / "base.yaml")
        (tmp_path / "own.yaml").write_text("extends: base.yaml\nname: own\n")
    (tmp_path / "toy.yaml").write_text("name: m\npipelines: [own.yaml]\naxes: {opset: [18, 20]}\n")
    for words in (["--github"], ["--shard", "1/1"], []):
        assert cli.main(["matrix", str(tmp_path / "toy.yaml"), *words]) == 2
        assert "add --trust" in capsys.readouterr().err
    # With trust its files are made by every start anew.
    held = load_matrix(tmp_path / "toy.yaml", trust=True)
    assert not variant_job(held, next(held.space.cells()), trust=True).kept
    assert not mark.exists()


def test_releases_are_in_the_order_of_pep_440():
    order = (
        "1.9.0 1.30.0.dev20250101 1.30.0a1 1.30.0rc1 1.30.0rc2 1.30.0 1.30.0+cu12 1.30.0.post1"
        " 1.30.1.dev1 1.30.1 1.31 2.0.0rc1 2.0.0"
    ).split()
    by_letter = sorted(order)
    assert by_letter != order and sorted(by_letter, key=release_key) == order
    assert release_key("1.30") == release_key("1.30.0")
