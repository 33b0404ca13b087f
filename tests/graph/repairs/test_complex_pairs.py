"""Complex values in a user's model: pairs of real ones in the file, at any length."""

from __future__ import annotations

import pytest

from exporter.core.errors import StageError
from exporter.graph.strategies import capture_openly
from tests.graph.repairs.models import holds, model

CASES = ([12, 9], [17], [30, 4, 8])
SIGNAL = "s = x.reshape(x.shape[0], -1)\n"
HANN = "self.register_buffer('w', torch.hann_window(16))"
MODELS = {
    "a mask": (
        "z = torch.stft(s, 16, 4, window=self.w, return_complex=True)\n"
        "return torch.istft(z * torch.sigmoid(z.abs()), 16, 4, window=self.w, length=s.shape[1])",
        HANN,
    ),
    "by the names of torch's arguments": (
        "z = torch.stft(input=s, n_fft=16, hop_length=4, window=self.w, return_complex=True)\n"
        "z = torch.istft(input=z * 2j, n_fft=16, hop_length=4, window=self.w, length=s.shape[1])\n"
        "return z",
        HANN,
    ),
    "a complex mask, other padding, normalized": (
        "z = s.stft(16, 8, window=self.w, pad_mode='constant', normalized=True,"
        " return_complex=True)\n"
        "return torch.istft(z * self.mask[:, None], 16, 8, window=self.w, normalized=True)",
        HANN + "\nself.mask = nn.Parameter(torch.randn(9, dtype=torch.complex64))",
    ),
    "an odd size": (
        "z = torch.stft(s, 15, 4, window=self.w, return_complex=True)\n"
        "z = torch.polar(z.abs() + 0.1, z.angle())\n"
        "return torch.istft(z, 15, 4, window=self.w)",
        "self.register_buffer('w', torch.hamming_window(15))",
    ),
    "a short window, no power of two": (
        "z = torch.stft(s, 20, 5, 16, self.w, return_complex=True)\n"
        "return torch.istft(z * 1j, 20, 5, 16, self.w, length=s.shape[1] + 3)",
        HANN.replace("hann", "hamming"),
    ),
    "no centre, both sides, no window": (
        "z = torch.stft(s, 12, 5, center=False, onesided=False, return_complex=True)\n"
        "return torch.istft(z.conj(), 12, 5, center=False, onesided=False)",
        "",
    ),
    "parts of a spectrum": (
        "z = torch.stft(s, 10, 3, window=torch.hann_window(10), return_complex=True)\n"
        "return torch.cat((z.real, z.imag * 2, z.angle() * (z.real > 0.1)), 1)",
        "",
    ),
    "angles of what is real": (
        "z = torch.fft.rfft(x)[..., ::2]\nreturn z.angle()",
        "",
    ),
    "one signal": (
        "z = torch.stft(s[0], 16, 4, window=self.w, return_complex=True)\n"
        "return torch.istft(z / (z.abs() + 1), 16, 4, window=self.w) + x_lengths.sum()",
        HANN,
    ),
    "rotary positions": (
        "turn = torch.arange(x.shape[1])[:, None] * self.f\n"
        "turn = torch.polar(torch.ones_like(turn), turn)\n"
        "z = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))\n"
        "return torch.view_as_real(z * turn).flatten(2)",
        "self.f = 1.0 / torch.tensor([1.0, 100.0])",
    ),
    "an outer product of angles": (
        "turn = torch.outer(torch.arange(x.shape[1]).float(), self.f)\n"
        "turn = torch.exp(1j * turn).unsqueeze(0)\n"
        "z = torch.complex(x[..., :2], x[..., 2:]) * turn\n"
        "return torch.cat((z.real, z.imag), -1)",
        "self.f = 1.0 / torch.tensor([1.0, 100.0])",
    ),
    "complex layers": (
        "z = self.a(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)))\n"
        "z = torch.sgn(z) * torch.relu(z.abs() - 0.1)\n"
        "return torch.view_as_real(z @ self.b + self.c)",
        "self.a = nn.Linear(2, 3, dtype=torch.complex64)\n"
        "self.b = nn.Parameter(torch.randn(3, 3, dtype=torch.complex64))\n"
        "self.c = torch.tensor(0.5 + 2j)",
    ),
    "a complex convolution": (
        "z = torch.complex(x, x.flip(1)).transpose(1, 2)\nreturn self.a(z).abs().sqrt()",
        "self.a = nn.Conv1d(4, 3, 3, padding=1, dtype=torch.complex64)",
    ),
    "a conjugate that is stored": (
        "return (torch.fft.rfft(x) * self.h).abs()",
        "self.register_buffer('h', torch.tensor([1j, 2 - 1j, 1]).conj())",
    ),
    "a filter in the spectrum": (
        "z = torch.fft.rfft(x, n=24, dim=1)\n"
        "return torch.fft.irfft(z * self.h[:, None], n=24, dim=1)[:, :4] + x[:, :4]",
        "self.h = nn.Parameter(torch.randn(13, dtype=torch.complex64))",
    ),
    "a spectrum of the whole length": (
        "z = torch.fft.rfft(x, dim=1) * torch.exp(torch.tensor(0.5j))\n"
        "return torch.fft.irfft(z, n=x.shape[1], dim=1)",
        "",
    ),
    "part of it written": (
        "z = torch.fft.fft(x)\nz = z.clone()\nz[..., 0] = 0\nz[..., 1] *= 1j\n"
        "return torch.fft.ifft(z, norm='ortho').real",
        "",
    ),
    "numbers two by two": (
        "z = (x * 2).view(torch.complex64) * (1 + 2j)\n"
        "return z.contiguous().view(torch.float32) * 0.5",
        "",
    ),
    "an inner product": (
        "z = torch.fft.fft(x)\nreturn torch.einsum('btf,bsf->bts', z, z.conj()).real * 0.1",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_complex_values_are_pairs_of_real_ones_in_the_file(tmp_path, name):
    forward, init = MODELS[name]
    wrapped = model(tmp_path, SIGNAL + forward, init, name="spectra")
    # A transform of a length that only the file knows is onnxruntime's: exact for powers of two.
    cases = ([16, 9], [8], [32, 4, 8]) if name == "a spectrum of the whole length" else CASES
    found = holds(wrapped, tmp_path, cases)
    (note,) = [note for note in found.notes if "'complex_pairs'" in note]
    assert "spectra.py:" in note and "complex values as pairs" in found.strategy
    assert not any(
        getattr(node.meta.get("val"), "dtype", None) == "complex64"
        for node in found.program.graph.nodes
    )


def test_the_repair_is_left_out_where_it_is_switched_off(tmp_path):
    forward, init = MODELS["complex layers"]
    wrapped = model(tmp_path, forward, init, name="spectra")
    with pytest.raises(StageError):
        holds(wrapped, tmp_path, CASES, without=["complex_pairs"])


WRITTEN = {
    "a spectrogram": (
        "return torch.stft(s, 16, 4, window=self.w, return_complex=True).abs()",
        HANN,
    ),
    "two parts": "z = torch.fft.rfft(x)\nreturn torch.cat((z.real, z.imag), -1)",
    "there and back": "return torch.fft.irfft(torch.fft.rfft(x), n=4)",
    "of complex numbers": (
        "z = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))\n"
        "return torch.view_as_real(torch.fft.ifft(torch.fft.fft(z), norm='ortho')).flatten(2)"
    ),
    "along two axes": "return torch.fft.fft2(x[:, :8]).real",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_the_exporter_writes_rightly_is_left_to_it(tmp_path, name):
    forward, init = WRITTEN[name] if isinstance(WRITTEN[name], tuple) else (WRITTEN[name], "")
    wrapped = model(tmp_path, SIGNAL + forward, init, name="spectra")
    found = holds(wrapped, tmp_path, CASES)
    assert not [note for note in found.notes if "'complex_pairs'" in note]


def test_it_is_used_where_it_is_asked_for(tmp_path):
    forward, init = WRITTEN["a spectrogram"]
    found = capture_openly(
        model(tmp_path, SIGNAL + forward, init, name="spectra"), wanted=["complex_pairs"]
    )
    assert [note for note in found.notes if "'complex_pairs'" in note]


def test_bits_that_are_looked_at_as_others_are_refused(tmp_path):
    forward = "z = torch.fft.fft(x) * 1j\nreturn z.contiguous().view(torch.int32) * 2"
    with pytest.raises(StageError, match="looked at as torch.int32"):
        capture_openly(model(tmp_path, forward, name="spectra"))


def test_an_op_of_which_nobody_knows_what_it_is_on_pairs_is_named_with_its_line(tmp_path):
    forward = "z = torch.fft.fft(x[..., :2, :2].contiguous())\nreturn torch.linalg.inv(z).abs()"
    with pytest.raises(
        StageError, match=r"complex values in aten.linalg_inv.*spectra.py:\d+"
    ) as told:
        capture_openly(model(tmp_path, forward, name="spectra"))
    assert "torch.view_as_real" in (told.value.remedy or "")
