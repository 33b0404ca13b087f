"""What importing an upstream package leaves behind in the process."""

from __future__ import annotations

import logging
import sys

import pytest
import torch

from exporter.models.upstream import quiet_upstream


def test_every_module_can_be_asked_for_its_file_after_speechbrain():
    with quiet_upstream():
        import speechbrain
    assert isinstance(speechbrain.__file__, str)
    placeholders = [
        name
        for name, module in sys.modules.items()
        if name.startswith("speechbrain.") and getattr(module, "__file__", None) is None
    ]
    # What they stand for is still imported when it is needed, and may still be missing.
    assert "speechbrain.k2_integration" in placeholders
    with pytest.raises(ImportError, match="k2"):
        sys.modules["speechbrain.k2_integration"].graph_compiler  # noqa: B018


def test_threads_logging_and_output_are_as_before_even_after_an_error(
    capsys: pytest.CaptureFixture[str],
):
    root, threads = logging.getLogger(), torch.get_num_threads()
    level, handlers = root.level, list(root.handlers)

    def rude() -> None:
        with quiet_upstream():
            root.setLevel(logging.DEBUG)
            root.addHandler(logging.NullHandler())
            torch.set_num_threads(threads + 1)
            print("a notice")
            raise KeyError("passes through")

    with pytest.raises(KeyError, match="passes through"):
        rude()
    assert (root.level, root.handlers, torch.get_num_threads()) == (level, handlers, threads)
    assert capsys.readouterr().out == ""
