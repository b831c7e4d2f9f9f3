"""The routes of the drop-in APIs: those of the provider and of OpenAI over the use cases of this service."""

from typing import TYPE_CHECKING

from starlette.routing import Route

from service.api.audit import Auditor
from service.api.contents import ContentApi
from service.api.late_routes import LateRoutes
from service.api.task_acceptor import TaskAcceptor

if TYPE_CHECKING:
    from service.api.app import Services

PATHS = r"^/(?:v1/videos|model/v1/generation|api/v1/skill/models|mcp)(?:/.*)?$"


def drop_in_routes(services: "Services", acceptor: TaskAcceptor, contents: ContentApi, auditor: Auditor) -> list[Route]:
    """Return one route that stands for those of every drop-in API."""
    return [LateRoutes(PATHS, lambda: _routes(services, acceptor, contents, auditor))]


def _routes(services: "Services", acceptor: TaskAcceptor, contents: ContentApi, auditor: Auditor) -> list[Route]:
    from service.api.mcp_tools import McpApi  # noqa: PLC0415 - late, as LateRoutes explains
    from service.api.videos import VideoApi  # noqa: PLC0415
    from service.api.vtrix_models import VtrixModelApi  # noqa: PLC0415
    from service.api.vtrix_tasks import VtrixTaskApi  # noqa: PLC0415

    tasks = VtrixTaskApi(
        acceptor=acceptor,
        queries=services.queries,
        blobs=services.blobs,
        notes=services.notes,
        work=services.work,
    )
    models = VtrixModelApi(
        allow_off_peak=services.allow_off_peak, models=services.models, public_url=services.public_url
    )
    videos = VideoApi(
        acceptor=acceptor,
        queries=services.queries,
        notes=services.notes,
        contents=contents,
        erasure=services.erasure,
        work=services.work,
        clock=services.clock,
    )
    agents = McpApi(
        auditor=auditor,
        task_service=services.task_service,
        acceptor=acceptor,
        queries=services.queries,
        notes=services.notes,
        work=services.work,
    )
    return [*tasks.routes(), *models.routes(), *videos.routes(), *agents.routes()]
