"""What was proved at the lengths is leaned on only where everything is as it was, and is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exporter.cache.place import FOLDER_VARIABLE
from tests.support.cached_project import MODULE, YAML, run_cached, write

SIZED = {"noise@3", "noise@50"}
FRONT = {"eager -> captured", "captured -> exported", "exported -> simplified"}
SHIPPED = "simplified -> cpu/all/1 thread(s)"


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    """The cache of a run that has proved its lengths."""
    folder = tmp_path_factory.mktemp("proved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder / "cache"))
        report = run_cached(write(folder / "toy"), folder / "out")
    assert cases_of(report) == {key: {"noise", *SIZED} for key in (*FRONT, SHIPPED)}
    assert proofs(folder / "cache") and not notes(report)
    return folder / "cache"


@pytest.fixture
def cache(proved, tmp_path, monkeypatch):
    shutil.copytree(proved, tmp_path / "cache")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def cases_of(report):
    links = dict.fromkeys(held.link for held in report.outputs)
    return {link: {o.case for o in report.outputs if o.link == link} for link in links}


def proofs(cache: Path):
    return list(cache.glob("entries/*/proofs/*.json"))


def notes(report):
    return [note for note in report.notes if "not run again" in note]


def test_a_second_run_leans_on_the_proof_and_says_so(cache, tmp_path):
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert report.exit_code == 0
    # Cases are run at every link, and the shipped file at every length.
    assert cases_of(report) == {**{key: {"noise"} for key in FRONT}, SHIPPED: {"noise", *SIZED}}
    (note,) = notes(report)
    assert all(text in note for text in (*SIZED, *FRONT))
    assert proofs(cache)[0].stem[:12] in note
    for link in report.links:
        assert ("2 lengths proved" in link.reason) == (link.name in FRONT)
    assert any("not run again" in text for text in report.not_checked)


CHANGED = {
    "a stricter limit": {"yaml": YAML + "parity: {factor: 3.5}\n"},
    "other values": {"yaml": YAML.replace("seed: 1", "seed: 2")},
    "another length": {"yaml": YAML.replace("[3, 50]", "[3, 51]")},
    "another export": {"yaml": YAML.replace("width: 8", "width: 9")},
    "other code": {"module": MODULE.replace("torch.relu", "torch.tanh")},
}


@pytest.mark.parametrize("what", CHANGED)
def test_with_anything_else_everything_is_run_again(cache, tmp_path, what):
    report = run_cached(write(tmp_path / "toy", **CHANGED[what]), tmp_path / "out")
    assert not notes(report)
    assert all(SIZED & cases or {"noise@51"} & cases for cases in cases_of(report).values())
    assert len(proofs(cache)) == 2


def test_a_branch_that_one_length_alone_takes_is_taken_again(cache, tmp_path):
    # 63.1 at 50 frames, and nothing of the kind at others.
    asked = "(x.abs().sum() > 62) & (x.abs().sum() < 64)"
    branch = f"        y = torch.cond({asked}, torch.tanh, torch.sin, (y,))\n"
    module = MODULE.replace("        return", f"{branch}        return", 1)
    for _ in range(2):
        report = run_cached(write(tmp_path / "toy", module=module), tmp_path / "out")
        assert (report.verdict, report.checks) == ("pass", [])


def test_another_number_of_threads_is_another_proof(cache, tmp_path):
    from exporter.config import load_pipeline
    from exporter.flows.run import run
    from tests.support.stages import Silent

    pipeline = load_pipeline(write(tmp_path / "toy"), trust=True)
    report = run(pipeline, output_dir=tmp_path / "out", progress=Silent(), threads=2, trust=True)
    assert report.cache is not None and report.cache.state == "taken"
    assert not notes(report)


def test_an_edited_proof_is_not_believed(cache, tmp_path):
    (path,) = proofs(cache)
    path.write_text(path.read_text().replace('"made": "2', '"made": "1'))
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert not notes(report)
    assert cases_of(report)["eager -> captured"] == {"noise", *SIZED}
    assert notes(run_cached(write(tmp_path / "toy"), tmp_path / "out"))


def test_a_proof_under_another_name_is_not_believed(cache, tmp_path):
    (path,) = proofs(cache)
    yaml = YAML + "parity: {factor: 3.5}\n"
    run_cached(write(tmp_path / "toy", yaml=yaml), tmp_path / "out")
    (other,) = set(proofs(cache)) - {path}
    shutil.copy(path, other)
    assert not notes(run_cached(write(tmp_path / "toy", yaml=yaml), tmp_path / "out"))


def test_what_did_not_pass_is_no_proof(tmp_path, monkeypatch):
    import exporter.judge.file_runs as file_runs
    from exporter.execution.onnx_runs import FileRun

    class Wrong(FileRun):
        def run(self, inputs):
            found = super().run(inputs)
            sized = inputs["x"].shape[-1] == 50
            return {k: v * (1.5 if sized else 1.0) for k, v in found.items()}

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(file_runs, "FileRun", Wrong)
        assert run_cached(write(tmp_path / "toy"), tmp_path / "out").exit_code == 1
    assert proofs(tmp_path / "cache") == []
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert report.exit_code == 0 and not notes(report)
    assert report.cache is not None and report.cache.state == "taken"


def test_a_shipped_file_that_goes_wrong_at_a_length_is_still_found(cache, tmp_path, monkeypatch):
    import exporter.judge.file_runs as file_runs
    from exporter.execution.onnx_runs import FileRun

    class Wrong(FileRun):
        def run(self, inputs):
            found = super().run(inputs)
            wrong = inputs["x"].shape[-1] == 50 and self.deployment.level == "all"
            return {k: v * (1.5 if wrong else 1.0) for k, v in found.items()}

    monkeypatch.setattr(file_runs, "FileRun", Wrong)
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert notes(report) and report.exit_code == 1
    assert report.link(SHIPPED).verdict == "fail"


def sizes_run_by_pytorch(monkeypatch):
    """The sizes of x that PyTorch runs on, as they come."""
    import exporter.judge.case_run as case_run
    import exporter.judge.chain as chain
    from exporter.judge.sweep import Swept

    sizes = []
    real = case_run.find_truth

    def watched(module, program, specs, inputs, wide=None):
        sizes.append(inputs["x"].shape[-1])
        return real(module, program, specs, inputs, wide)

    monkeypatch.setattr(case_run, "find_truth", watched)
    monkeypatch.setattr(chain.Chain, "_sweep", lambda self: Swept())  # sizes of its own choice
    return sizes


def test_pytorch_is_not_run_again_at_a_proved_length(cache, tmp_path, monkeypatch):
    sizes = sizes_run_by_pytorch(monkeypatch)
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert sizes == [40]  # the case
    assert "PyTorch's values, which the shipped file is held against, are from there" in "".join(
        notes(report)
    )
    proved_again = {(o.case, o.name): o.model_dump() for o in report.outputs if o.link == SHIPPED}
    (path,) = proofs(cache)
    path.unlink()
    anew = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert sizes == [40, 40, 3, 50]
    # Every figure of the shipped file is what it is when PyTorch runs beside it, bit by bit.
    again = {(o.case, o.name): o.model_dump() for o in anew.outputs if o.link == SHIPPED}
    assert again == proved_again


def test_the_shipped_file_is_held_against_what_pytorch_gave(cache, tmp_path):
    """Other values of PyTorch than those that were kept: the file must fail against them."""
    from exporter.cache.arrays_as_text import packed, unpacked
    from exporter.cache.entry import sealed, unsealed

    (path,) = proofs(cache)
    content = {k: v for k, v in unsealed(path.read_text()).items() if k != "seal"}
    moved = [unpacked(part) for part in content["values"]["noise@50"]]
    content["values"]["noise@50"] = [
        packed({name: value * 1.5 for name, value in part.items()}, 1 << 20) for part in moved
    ]
    path.write_text(sealed(content))
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert report.link(SHIPPED).verdict == "fail"


def test_values_that_are_too_large_are_made_again(cache, tmp_path, monkeypatch):
    import exporter.judge.length_proofs as length_proofs

    monkeypatch.setattr(length_proofs, "_LARGEST", 100)
    (path,) = proofs(cache)
    path.unlink()
    run_cached(write(tmp_path / "toy"), tmp_path / "out")
    sizes = sizes_run_by_pytorch(monkeypatch)
    report = run_cached(write(tmp_path / "toy"), tmp_path / "out")
    assert sizes == [40, 50]
    (note,) = notes(report)
    assert "PyTorch's values of noise@3, which" in note
