"""A replay judges as a golden check does, in the process that serves, and without PyTorch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import main
from exporter.core.errors import GoldenError, UserInputError
from exporter.golden.outcome import CaseOutcome, CheckOutcome, State
from exporter.monitor import Monitor
from exporter.monitor.recorded import read_recorded
from exporter.monitor.replay import NOT_CERTIFIED, Replayed, Seal
from exporter.runtime import SpeechRunner
from tests.monitor.toy import changed, toy
from tests.support.segment_toys import loud


def values(monitor: Monitor) -> dict[str, float]:
    """Samples by name and labels, as Prometheus reads them over HTTP."""
    with urllib.request.urlopen(f"http://127.0.0.1:{monitor.port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }


def test_a_service_replays_at_its_start_and_says_what_it_runs(tmp_path: Path):
    path, golden = toy(tmp_path)
    monitor = Monitor(golden, port=0, log=tmp_path / "log.jsonl")
    runner = SpeechRunner(path, threads=1, monitor=monitor)
    found = monitor.wait(60)
    assert found is not None and found.outcome.state in (State.SAME, State.WITHIN_ROUNDING)
    assert [case.case for case in found.outcome.cases] == ["loud", "quiet"]
    assert found.seal.intact and found.exit_code == 0
    runner.run(loud(1, 3))
    said = values(monitor)
    info = next(name for name in said if name.startswith("export_verify_build_info"))
    assert "CPUExecutionProvider" in info and found.seal.text[:12] in info
    assert said["export_verify_seal_intact"] == 1
    assert said["export_verify_requests_total"] == 1, "what is replayed is no request"
    assert said["export_verify_replay_state[moved]"] == 0
    assert said["export_verify_replay_exit_code"] == 0
    monitor.close()
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert row["kind"] == "replay" and row["seal_intact"] is True
    assert (tmp_path / "log.jsonl").stat().st_mode & 0o777 == 0o600


def test_another_file_in_its_place_is_moved_and_names_the_layer(tmp_path: Path):
    path, golden = toy(tmp_path)
    changed(path, weight=1.01)
    monitor = Monitor(golden, port=0)
    SpeechRunner(path, threads=1, monitor=monitor)
    found = monitor.wait(60)
    assert found is not None and found.outcome.state is State.MOVED
    first = next(case.first for case in found.outcome.cases if case.first)
    assert first.tap == "weighed"
    said = values(monitor)
    assert said["export_verify_replay_state[moved]"] == 1
    assert said["export_verify_seal_intact"] == 0
    assert said["export_verify_replay_exit_code"] == 1
    monitor.close()


def test_a_file_that_is_put_there_later_is_seen_by_the_next_replay(tmp_path: Path):
    path, golden = toy(tmp_path)
    monitor = Monitor(golden, replay_every_s=0.05)
    SpeechRunner(path, threads=1, monitor=monitor)
    assert monitor.wait(60).seal.intact
    changed(path, weight=1.01)
    for _ in range(600):
        if monitor.last is not None and not monitor.last.seal.intact:
            break
        monitor._ended.wait(0.05)
    assert monitor.last is not None and not monitor.last.seal.intact
    monitor.close()


def test_a_replay_that_stops_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, golden = toy(tmp_path)

    def stops(*given: object, **more: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("exporter.monitor.monitor.replay", stops)
    monitor = Monitor(golden, port=0)
    runner = SpeechRunner(path, threads=1, monitor=monitor)
    assert monitor.wait(60) is None
    said = values(monitor)
    assert said["export_verify_replay_state[not_run]"] == 1
    assert said["export_verify_replay_exit_code"] == 1
    assert said["export_verify_monitor_errors_total[replay]"] == 1
    assert math.isnan(said["export_verify_seal_intact"]), "nobody has looked: not broken"
    assert len(runner.run(loud(1))["segments"]) == 1, "requests are served all the same"
    monitor.close()


def test_a_log_that_cannot_be_written_ends_neither_the_replay_nor_its_wait(tmp_path: Path):
    path, golden = toy(tmp_path)
    (tmp_path / "log").mkdir()
    monitor = Monitor(golden, log=tmp_path / "log")
    SpeechRunner(path, threads=1, monitor=monitor)
    assert monitor.wait(60) is not None
    monitor.close()


def test_a_seal_that_is_gone_is_no_pass_where_pytorch_vouches():
    gone = Seal(text=NOT_CERTIFIED, intact=False, changes=())
    for vouched, code in ((True, 1), (False, 0)):
        outcome = CheckOutcome(
            pipeline="p",
            golden="g",
            cases=(CaseOutcome(case="c", state=State.SAME),),
            numbers=State.SAME,
            vouched=vouched,
        )
        assert Replayed(outcome=outcome, seal=gone, provider="", runtime="").exit_code == code


def test_the_command_ends_as_golden_check_does(tmp_path: Path, capsys: pytest.CaptureFixture):
    path, golden = toy(tmp_path)
    words = ["monitor", "replay", str(path), "--golden", str(golden)]
    assert main(words) == 0
    assert "seal         intact" in capsys.readouterr().out
    assert main([*words, "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["seal"]["intact"] is True and said["exit_code"] == 0
    changed(path, weight=1.01)
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "moved" in out and "seal         broken" in out and "the weights" in out


def test_a_broken_seal_is_no_pass_where_all_numbers_agree(tmp_path: Path):
    path, golden = toy(tmp_path)
    changed(path)  # written anew by onnx: other bytes
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(data) + b"\x72\x06\x0a\x01a\x12\x01b")  # one more entry of metadata
    assert main(["monitor", "replay", str(path), "--golden", str(golden)]) == 1


def test_a_golden_without_what_is_kept_says_how_to_keep_it(tmp_path: Path):
    _, golden = toy(tmp_path)
    kept = golden / "monitor" / "manifest.json"
    text = kept.read_text()
    for bad, said in (
        (text.replace('"reference": {}', '"reference": {"level": [1.0]}'), "reference"),
        (text.replace(read_recorded(golden).golden.digest, "0" * 64), "another golden"),
        (text.replace('"loud"', '"lout"'), "no case 'lout'"),
        (text.replace('"loud"', '"quiet"'), "are not those that were recorded"),
        (text[:-20], "not what 'monitor record' writes"),
    ):
        kept.write_text(bad)
        with pytest.raises(GoldenError, match=said):
            Monitor(golden)
    kept.unlink()
    with pytest.raises(GoldenError, match="monitor record"):
        Monitor(golden)


def test_options_that_make_no_sense_are_errors_of_the_user(tmp_path: Path):
    path, golden = toy(tmp_path)
    with pytest.raises(UserInputError, match="replay_every_s"):
        Monitor(golden, replay_every_s=float("nan"))
    monitor = Monitor(golden, port=0)
    SpeechRunner(path, monitor=monitor)
    with pytest.raises(UserInputError, match="has a runner"):
        SpeechRunner(path, monitor=monitor)
    with pytest.raises(UserInputError, match="port"):
        SpeechRunner(path, monitor=Monitor(golden, port=monitor.port))
    monitor.close()


def test_the_serving_process_needs_no_pytorch(tmp_path: Path):
    path, golden = toy(tmp_path)
    np.save(tmp_path / "waveform.npy", loud(1, 2))
    code = (
        "import sys\n"
        "for name in ('torch', 'onnxscript', 'onnxsim', 'onnx_ir', 'soundfile', 'click'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from exporter.monitor import Monitor\n"
        "from exporter.runtime import SpeechRunner\n"
        f"monitor = Monitor({str(golden)!r}, port=0)\n"
        f"runner = SpeechRunner({str(path)!r}, threads=1, monitor=monitor)\n"
        f"runner.run(np.load({str(tmp_path / 'waveform.npy')!r}))\n"
        "print(monitor.wait(60).exit_code)\n"
        "monitor.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0", done.stderr


@pytest.mark.parametrize(("every_s", "late_s"), [(0, math.inf), (3600.0, 7200.0)])
def test_a_replay_is_late_after_twice_the_time_that_was_planned(
    every_s: float, late_s: float, tmp_path: Path
):
    path, golden = toy(tmp_path)
    monitor = Monitor(golden, port=0, replay_every_s=every_s)
    SpeechRunner(path, threads=1, monitor=monitor)
    assert monitor.wait(60) is not None
    said = values(monitor)
    due = said["export_verify_replay_due_timestamp_seconds"]
    assert due - said["export_verify_replay_timestamp_seconds"] == pytest.approx(late_s, abs=60)
    monitor.close()
