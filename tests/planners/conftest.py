"""What the tests of the planners share: test folders are no packages, so helpers load here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}


def load(name):
    """Import a helper module of this folder."""
    full = f"planners_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture(scope="session")
def load_helper():
    """Return what imports a helper module of this folder."""
    return load


@pytest.fixture(scope="session")
def nestful():
    """Return the generator of nested plans."""
    return load("nestful")


@pytest.fixture(params=PLANNERS)
def wire(request):
    """Return each of the three APIs in turn."""
    return load("wire").Wire(request.param, PLANNERS[request.param])


@pytest.fixture(scope="session")
def wires():
    """Return all three APIs, by name."""
    return {api: load("wire").Wire(api, planner) for api, planner in PLANNERS.items()}
