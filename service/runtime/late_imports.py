"""Import what a start leaves out, soon after it: the files of a running process may be replaced by those of a release.

A page that is imported only then would mix both releases, and fail until the process is started again.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module

import structlog
from anyio.to_thread import run_sync

DELAY = 1.0
"""Seconds after the start: requests that waited for it come first."""

PAUSE = 0.05
"""Seconds between two modules."""

METRICS = ("service.api.metrics",)
ANSWERS = (
    *METRICS,
    "pydantic.type_adapter",
    "service.api.event_response",
    "service.api.schemas",
    "service.api.request_schemas",
    "service.api.openapi.docs_page",
    "service.api.openapi.document",
    "service.api.video_bodies",
    "service.api.videos",
    "service.api.vtrix_models",
    "service.api.vtrix_tasks",
    "service.api.mcp_tools",
)
"""What answers of the API import late, each after what it imports itself: each is a step."""

PAGES = ("service.dashboard.formats", "service.dashboard.templates", "service.dashboard.plots", "service.dashboard.app")

log = structlog.get_logger("boomerang.runtime")


def late_modules(role: str, *, dashboard: bool) -> Sequence[str]:
    """Return the modules that requests to a process of this role import late, in the order of their import."""
    if role == "worker":
        return METRICS
    return (*ANSWERS, *PAGES) if dashboard else ANSWERS


async def import_late(modules: Sequence[str]) -> None:
    """Import modules in a thread, one after the other, and load the templates if the pages are among them.

    A module that cannot be imported is logged and left to the request that needs it.
    """
    await asyncio.sleep(DELAY)
    for name, step in _steps(modules):
        try:
            await run_sync(step, abandon_on_cancel=True)
        except Exception as error:  # noqa: BLE001 - the process serves everything else
            log.warning("late import failed", imported=name, error=type(error).__name__)
        await asyncio.sleep(PAUSE)
    log.debug("late imports done", modules=len(modules))


def _steps(modules: Sequence[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the name of what is imported, and a function that imports it."""
    for name in modules:
        if name not in sys.modules:
            yield name, partial(import_module, name)
    if PAGES[-1] in modules:
        yield "templates and assets", _load_templates


def _load_templates() -> None:
    from service.dashboard.assets import load_assets  # noqa: PLC0415 - as all that is here
    from service.dashboard.templates import load_templates  # noqa: PLC0415

    load_assets()
    load_templates()
