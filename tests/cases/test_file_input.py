"""A case's input out of a file: right values in, and nothing of the file runs or is guessed."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from exporter.cases.array_file import read_array
from exporter.cases.load import load_cases
from exporter.config import load_pipeline
from exporter.core.errors import EXIT_USER_INPUT, UserInputError, exit_code
from exporter.core.tensors import Axis, TensorSpec

FEATURES = np.linspace(-16, 4, 6 * 5, dtype=np.float32).reshape(6, 5)
T = Axis(name="frames")
BATCH = Axis(name="batch")
YAML = """
name: files
model: {factory: "m:build"}
inputs: {features: {dtype: float32, shape: [batch, frames, 5]}}
outputs: [y]
cases: [{name: theirs, inputs: {features: GIVEN}}]
default_case: theirs
"""


def loaded(folder: Path, given: str, spec: TensorSpec | None = None):
    file = folder / "p.yaml"
    file.write_text(YAML.replace("GIVEN", given))
    spec = spec or TensorSpec.of("features", "float32", BATCH, T, 5)
    return load_cases(load_pipeline(file), (spec,), ["theirs"])[0]


def refused(path: Path, key: str | None = None) -> str:
    with pytest.raises(UserInputError) as caught:
        read_array(path, key)
    assert exit_code(caught.value) == EXIT_USER_INPUT
    assert caught.value.where == str(path)
    assert caught.value.remedy
    return caught.value.problem


def written(folder: Path) -> dict[str, tuple[Path, str | None]]:
    """The same features in every kind of file."""
    np.save(folder / "a.npy", FEATURES)
    np.save(folder / "columns.npy", np.asfortranarray(FEATURES))
    np.savez(folder / "two.npz", speech=FEATURES, other=np.zeros(3))
    np.savez_compressed(folder / "one.npz", speech=FEATURES)
    save_file({"speech": FEATURES, "other": np.zeros(3)}, folder / "a.safetensors")
    held = {"first": np.ones((2, 3), np.float32), "speech": FEATURES}
    kaldiio.save_ark(str(folder / "a.ark"), held)
    kaldiio.save_ark(str(folder / "text.ark"), held, text=True)
    kaldiio.save_ark(str(folder / "double.ark"), {"speech": FEATURES.astype(np.float64)})
    return {
        "npy": (folder / "a.npy", None),
        "columns": (folder / "columns.npy", None),
        "npz": (folder / "two.npz", "speech"),
        "one": (folder / "one.npz", None),
        "safetensors": (folder / "a.safetensors", "speech"),
        "ark": (folder / "a.ark", "speech"),
        "text": (folder / "text.ark", "speech"),
        "double": (folder / "double.ark", None),
    }


def test_every_kind_of_file_holds_the_same(tmp_path):
    for kind, (path, key) in written(tmp_path).items():
        near = 1e-5 if kind == "text" else 0  # as many digits as Kaldi writes
        np.testing.assert_allclose(read_array(path, key), FEATURES, atol=near, err_msg=kind)


@pytest.mark.parametrize(("method", "near"), [(2, 0.2), (3, 1e-3), (5, 0.1)])
def test_a_compressed_matrix_is_read(tmp_path, method, near):
    features = np.tile(FEATURES, (4, 1))
    kaldiio.save_ark(
        str(tmp_path / "a.ark"), {"a": features, "b": FEATURES}, compression_method=method
    )
    np.testing.assert_allclose(read_array(tmp_path / "a.ark", "a"), features, atol=near)
    assert read_array(tmp_path / "a.ark", "b").shape == FEATURES.shape


def test_an_integer_vector_is_read(tmp_path):
    kaldiio.save_ark(str(tmp_path / "a.ark"), {"a": np.array([3, -1, 7], np.int32)})
    assert read_array(tmp_path / "a.ark", "a").tolist() == [3, -1, 7]


def test_a_case_takes_it_and_says_its_digest(tmp_path):
    written(tmp_path)
    case = loaded(tmp_path, "{file: a.ark, key: speech}")
    assert case.inputs["features"].shape == (1, 6, 5)
    assert (case.inputs["features"][0] == FEATURES).all()
    assert case.origin.startswith("features: a.ark[speech] sha256:")


def test_the_digest_of_a_pipeline_follows_the_bytes_and_not_the_name(tmp_path):
    def digest() -> str:
        return load_pipeline(tmp_path / "p.yaml").digest

    np.save(tmp_path / "a.npy", FEATURES)
    loaded(tmp_path, "{file: a.npy}")
    first = digest()
    np.save(tmp_path / "b.npy", FEATURES)
    loaded(tmp_path, "{file: b.npy}")
    assert digest() == first
    np.save(tmp_path / "b.npy", FEATURES + 1)
    assert digest() != first


def test_a_recording_goes_into_any_input_of_samples(tmp_path):
    samples = np.linspace(-0.5, 0.5, 400, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    spec = TensorSpec.of("features", "float32", BATCH, T)
    case = loaded(tmp_path, "{file: a.wav}", spec)
    assert (case.inputs["features"] == samples[None]).all()
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(UserInputError, match="sampled at 8000 Hz"):
        loaded(tmp_path, "{file: a.wav}", spec)
    with pytest.raises(UserInputError, match="cannot take a recording"):
        loaded(tmp_path, "{file: a.wav}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{file: absent.npy}", "there is no file 'absent.npy'"),
        ("{file: two.npz}", "name one by its key: speech, other"),
        ("{file: two.npz, key: speach}", "holds no array 'speach'"),
        ("{file: a.npy, key: speech}", "has no keys"),
        ("{fil: a.npy}", "fil"),
        ("{file: nan.npy}", "1 of 30 values are NaN"),
        ("{file: large.npy}", "no float32 can hold"),
        ("{file: flat.npy}", "has shape \\[30\\]"),
        ("{file: four.npy}", "has 4 elements and 5 in its input"),
        ("{file: a.csv}", "'.csv' is no ending"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, given, said):
    written(tmp_path)
    bad = FEATURES.copy()
    bad[2, 3] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    np.save(tmp_path / "large.npy", FEATURES.astype(np.float64) * 1e300)
    np.save(tmp_path / "flat.npy", FEATURES.ravel())
    np.save(tmp_path / "four.npy", FEATURES[:, :4])
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(UserInputError, match=said):
        loaded(tmp_path, given)


def test_integers_take_whole_numbers_alone(tmp_path):
    spec = TensorSpec.of("features", "int64", T)
    np.save(tmp_path / "a.npy", np.array([1.0, 2.0]))
    assert loaded(tmp_path, "{file: a.npy}", spec).inputs["features"].tolist() == [1, 2]
    np.save(tmp_path / "a.npy", np.array([1.0, 2.5]))
    with pytest.raises(UserInputError, match="no int64 can hold"):
        loaded(tmp_path, "{file: a.npy}", spec)


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("kind", ["npy", "npz", "PKL", "NPY", "pipe", "scp"])
def test_nothing_in_a_file_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    objects = np.empty(1, object)
    objects[0] = Bomb()
    held = io.BytesIO()
    np.save(held, objects, allow_pickle=True)
    path = tmp_path / "a.ark"
    if kind == "npy":
        path = tmp_path / "a.npy"
        path.write_bytes(held.getvalue())
    elif kind == "npz":
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("speech.npy", held.getvalue())
    elif kind == "PKL":
        path.write_bytes(b"speech PKL" + pickle.dumps(Bomb()))
    elif kind == "NPY":
        size = len(held.getvalue()).to_bytes(2, "little")
        path.write_bytes(b"speech NPY\x02" + size + held.getvalue())
    elif kind == "scp":
        path = tmp_path / "a.scp"
        path.write_text("speech mkdir ran |\n")
    else:
        path = tmp_path / "mkdir ran |"
        path.write_bytes(b"x")
    refused(path, None if kind in ("npy", "pipe", "scp") else "speech")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"speech",
        b"speech \0BFM \x04\xff\xff\xff\x7f\x04\xff\xff\xff\x7f",
        b"speech \0BFM \x04\xff\xff\xff\xff\x04\x01\x00\x00\x00",
        b"speech \0BCM " + struct.pack("<ffii", 0, 1, 1 << 30, 1 << 30),
        b"speech \0B\x04\xff\xff\xff\x7f",
        b"speech \0BFM \x04",
        b"speech [ 1 2 3",
        b"speech [ 1 2\n 3 ]\n",
        b"speech RIFF....WAVE",
    ],
)
def test_a_damaged_archive_is_refused(tmp_path, data):
    (tmp_path / "a.ark").write_bytes(data)
    refused(tmp_path / "a.ark")


def header(shape: tuple[int, ...]) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        held, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return held.getvalue()


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (100,), (1,)])
def test_a_header_that_promises_other_bytes_is_refused(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(header(shape) + b"1234" * 7)
    refused(tmp_path / "a.npy")


def test_a_zip_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("speech.npy", header((10,)) + bytes(50_000_000))
    assert "are not the bytes" in refused(tmp_path / "a.npz")


def test_a_folder_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "a.npy").mkdir()
    refused(tmp_path / "a.npy")
    os.mkfifo(tmp_path / "b.npy")
    refused(tmp_path / "b.npy")
