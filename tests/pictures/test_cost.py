"""What drawing 500 calls costs; `python -m tests.benchmarks.pictures` has the figures."""

from __future__ import annotations

import time

import pytest


def seconds(function):
    """Return the least that a function took of the processor, of five times."""
    took = []
    for _ in range(5):
        began = time.process_time()
        function()
        took.append(time.process_time() - began)
    return min(took)


def count():
    """Do what takes an interpreter as long as the drawing, on any machine."""
    found = {}
    for number in range(200_000):
        found[number % 1000] = number


@pytest.mark.costs
def test_drawing_500_calls_is_cheap(many):
    """Some 10 ms of the processor and some 50 kB; here with a margin for any machine."""
    assert len(many.to_svg()) < 300_000
    assert seconds(many.to_svg) < 10 * seconds(count)
