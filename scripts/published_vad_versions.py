"""What the published files of Silero VAD say under other releases of onnxruntime.

    python scripts/published_vad_versions.py [--with 1.31.1 1.21.1 1.20.1 ...]

Every release gets an environment of its own in a temporary folder (numpy, soundfile, onnxruntime).
There the files of the silero-vad package run over golden speech frame by frame, as the package
does it; the probabilities are compared with those of its TorchScript, which runs here. Prints a
Markdown table: largest difference per file and recording, and on how many frames the threshold
of 0.5 is crossed on one side only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from importlib.util import find_spec
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FILES = ("silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_op18_ifless.onnx")
AUDIO = ("english", "mandarin", "noisy", "long")
RELEASES = ("1.31.1", "1.23.2", "1.22.1", "1.21.1", "1.20.1", "1.19.2")
FRAME, CONTEXT, RATE, THRESHOLD = 512, 64, 16000, 0.5

RUN = f"""
import sys, numpy as np, onnxruntime as ort, soundfile
model, audio, out = sys.argv[1:]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
sound, _ = soundfile.read(audio, dtype="float32")
sound = np.pad(sound, (0, -len(sound) % {FRAME}))
state, context, probs = np.zeros((2, 1, 128), np.float32), np.zeros((1, {CONTEXT}), np.float32), []
for frame in sound.reshape(-1, 1, {FRAME}):
    x = np.concatenate([context, frame], 1)
    p, state = session.run(None, {{"input": x, "state": state, "sr": np.array({RATE})}})
    context = x[:, -{CONTEXT}:]
    probs.append(p[0, 0])
np.save(out, np.array(probs))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--with", dest="releases", nargs="+", default=list(RELEASES))
    options = parser.parse_args()
    truth = {name: official(ROOT / "golden" / "audio" / f"{name}.wav") for name in AUDIO}
    print(f"| onnxruntime | file | {' | '.join(AUDIO)} |")
    print(f"|---|---|{'--:|' * len(AUDIO)}", flush=True)
    failed = 0
    for release in options.releases:
        for file, found in under(release):
            cells = [cell(found[name], truth[name]) if found else "" for name in AUDIO]
            failed += not found
            print(f"| {release} | `{file}` | {' | '.join(cells)} |", flush=True)
    return 1 if failed else 0


def cell(found: np.ndarray, truth: np.ndarray) -> str:
    flips = int(((found >= THRESHOLD) != (truth >= THRESHOLD)).sum())
    return f"{np.abs(found - truth).max():.1e}, {flips} of {len(truth)}"


def official(audio: Path) -> np.ndarray:
    """Probabilities of the package's TorchScript, frame by frame."""
    sys.path.insert(0, str(ROOT))
    import torch

    from exporter.cases.audio import read_waveform
    from exporter.models.upstream import quiet_upstream

    with quiet_upstream():
        from silero_vad import load_silero_vad

        network = load_silero_vad()
        sound = read_waveform(audio, RATE)
        frames = torch.from_numpy(np.pad(sound, (0, -len(sound) % FRAME))).reshape(-1, FRAME)
        with torch.no_grad():
            return np.array([float(network(frame, RATE)) for frame in frames], np.float32)


def under(release: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """File -> recording -> probabilities under a release; nothing where it could not be run."""
    spec = find_spec("silero_vad")
    data = Path((spec and spec.origin) or "").parent / "data"
    with tempfile.TemporaryDirectory(prefix="vad-") as scratch:
        folder = Path(scratch)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        wanted = ["numpy<3", "soundfile", f"onnxruntime=={release}"]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        rows = []
        for file in FILES:
            found = {}
            for name in AUDIO:
                audio, out = ROOT / "golden" / "audio" / f"{name}.wav", folder / "probs.npy"
                done = subprocess.run(
                    [python, "-c", RUN, data / file, audio, out], capture_output=True, text=True
                )
                if done.returncode:
                    print(f"{release}, {file}: {done.stderr.strip()[-300:]}", file=sys.stderr)
                    found = {}
                    break
                found[name] = np.load(out)
            rows.append((file, found))
    return rows


if __name__ == "__main__":
    sys.exit(main())
