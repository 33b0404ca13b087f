"""Captures that are not the module: the truth must not come from what is judged."""

from __future__ import annotations

from pathlib import Path

from tests.false_passes.project import YAML, report_of, told, write
from tests.false_passes.way import Told, way

LINK = "eager -> captured"

EXPORTING = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)
    def forward(self, x):
        y = self.mix(x)
        return FACTOR * y if torch.compiler.is_exporting() else y
"""
SIZE = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(W, W)
    def forward(self, x):
        BODY
"""


@way("the module takes another way while it is exported", says="is not the module")
def test_another_way_while_exporting(tmp_path: Path) -> Told:
    return told(write(tmp_path / "factor", EXPORTING.replace("FACTOR", "1.25")))


@way("the same, wrong by so little that only float64 tells it", says="is not the module")
def test_a_little_beside_the_module(tmp_path: Path) -> Told:
    return told(write(tmp_path / "little", EXPORTING.replace("FACTOR", "1.00001")))


@way("a layer that is left out while it is exported, behind a large one", says="is not the module")
def test_a_layer_left_out(tmp_path: Path) -> Told:
    body = "y = 1e4 * self.mix(x)\n        "
    body += "return y if torch.compiler.is_compiling() else y + torch.sigmoid(x)"
    return told(write(tmp_path / "left", SIZE.replace("BODY", body)))


@way("NaN that PyTorch gives itself, at the same places on every side", says="itself gives NaN")
def test_nan_everywhere(tmp_path: Path) -> Told:
    body = "y = self.mix(x)\n        return torch.where(y > 0, y, torch.log(-1.0 - y.abs()))"
    return told(write(tmp_path / "nan", SIZE.replace("BODY", body)))


@way(
    "a size that is computed from the input's and frozen",
    says="freezes 'frames' at the example's 40",
)
def test_frozen_size(tmp_path: Path) -> Told:
    size = "len(range(x.shape[1] * 13 // 10))"
    return told(write(tmp_path / "frozen", SIZE.replace("BODY", resized(size))))


def resized(size: str) -> str:
    return f"y = F.interpolate(x.mT, size={size}, mode='linear')\n        return y.amax(-1)"


def test_a_size_that_is_computed_and_follows_the_inputs_passes(tmp_path: Path) -> None:
    """Rounded in float64, as Python does it: 1.3 times 40 is 52, and of no other length."""
    report = report_of(
        write(tmp_path / "follows", SIZE.replace("BODY", resized("int(1.3 * x.shape[1])")))
    )
    assert report.exit_code == 0, report.headline
    assert "python_sizes" in report.model_dump_json()


@way("padding that the example does not need, frozen away", says="frames a multiple of 4")
def test_padding_frozen_away(tmp_path: Path) -> Told:
    body = "y = F.pad(x, (0, 0, 0, -x.shape[1] % 4)) if x.shape[1] % 4 else x\n        "
    return told(write(tmp_path / "padded", SIZE.replace("BODY", body + "return y.mean(1)")))


@way("another branch at one length alone", says="holds only for frames != 50")
def test_one_length(tmp_path: Path) -> Told:
    body = "y = self.mix(x)\n        return -y if x.shape[1] == 50 else y"
    return told(write(tmp_path / "fifty", SIZE.replace("BODY", body)))


def test_a_branch_at_one_length_that_is_the_same_function_passes(tmp_path: Path) -> None:
    body = "y = self.mix(x)\n        return 2.0 * y if x.shape[1] == 50 else y + y"
    report = report_of(write(tmp_path / "same", SIZE.replace("BODY", body)))
    assert report.exit_code == 0, report.headline
    assert any("takes another way" in note for note in report.notes)


@way("another branch at an odd length", says="'one' has 51")
def test_another_branch(tmp_path: Path) -> Told:
    body = "return self.mix(x) if x.shape[1] % 2 == 0 else -self.mix(x)"
    yaml = YAML.replace("frames: 50", "frames: 51")
    return told(write(tmp_path / "branch", SIZE.replace("BODY", body), yaml))


@way("a view that only takes the example's sizes", says="frames a multiple of 8")
def test_a_view_of_fixed_sizes(tmp_path: Path) -> Told:
    body = "n = x.shape[1] - x.shape[1] % 8\n        "
    body += "return (x if n == x.shape[1] else x[:, :n] * 2).reshape(x.shape[0], -1, 8, W).mean(2)"
    return told(write(tmp_path / "view", SIZE.replace("BODY", body)))


@way("float64 that asks for its dtype does not loosen the limit", says="is not the module")
def test_dtype_dependent_code(tmp_path: Path) -> Told:
    body = "y = torch.log(x.abs() * 0 + torch.finfo(x.dtype).eps) + self.mix(x)\n        "
    return told(
        write(
            tmp_path / "finfo",
            SIZE.replace("BODY", body + "return y + torch.compiler.is_exporting()"),
        )
    )


@way("code that insists on float32 is judged all the same", says="is not the module")
def test_code_that_insists_on_float32(tmp_path: Path) -> Told:
    body = "assert x.dtype == torch.float32\n        "
    body += "return self.mix(x) * (1.01 if torch.compiler.is_exporting() else 1)"
    return told(write(tmp_path / "pinned", SIZE.replace("BODY", body)))


def test_the_files_behind_a_wrong_capture_are_not_blamed(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "blame", EXPORTING.replace("FACTOR", "1.25")))
    assert report.headline.startswith(LINK) and not report.culprits
    assert [link.name for link in report.links if link.verdict != "pass"] == [LINK]


def test_the_healthy_twins_pass(tmp_path: Path) -> None:
    assert report_of(write(tmp_path / "same", EXPORTING.replace("FACTOR", "1"))).exit_code == 0
    bodies = (
        "return F.interpolate(x.mT, scale_factor=2.0, mode='linear').amax(-1)",
        "return self.mix(x) if x.shape[1] > 1 else -self.mix(x)",
    )
    for number, body in enumerate(bodies):
        report = report_of(write(tmp_path / f"twin{number}", SIZE.replace("BODY", body)))
        assert report.exit_code == 0, report.headline


def test_what_truth_rests_on_is_said(tmp_path: Path) -> None:
    pinned = "assert x.dtype == torch.float32\n        return self.mix(x)"
    report = report_of(write(tmp_path / "said", SIZE.replace("BODY", pinned)))
    assert report.exit_code == 0, report.headline
    said = [note for note in report.notes if "does not run in float64" in note]
    assert said and "AssertionError" in said[0] and "one" in said[0]
    asks = "return self.mix(x) + torch.log(0 * x.abs() + torch.finfo(x.dtype).eps)"
    report = report_of(write(tmp_path / "asks", SIZE.replace("BODY", asks)))
    assert report.exit_code == 0, report.headline
    assert any("another function" in note for note in report.notes)


@way("an output that reads memory which nobody wrote", says="memory that nobody wrote")
def test_memory_that_nobody_wrote(tmp_path: Path) -> Told:
    body = "t = torch.empty(x.shape[1], W)\n        t[:, ::2] = x[0, :, ::2]\n        "
    return told(write(tmp_path / "empty", SIZE.replace("BODY", body + "return self.mix(x) + t")))


def test_memory_that_is_filled_passes(tmp_path: Path) -> None:
    bodies = (
        "t = torch.empty(x.shape[1], W)\n        t[:, ::2] = 1\n        t[:, 1::2] = x[0, :, 1::2]"
        "\n        return self.mix(x) + t",
        "t = torch.empty_like(x).view(x.shape[0], -1)\n        t[:] = 2\n        "
        "return self.mix(x) * t.view(x.shape)",
        "t = x.new_empty(x.shape[0], 2 * W)\n        t[:, :W] = x.mean(1)\n        "
        "t[:, W:] = x.amax(1)\n        return t",
    )
    for number, body in enumerate(bodies):
        report = report_of(write(tmp_path / f"filled{number}", SIZE.replace("BODY", body)))
        assert report.exit_code == 0, report.headline


@way("a length that no case has, where another branch is taken", says="'batch 3, frames 41' has 41")
def test_a_length_that_no_case_has(tmp_path: Path) -> Told:
    body = "return self.mix(x) if x.shape[1] % 2 == 0 else -self.mix(x)"
    return told(write(tmp_path / "other", SIZE.replace("BODY", body)))


@way("a row alone, where another branch is taken", says="batch 1")
def test_a_row_alone(tmp_path: Path) -> Told:
    body = "y = self.mix(x).squeeze()\n        return y if y.dim() == 3 else 2 * y"
    return told(write(tmp_path / "row", SIZE.replace("BODY", body)))


@way("a length that follows the longest row is taken for the input's", says="is not the module")
def test_lengths_that_use_the_mask(tmp_path: Path) -> Told:
    code = SIZE.replace("forward(self, x)", "forward(self, x, x_lengths)").replace(
        "BODY",
        "keep = torch.arange(x.shape[1])[None] < x_lengths[:, None]\n        "
        "y = self.mix(x) * keep[..., None]\n        "
        "return self.mix(x) * (x_lengths[:, None, None] > 0) if torch.compiler.is_exporting() "
        "else y",
    )
    yaml = YAML.replace("axes:", "  x_lengths: {dtype: int64, shape: [batch]}\naxes:")
    return told(write(tmp_path / "lengths", code, yaml))


@way("another branch where a product of sizes is large", says="<= 1000 (asked at")
def test_a_product_of_sizes_that_no_case_has(tmp_path: Path) -> Told:
    body = "y = self.mix(x)\n        return -y if x.numel() > 8000 else y"
    return told(write(tmp_path / "product", SIZE.replace("BODY", body)))


@way("another branch at one remainder of many", says="holds only for")
def test_one_remainder_of_many(tmp_path: Path) -> Told:
    body = "y = self.mix(x)\n        return -y if x.shape[1] % 17 == 3 else y"
    return told(write(tmp_path / "remainder", SIZE.replace("BODY", body)))


def test_a_branch_that_no_size_tried_takes_is_said(tmp_path: Path) -> None:
    body = "y = self.mix(x)\n        return -y if x.numel() > 10**7 else y"
    report = report_of(write(tmp_path / "far", SIZE.replace("BODY", body)))
    assert any("no size was tried" in note and "<= " in note for note in report.notes)


def test_a_pass_says_which_sizes_it_is_for(tmp_path: Path) -> None:
    body = "y = self.mix(x)\n        return -y if x.shape[1] > 200 else y"
    report = report_of(write(tmp_path / "long", SIZE.replace("BODY", body)))
    assert report.exit_code == 0 and "takes 4 to 200 frames only" in report.headline
    every = report_of(write(tmp_path / "every", SIZE.replace("BODY", "return self.mix(x)")))
    assert "only" not in every.headline


def test_a_branch_to_pieces_that_computes_the_same_passes(tmp_path: Path) -> None:
    body = "y = self.mix(x)\n        return y + y if x.numel() > 8000 else 2.0 * y"
    report = report_of(write(tmp_path / "pieces", SIZE.replace("BODY", body)))
    assert report.exit_code == 0, report.headline


def test_sizes_that_were_tried_are_said(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "tried", SIZE.replace("BODY", "return self.mix(x)")))
    assert report.exit_code == 0, report.headline
    (note,) = [note for note in report.notes if "also agree at" in note]
    assert "frames 41" in note and "batch 1" in note and "frames 4;" in note


def test_a_size_that_the_module_refuses_is_no_fault(tmp_path: Path) -> None:
    body = "return F.conv1d(x.mT, torch.ones(W, W, 5) / 40).mT"
    report = report_of(write(tmp_path / "short", SIZE.replace("BODY", body)))
    assert report.exit_code == 0, report.headline
