"""Packed sequences around recurrent layers become rows with lengths, in the file as well."""

from __future__ import annotations

import pytest

from exporter.core.errors import StageError
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, model

HEAD = "from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence"
PACKED = (
    "packed = pack_padded_sequence(x, x_lengths.cpu(), batch_first=True, enforce_sorted=False)\n"
)
UNPACKED = "y, _ = pad_packed_sequence(y, batch_first=True)\nreturn y\n"
RUN = f"y, _ = self.rnn(packed)\n{UNPACKED}"
LAYERS = {
    "lstm": ("nn.LSTM(4, 3, 2, batch_first=True)", RUN),
    "both directions": ("nn.LSTM(4, 3, 2, bidirectional=True)", RUN),
    "last states of an lstm": (
        "nn.LSTM(4, 3, bidirectional=True)",
        "_, (h, c) = self.rnn(packed)\nreturn torch.cat([h, c])",
    ),
    "gru from a state": (
        "nn.GRU(4, 3)",
        f"h = x[:, :1, :3].transpose(0, 1).contiguous()\ny, _ = self.rnn(packed, h)\n{UNPACKED}",
    ),
    "last state of a gru": ("nn.GRU(4, 3, 2, bidirectional=True)", "return self.rnn(packed)[1]"),
    "rnn with relu": ("nn.RNN(4, 3, nonlinearity='relu')", RUN),
    "a total length": (
        "nn.GRU(4, 3)",
        "y, _ = self.rnn(packed)\nframes = x.shape[1]\n"
        "return pad_packed_sequence(y, True, padding_value=7.0, total_length=frames)[0]",
    ),
    "no layer between": ("nn.Identity()", f"y = packed\n{UNPACKED}"),
}
CASES = ([9, 2, 5, 1], [30], [3, 17])


@pytest.mark.parametrize("name", LAYERS)
def test_rows_end_at_their_lengths_in_the_file(tmp_path, name):
    layer, forward = LAYERS[name]
    has_layer = "Identity" not in layer
    init = f"self.rnn = {layer}" + ("" if has_layer else "\nself.spare = nn.RNN(2, 2)")
    wrapped = model(tmp_path, PACKED + forward, init, head=HEAD, name="packed_model")
    found = holds(wrapped, tmp_path, CASES)
    (note,) = [note for note in found.notes if "packed_sequence" in note]
    assert "pack_padded_sequence() at" in note and "packed_model.py:" in note
    assert "the same bits with and without on 5 inputs" in note


def test_what_was_replaced_is_torchs_own_again(tmp_path):
    import torch
    from torch.nn.utils import rnn

    before = (rnn.pack_padded_sequence, rnn.pad_packed_sequence, torch.nn.LSTM.forward)
    wrapped = model(
        tmp_path, PACKED + LAYERS["lstm"][1], f"self.rnn = {LAYERS['lstm'][0]}", head=HEAD,
        name="packed_restored",
    )  # fmt: skip
    capture_openly(wrapped)
    assert (rnn.pack_padded_sequence, rnn.pad_packed_sequence, torch.nn.LSTM.forward) == before


def test_a_layer_without_packed_rows_is_not_repaired(tmp_path):
    forward = "y, _ = self.rnn(x)\nreturn y + x_lengths[:, None, None]"
    init = "self.rnn = nn.LSTM(4, 3, batch_first=True)"
    found = holds(model(tmp_path, forward, init, name="plain_rnn"), tmp_path, ([5, 5],))
    assert found.notes == ()


def test_without_the_repair_the_module_is_refused(tmp_path):
    wrapped = model(
        tmp_path, PACKED + LAYERS["lstm"][1], f"self.rnn = {LAYERS['lstm'][0]}", head=HEAD,
        name="packed_refused",
    )  # fmt: skip
    with pytest.raises(StageError):
        capture_openly(wrapped, without=["packed_sequence"])


def test_a_use_that_is_not_covered_is_named_with_its_line(tmp_path):
    forward = f"{PACKED}y, _ = self.rnn(packed)\nreturn y.data.sum() + x"
    wrapped = model(tmp_path, forward, "self.rnn = nn.LSTM(4, 3)", head=HEAD, name="packed_data")
    with pytest.raises(StageError) as raised:
        capture_openly(wrapped)
    assert "'data' of a packed sequence" in str(raised.value)
    assert "packed_data.py:14" in str(raised.value)
    assert "unpack before" in str(raised.value.remedy)
