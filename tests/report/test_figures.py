"""What the renderers show of a tap, and how figures are written."""

import math
import shlex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.parity.measurement import Measurement
from exporter.report import safe_text as names
from exporter.report.advice import next_steps
from exporter.report.comparison import VerdictRecord
from exporter.report.figures import layer_links, severity, tap_figures, worst_taps
from exporter.report.findings import findings
from exporter.report.rows import bar, bar_position, output_rows
from exporter.report.schema import Report, read_report, write_report
from exporter.report.waveform import waveform_record
from tests.support import reports


def test_worst_layers_begin_with_the_culprit():
    report = reports.layer_fail(blocks=5)
    worst = worst_taps(report, 10)
    assert worst[0].layer == report.culprits[0].layer
    assert worst[0].verdict == "fail" and worst[0].strain > 1
    assert len({tap.layer for tap in worst}) == 10


def test_a_nan_is_worse_than_any_number():
    layers = reports.layer_fail().links[2].layers
    broken = layers[0].taps[0]
    assert broken.local_verdict
    broken = broken.model_copy(
        update={
            "verdict": "fail",
            "local_verdict": broken.local_verdict.model_copy(
                update={"verdict": "fail", "strain": math.nan}
            ),
        }
    )
    layers = [layers[0].model_copy(update={"taps": [broken]}), *layers[1:]]
    report = reports.base(links=[reports.link("a", "x", "y", "fail", layers=layers)])
    first, second = worst_taps(report, 2)
    assert first.layer == layers[0].module and second.strain and second.strain > 100


def test_errors_are_relative_to_the_scale_of_the_tap():
    report = reports.passed()
    tap = next(iter(tap_figures(report.links[1])))
    saved = report.links[1].layers[0].taps[0]
    assert saved.local is not None
    assert tap.local == pytest.approx(saved.local["actual"]["max_abs"] / saved.local["scale"])


def test_what_was_not_measured_is_none_and_never_zero():
    report = reports.layer_fail(taps=2)
    fused = [t for link in report.links for t in tap_figures(link) if t.fate == "fused"]
    assert fused
    for tap in fused:
        assert (tap.local, tap.propagated, tap.noise, tap.limit, tap.strain) == (None,) * 5
    assert names.figure(None) == "-" and names.times(None) == "-" and names.cosine(None) == "-"


def test_a_zero_scale_with_an_error_is_infinite_not_zero():
    tap = next(t for t in tap_figures(reports.not_finite().links[0]) if t.name == "norm_2")
    assert tap.local is not None and not math.isfinite(tap.local)


def test_the_link_with_culprits_is_shown_first():
    assert layer_links(reports.layer_fail())[0].name == "simplified"


def test_a_verdict_that_is_not_known_ranks_as_a_failure():
    assert severity("splendid") == severity("fail") > severity("ambiguous") > severity("pass")


@pytest.mark.parametrize("kind", ["stage fail", "layer fail", "contract fail", "golden fail"])
def test_a_failure_says_what_to_do_next(kind):
    report = reports.KINDS[kind]()
    assert next_steps(report)
    assert findings(report)


def test_a_given_file_is_named_in_the_command_that_takes_it_apart():
    report = reports.layer_fail()
    culprit = report.culprits[0].model_copy(update={"stage": "given file"})
    given = report.model_copy(update={"culprits": [culprit]})
    assert "--onnx model.onnx" in next_steps(given)[0]
    assert "--onnx" not in next_steps(report)[0]


def test_a_pass_has_nothing_to_do_and_nothing_found():
    assert next_steps(reports.passed()) == []
    assert findings(reports.passed()) == []


def test_outputs_that_differ_without_a_culprit_are_explained():
    report = reports.base(verdict="fail", outputs=reports.outputs("deployed", bad=("deployed",)))
    assert "no layer fails by itself" in " ".join(next_steps(report))


def test_an_output_row_is_its_worst_case():
    good = reports.output("deployed", "logits", error=1e-6)
    bad = reports.output("deployed", "logits", error=math.nan, ok=False)
    row = output_rows(reports.base(outputs=[good, bad, good]))[0]
    assert row.verdict == "fail" and row.difference == "NaN"


def test_the_limit_is_the_middle_of_the_bar():
    assert bar_position(1.0) == pytest.approx(0.5)
    assert bar_position(math.inf) == 1.0 and bar_position(0.0) == 0.0
    assert bar_position(math.nan) is None
    assert bar(None, 10).strip() == "?"


@given(st.floats(allow_nan=True, allow_infinity=True) | st.none(), st.integers(1, 40))
def test_a_bar_has_its_width(strain, width):
    assert len(bar(strain, width)) == width
    assert bar(strain, width, ascii_only=True).isascii()


@given(st.text())
def test_names_become_printable(text):
    shown = names.printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@given(st.text(), st.integers(5, 50))
def test_short_names_are_short(text, length):
    assert len(names.shorten(text, length)) <= length
    assert len(names.path_end(text, length)) <= length


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_figures_are_never_blank_and_not_finite_ones_say_so(value):
    for show in (names.figure, names.times, names.cosine, names.seconds):
        text = show(value)
        assert text and text != names.NOT_MEASURED
        if math.isnan(value):
            assert text == "NaN"
        elif math.isinf(value):
            assert "Inf" in text


def test_a_cosine_near_one_shows_how_near():
    assert names.cosine(1 - 1e-9) == "1 - 1.0e-09"
    assert names.cosine(1.0) == "1.000000"


def test_what_is_beyond_its_limit_never_looks_like_the_limit():
    assert names.times(1.019) == "1.02x" or float(names.times(1.019)[:-1]) > 1
    assert float(names.times(1.0000004)[:-1]) > 1 > float(names.times(0.9999996)[:-1])
    assert names.times(1.0) == "1x"


def test_a_failure_of_the_free_run_alone_is_said_to_add_up():
    layer = reports.layers(1)[0]
    bad = layer.taps[0].model_copy(
        update={
            "verdict": "fail",
            "propagated_verdict": VerdictRecord(verdict="fail", limit=1e-9, strain=1.5),
        }
    )
    layer = layer.model_copy(update={"taps": [bad]})
    report = reports.base(links=[reports.link("a", "x", "y", "fail", layers=[layer])])
    worst = worst_taps(report, 1)[0]
    assert worst.adds_up and worst.decisive_strain == 1.5 and worst.alone == "pass"
    held = worst_taps(reports.layer_fail(), 1)[0]
    assert not held.adds_up and held.decisive_strain == held.strain


def test_an_op_that_only_moves_data_and_is_equal_has_error_zero():
    layer = reports.layers(1)[0]
    moved = layer.taps[0].model_copy(
        update={"local": Measurement(name="view", kind="exact", bitwise_equal=True).to_json()}
    )
    layer = layer.model_copy(update={"taps": [moved]})
    assert next(iter(tap_figures(reports.link("a", "x", "y", layers=[layer])))).local == 0.0


def test_durations_and_sizes():
    assert [names.seconds(s) for s in (0.42, 55.2, 185, 3725)] == [
        "0.4 s",
        "55 s",
        "3 min 05 s",
        "1 h 02 min",
    ]
    assert [names.size(n) for n in (12, 936_412_004, 2_500_000_000)] == [
        "12 B",
        "936 MB",
        "2.5 GB",
    ]


@pytest.mark.parametrize("kind", sorted(reports.KINDS))
def test_a_saved_report_reads_back(kind, tmp_path):
    report = reports.KINDS[kind]()
    write_report(report, tmp_path / "report.json")
    assert repr(read_report(tmp_path / "report.json")) == repr(report)


def test_the_schema_names_every_part():
    assert {"golden", "waveforms", "contracts", "not_checked"} <= set(
        Report.model_json_schema()["properties"]
    )


@given(
    st.lists(st.floats(-1, 1, width=32), max_size=300),
    st.integers(1, 50),
)
def test_an_envelope_loses_no_peak(samples, points):
    record = waveform_record("a", np.array(samples), sample_rate_hz=16000, points=points)
    assert len(record.minimum) == len(record.maximum) <= points
    assert record.num_samples == len(samples)
    if samples:
        assert max(record.maximum) == pytest.approx(max(samples), rel=1e-3, abs=1e-30)
        assert min(record.minimum) == pytest.approx(min(samples), rel=1e-3, abs=1e-30)


def test_commands_lead_to_the_run_that_was_made():
    report = reports.layer_fail().model_copy(
        update={"options": ["--output-dir", "my runs/a b", "--trust"]}
    )
    (step,) = [step for step in next_steps(report) if "debug" in step]
    words = shlex.split(step.partition("export-verify ")[2])
    assert words[:2] == ["debug", report.pipeline.file]
    assert words[-3:] == ["--output-dir", "my runs/a b", "--trust"]
    contract = reports.contract_fail().model_copy(update={"options": ["--weights", "w"]})
    assert "--contract causality --verbose --weights w" in " ".join(next_steps(contract))


def test_debug_is_not_advised_where_it_has_nothing_to_start_from():
    report = reports.layer_fail().model_copy(update={"finished_run": False})
    first, second = next_steps(report)[:2]
    assert "export-verify run " in first and "export-verify debug " in second


def test_one_advice_for_many_cases_is_said_once():
    report = reports.golden_fail()
    report = report.model_copy(update={"golden": [report.golden[0]] * 7})
    assert len(next_steps(report)) == 1
