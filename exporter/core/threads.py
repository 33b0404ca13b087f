"""How torch's threads wait for work while onnxruntime's want the same cores."""

from __future__ import annotations

import os

_TURNS = "1000"


def let_waiting_threads_sleep() -> None:
    """Make OpenMP's threads go to sleep after some microseconds without work.

    A verification lets torch and onnxruntime take turns, thousands of times. By default torch's
    threads wait for their next op by spinning, a millisecond long. Where there are no more cores
    than threads, each product of onnxruntime then takes twice its time. A forward pass of torch
    alone takes as long as before (``scripts/bench_verify.py``).

    libgomp reads the variable when torch is loaded: call this before. What the user has set, this
    or ``OMP_WAIT_POLICY``, is left alone. It is for the process of a command, not of a library's
    user: others have threads of their own.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)
