"""``inspect --verify-signature``: exit 0 only for these very files, signed by who may."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.cli import main
from exporter.graph.certificate import certify
from tests.support.files import write_model
from tests.test_inspect import FACTS

KEYGEN = shutil.which("ssh-keygen") or "ssh-keygen (scripts/install-system-packages)"
PAYLOAD = "export-verify digests 1"


def _key(folder: Path, name: str) -> Path:
    path = folder / name
    command = [KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(command, check=True)
    return path


def _model() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4096])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4096])
    weight = numpy_helper.from_array(np.arange(4096, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [out])
    graph.initializer.append(weight)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


class Signed:
    """A certified file whose weights lie beside it, two keys, and a list with the first."""

    def __init__(self, folder: Path):
        self.folder = folder
        artifact = write_model(_model(), folder / "model.onnx", external_data=True, metadata={})
        certify(artifact, FACTS)
        self.path = folder / "model.onnx"
        self.data = folder / "model.onnx.data"
        self.key, self.other = _key(folder, "release"), _key(folder, "stranger")
        self.allowed = folder / "allowed_signers"
        self.allowed.write_text(f"release@example.org {self.key.with_suffix('.pub').read_text()}")

    def sign(self, capsys: pytest.CaptureFixture[str], key: Path, path: Path | None = None) -> None:
        assert main(["inspect", str(path or self.path), "--digests"]) == 0
        text = capsys.readouterr().out
        command = [KEYGEN, "-Y", "sign", "-f", str(key), "-n", "export-verify"]
        made = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
        (self.folder / "model.onnx.sig").write_bytes(made.stdout)

    def verify(self, *more: str) -> int:
        words = ["--verify-signature", "--allowed-signers", str(self.allowed), *more]
        return main(["inspect", str(self.path), *words])


@pytest.fixture
def signed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Signed:
    made = Signed(tmp_path)
    made.sign(capsys, made.key)
    return made


def test_a_good_signature(signed: Signed, capsys: pytest.CaptureFixture[str]):
    assert signed.verify() == 0
    assert "signed by release@example.org: Good" in capsys.readouterr().out
    assert signed.verify("--signer", "release@example.org", "--quiet") == 0
    capsys.readouterr()
    assert signed.verify("--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["signature"]["good"] is True


def test_what_is_signed_is_text_that_can_be_made_by_hand(
    signed: Signed, capsys: pytest.CaptureFixture[str]
):
    import hashlib

    main(["inspect", str(signed.path), "--digests"])
    model, data = (hashlib.sha256(p.read_bytes()).hexdigest() for p in (signed.path, signed.data))
    assert capsys.readouterr().out == (
        f'{PAYLOAD}\nmodel {model}\nexternal {data} "model.onnx.data"\n'
    )


def test_a_file_that_was_renamed_is_the_same_file(signed: Signed):
    moved = signed.path.rename(signed.folder / "released.onnx")
    (signed.folder / "model.onnx.sig").rename(signed.folder / "released.onnx.sig")
    signed.path = moved
    assert signed.verify() == 0


@pytest.mark.parametrize(
    "how", ["weights", "model", "none", "key", "other file", "namespace", "damaged", "signer"]
)
def test_everything_else_is_exit_1(
    signed: Signed, capsys: pytest.CaptureFixture[str], how: str, tmp_path: Path
):
    more: list[str] = []
    signature = signed.folder / "model.onnx.sig"
    if how == "weights":
        _flip(signed.data, 0)
    elif how == "model":  # resealed: only the signature can tell
        text = {**FACTS, "headline": "all 6 links agree"}
        again = write_model(_model(), signed.path, external_data=True, metadata={})
        certify(again, text)
        assert main(["inspect", str(signed.path)]) == 0
    elif how == "none":
        signature.unlink()
    elif how == "key":
        signed.sign(capsys, signed.other)
    elif how == "other file":
        folder = tmp_path / "other"
        folder.mkdir()
        other = write_model(_model(), folder / "model.onnx", external_data=False, metadata={})
        signed.sign(capsys, signed.key, other.path)
    elif how == "namespace":
        main(["inspect", str(signed.path), "--digests"])
        command = [KEYGEN, "-Y", "sign", "-f", str(signed.key), "-n", "git"]
        text = capsys.readouterr().out.encode()
        made = subprocess.run(command, input=text, capture_output=True, check=True)
        signature.write_bytes(made.stdout)
    elif how == "damaged":
        signature.write_text("no signature")
    else:
        more = ["--signer", "somebody@else.org"]
    capsys.readouterr()
    assert signed.verify(*more) == 1
    said = capsys.readouterr().out
    assert "NOT SIGNED" in said and "  signed by" not in said


def test_a_signature_does_not_make_a_failing_verdict_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = Signed(tmp_path)
    again = write_model(_model(), made.path, external_data=True, metadata={})
    certify(again, {**FACTS, "verdict": "fail"})
    made.sign(capsys, made.key)
    assert made.verify() == 1


@pytest.mark.parametrize("how", ["no list", "pipe", "no tool", "no option", "option alone"])
def test_what_is_missing_to_check_is_exit_2(
    signed: Signed,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
):
    if how == "no list":
        signed.allowed.unlink()
    elif how == "pipe":
        signed.allowed.unlink()
        os.mkfifo(signed.allowed)
    elif how == "no tool":
        monkeypatch.setenv("PATH", str(signed.folder))
    elif how == "no option":
        assert main(["inspect", str(signed.path), "--verify-signature"]) == 2
        return
    else:
        assert main(["inspect", str(signed.path), "--signer", "x"]) == 2
        return
    assert signed.verify() == 2
    assert "error: " in capsys.readouterr().err


def test_weights_of_constants_are_covered(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = _model()
    held = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4096])
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="constant.bin")
    (tmp_path / "constant.bin").write_bytes(bytes(4 * 4096))
    node = helper.make_node("Constant", [], ["c"], value=held)
    model.graph.node.insert(0, node)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert main(["inspect", str(path), "--digests"]) == 0
    assert '"constant.bin"' in capsys.readouterr().out
    held.external_data[0].value = "../constant.bin"
    node.attribute[0].t.CopyFrom(held)
    model.graph.node[0].CopyFrom(node)
    path.write_bytes(model.SerializeToString())
    assert main(["inspect", str(path)]) == 2
    assert "outside" in capsys.readouterr().err


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
