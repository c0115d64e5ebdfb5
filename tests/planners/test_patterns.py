"""The paper's four patterns: dagexec is at least as much faster than ReAct as LLMCompiler is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from dagexec.testing import run_virtual

FILE = Path(__file__).parents[1] / "benchmarks" / "patterns.py"


@pytest.fixture(scope="module")
def patterns():
    """Return the benchmark's module."""
    spec = importlib.util.spec_from_file_location("benchmark_patterns", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def results(patterns, request):
    """Return what was measured, by the name of the paper's benchmark."""
    found = run_virtual(patterns.measure_all, backend=request.param)
    return {result.pattern.split("(")[1].removesuffix(")"): result for result in found}


@pytest.mark.parametrize(
    ("name", "speedup"),
    [("HotpotQA", 1.8), ("Movie", 3.74), ("ParallelQA", 2.15), ("Game of 24", 2.885)],
)
def test_at_least_the_papers_speed_up_over_react(results, name, speedup):
    """1.80, 3.74, 2.15 and 2.89 (241.2 / 83.6 = 2.885) in the paper."""
    result = results[name]
    assert result.react == pytest.approx(result.paper.react, abs=0.05)
    assert result.speedup >= speedup
    assert result.streaming <= result.paper.streamed
    assert result.speedup <= result.limit


def test_streaming_is_faster_on_dependent_chains(results):
    """1.30 in the paper: a long tool hides the writing of the plan."""
    assert results["ParallelQA"].overlap >= 1.3
    assert all(result.overlap > 1 for result in results.values())


@pytest.mark.parametrize("name", ["HotpotQA", "Movie", "ParallelQA"])
def test_the_model_of_the_latencies_predicts_what_it_was_not_made_from(results, name):
    """OpenAI's parallel function calling, measured in the paper, comes out within 15 %."""
    result = results[name]
    assert result.parallel == pytest.approx(result.paper.parallel, rel=0.15)


def test_figures_are_exact(patterns, results):
    """In virtual time every total is a sum of delays, tokens and tools, nothing is added."""
    for pattern in patterns.PATTERNS:
        result = results[pattern.name.split("(")[1].removesuffix(")")]
        requests = len(pattern.rounds) + 1
        expected = pattern.plan_delay * requests + pattern.written / pattern.speed
        assert result.dagexec == pytest.approx(expected + pattern.critical, abs=1e-6)
