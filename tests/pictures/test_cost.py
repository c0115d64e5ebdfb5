"""What drawing 500 calls costs; `python -m tests.benchmarks.pictures` has the figures."""

from __future__ import annotations

import time

import pytest


@pytest.mark.real_time
def test_drawing_500_calls_is_cheap(many):
    """Some 10 ms of the processor and some 50 kB; here with a margin for any machine."""
    many.to_svg()
    took = []
    for _ in range(5):
        began = time.process_time()
        svg = many.to_svg()
        took.append(time.process_time() - began)
    assert len(svg) < 300_000
    assert min(took) < 0.1
