"""Plant differences in features and let ``features`` name them: the table in docs/features.md.

    python scripts/feature_table.py [--check] [--pipeline pipelines/sensevoice_batch_tiny.yaml]

The features are kaldi-native-fbank's, with one thing different, of some seconds of speech; they are
compared with SenseVoice's own front end by the function behind the command, which also says what
they do to the tokens (of seeded weights: how many change says how sensitive the encoder is, not
how words would). Exits 1 where another parameter is named, or more than one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from exporter.config import load_pipeline  # noqa: E402
from exporter.features.resamplers import resampled  # noqa: E402
from exporter.flows.features import Theirs, features  # noqa: E402
from exporter.report.features import FeatureReport  # noqa: E402
from scripts.marked_page import write_between  # noqa: E402
from tests.support.planted_features import PLANTED, RATE, Planted, kaldi, stacked  # noqa: E402

PAGE = ROOT / "docs" / "features.md"
PIPELINE = ROOT / "pipelines" / "sensevoice_batch_tiny.yaml"
START, END = "<!-- planted -->", "<!-- /planted -->"
SECONDS = (0.5, 3.5)


def rows(pipeline_path: Path) -> list[tuple[Planted, FeatureReport]]:
    """Every planted difference, with the report on it."""
    whole, rate = soundfile.read(ROOT / "golden" / "audio" / "english.wav", dtype="float32")
    assert rate == RATE
    waveform = whole[int(SECONDS[0] * rate) : int(SECONDS[1] * rate)]
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "speech.wav", waveform, RATE, subtype="FLOAT")
        text = f"extends: {pipeline_path.resolve()}\nname: planted\n"
        prompts = "inputs: {language: en, text_norm: withitn}"
        text += f"cases: [{{name: speech, audio: speech.wav, {prompts}}}]\n"
        text += "default_case: speech\n"
        (folder / "planted.yaml").write_text(text)
        pipeline = load_pipeline(folder / "planted.yaml")
        same = Planted(parameter="", words="nothing", make=kaldi)
        bare = Planted(
            parameter="fixed statistics",
            words="left out, behind the stacked frames",
            make=lambda samples: stacked(kaldi(samples)),
        )
        listed = [same, *(p for p in PLANTED if p.parameter != "low frame rate"), bare]
        for planted in listed:
            np.save(folder / "theirs.npy", planted.make(waveform).astype(np.float32))
            found.append((planted, features(pipeline, Theirs(file=folder / "theirs.npy"))))
            print(f"{planted.parameter or 'none'}: {found[-1][1].headline}", file=sys.stderr)
        found += _resampled(folder, text)
    return found


def _resampled(folder: Path, text: str) -> list[tuple[Planted, FeatureReport]]:
    found = []
    for rate, way in ((48000, "soxr HQ"), (44100, "linear"), (8000, "polyphase")):
        draw = np.random.Generator(np.random.PCG64(0))
        time = np.arange(3 * rate) / rate
        chirp = 0.3 * np.sin(2 * np.pi * (100 + 600 * time) * time)
        chirp = (chirp + 0.01 * draw.standard_normal(len(time))).astype(np.float32)
        soundfile.write(folder / "speech.wav", chirp, rate, subtype="FLOAT")
        audio = "audio: {file: speech.wav, input: waveform, resample: sinc}"
        (folder / "planted.yaml").write_text(text.replace("audio: speech.wav", audio))
        ways, _ = resampled(chirp, rate, RATE)
        np.save(folder / "theirs.npy", kaldi(ways[way].astype(np.float32)))
        planted = Planted(
            parameter="resampler", words=f"{way} from {rate} Hz", make=lambda samples: samples
        )
        report = features(folder / "planted.yaml", Theirs(file=folder / "theirs.npy"))
        print(f"resampler: {report.headline}", file=sys.stderr)
        found.append((planted, report))
    return found


def right(planted: Planted, report: FeatureReport) -> bool:
    """The parameter is named, alone, and nothing is left."""
    named = [row.parameter for row in report.differences]
    wanted = [planted.parameter] if planted.parameter else []
    return named == wanted and report.explained and (report.verdict == "pass") == (not wanted)


def table(found: list[tuple[Planted, FeatureReport]]) -> str:
    """The table as Markdown, with a line above it."""
    good = sum(right(*row) for row in found)
    lines = [
        f"{good} of {len(found)} are named rightly and alone.",
        "",
        "| planted | named | ours / theirs | left without it | with it | tokens that change |",
        "|---|---|---|---|---|---|",
    ]
    for planted, report in found:
        words = f"{planted.parameter}: {planted.words}" if planted.parameter else planted.words
        first = report.differences[0] if report.differences else None
        tokens = next((row.words for row in report.effects if row.output == "token_ids"), "-")
        named = ", ".join(row.parameter for row in report.differences) or "nothing"
        values = f"{first.ours} / {first.theirs}" if first else "-"
        before = "-" if first is None or first.before is None else f"{first.before:.2g}"
        after = "-" if first is None else f"{first.after:.2g}"
        tokens = tokens.split(":")[0]
        lines.append(f"| {words} | {named} | {values} | {before} | {after} | {tokens} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--pipeline", type=Path, default=PIPELINE)
    given = parser.parse_args()
    found = rows(given.pipeline)
    text = table(found)
    print(text)
    if not given.check:
        write_between(PAGE, (START, END), text)
    return 0 if all(right(*row) for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
