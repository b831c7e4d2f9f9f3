"""Run one service for each provider once, record its state, and give the recordings to the tests."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.frozen import vidu_scenario, vtrix_scenario
from tests.unit.frozen.provider import Json, Script, provider
from tests.unit.frozen.running import serving, until


@pytest.fixture(scope="session")
def vtrix(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Return the recording of a service with the provider Vtrix."""
    return _once("vtrix", tmp_path_factory, _record_vtrix)


@pytest.fixture(scope="session")
def vidu(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Return the recording of a service with the provider Vidu."""
    return _once("vidu", tmp_path_factory, _record_vidu)


def _record_vtrix(directory: Path) -> Json:
    script = Script(replies=vtrix_scenario.replies())
    vtrix_scenario.prepare(directory)
    with provider(script) as address:
        settings = vtrix_scenario.SETTINGS | {"UPSTREAM_URL": address}
        with serving(directory, script, settings, vtrix_scenario.ROOT) as service:
            vtrix_scenario.play(service)
            return service.recording()


def _record_vidu(directory: Path) -> Json:
    script = Script(replies=vidu_scenario.replies())
    with provider(script) as address:
        settings = vidu_scenario.SETTINGS | {"UPSTREAM_URL": address}
        with serving(directory, script, settings, {}) as service:
            vidu_scenario.play(service)
            return service.recording()


def _once(name: str, factory: pytest.TempPathFactory, record: Callable[[Path], Json]) -> Json:
    """Return a recording; several test processes share the one that the first of them makes."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    kept, claim = shared / f"frozen-{name}.json", shared / f"frozen-{name}.claim"
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        assert until(kept.exists, seconds=120), f"the process that records {name} has failed; see its error"
    else:
        fresh = kept.with_suffix(".part")
        fresh.write_text(json.dumps(record(factory.mktemp(name))))
        fresh.rename(kept)
    found: Json = json.loads(kept.read_text())
    return found
