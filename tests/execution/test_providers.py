"""Sessions that run where they were asked to; what a machine without a device can show of it."""

from __future__ import annotations

import pytest

from exporter.core.errors import UserInputError
from exporter.execution import ort_session, providers
from exporter.execution.deployment import Deployment, Way, other_ways
from exporter.execution.ort_session import check_providers, session_providers
from exporter.execution.providers import check_provider

CUDA = Deployment(provider="cuda")


class FakeSession:
    """As onnxruntime answers when the libraries of CUDA do not load: without an error."""

    def __init__(self, model: object, options: object, providers: list) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_a_silent_fall_back_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ort_session.ort, "InferenceSession", FakeSession)
    monkeypatch.setattr(
        ort_session, "missing_library", lambda name: "the library x.so is not found"
    )
    with pytest.raises(UserInputError, match=r"'cuda' does not load: the library x.so") as caught:
        ort_session.open_session(b"", ort_session.ort.SessionOptions(), CUDA)
    assert "would have used CPUExecutionProvider instead" in str(caught.value)
    assert "onnxruntime-gpu[cuda,cudnn]" in str(caught.value)
    assert ort_session.open_session(b"", ort_session.ort.SessionOptions(), Deployment())


def test_a_provider_whose_libraries_do_not_load_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(providers, "present_providers", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(ort_session.ort, "InferenceSession", FakeSession)
    providers._try.cache_clear()
    with pytest.raises(UserInputError, match="does not load"):
        check_provider("cuda")


def test_a_session_with_its_provider_is_as_it_should_be():
    check_providers(["CUDAExecutionProvider", "CPUExecutionProvider"], CUDA)
    with pytest.raises(UserInputError):
        check_providers(["CPUExecutionProvider"], CUDA)


def test_tensorrt_is_said_not_to_be_offered():
    with pytest.raises(UserInputError, match="TensorRT is not offered"):
        check_provider("tensorrt")


def test_float32_is_float32_on_cuda_unless_tf32_is_declared():
    (name, options), cpu = session_providers(CUDA)
    assert (name, cpu) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["use_tf32"] == "0"
    given = Deployment(provider="cuda", tf32=True, settings=(("a", "b"),))
    (_, options), _ = session_providers(given)
    assert (options["use_tf32"], options["a"]) == ("1", "b")


def test_labels_tell_deployments_apart():
    ways = [
        Deployment(provider="cuda"),
        Deployment(provider="cuda", tf32=True),
        Deployment(provider="cuda", level="basic"),
        Deployment(provider="cuda", settings=(("cudnn_conv_algo_search", "DEFAULT"),)),
        Deployment(),
    ]
    assert len({way.label() for way in ways}) == len(ways)


def test_other_ways_differ_in_one_thing_each():
    ways = dict(other_ways(Deployment(provider="cuda", tf32=True, threads=2)))
    assert list(ways) == list(Way)
    assert not ways[Way.TF32_OFF].tf32
    assert ways[Way.FIXED_ALGORITHM].tf32
    assert ways[Way.OPTIMISATION_OFF].level == "disable"
    assert ways[Way.WITHOUT_DEVICE] == Deployment(threads=2)
    assert Way.TF32_OFF not in dict(other_ways(CUDA))
    assert other_ways(Deployment()) == ()
