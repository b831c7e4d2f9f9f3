"""The flows run with few samples, and their figures follow the rules; no test asserts a number of functions."""

from dataclasses import asdict

import pytest

from tests.benchmarks.flows import Figures, figures, flows, functions
from tests.benchmarks.traced import Call


def _call(module: str, name: str) -> Call:
    return Call(at=0, module=module, name=name, tasks=(1,), in_task=True, depth=1)


def test_figures_count_functions_modules_and_changes() -> None:
    """A function counts once; a change is a neighbour in another module or another package."""
    calls = [
        _call("service.one.first", "f"),
        _call("service.one.second", "g"),
        _call("service.two.third", "g.<locals>.<listcomp>"),
        _call("service.two.third", "g.<locals>.<listcomp>"),
        _call("service.one.first", "f"),
        _call("service.fourth", "h"),
    ]
    assert functions(calls)[0] == ("service.one.first", "f")
    assert figures(calls) == Figures(functions=4, named=3, modules=4, calls=6, module_changes=4, package_changes=3)


@pytest.mark.slow
async def test_every_flow_runs_own_functions() -> None:
    """Each flow has functions in several modules, and none of a library."""
    traces = await flows(warm_up=1, samples=1)
    assert set(traces) == {"post", "submission", "callback"}
    for calls in traces.values():
        assert all(each > 1 for each in asdict(figures(calls)).values())
        assert all(module.startswith("service.") for module, _ in functions(calls))
