"""The dashboard: builds the pages over the services of the API."""

from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from service.api.app import Services
from service.api.audit import Auditor
from service.api.problems import Problem
from service.api.request_bodies import MB, BodyLimits, BodyReader
from service.dashboard.assets import asset_routes
from service.dashboard.attention import AttentionPage
from service.dashboard.audit import AuditPage
from service.dashboard.bulk import BulkPage
from service.dashboard.circuits import CircuitsPage
from service.dashboard.deliveries import DeliveriesPage
from service.dashboard.delivery_replays import DeliveryReplays
from service.dashboard.endpoint_actions import EndpointActions
from service.dashboard.endpoint_pages import EndpointPages
from service.dashboard.figures import LatestFigures
from service.dashboard.handlers import HandlersPage
from service.dashboard.health import HealthPage
from service.dashboard.layout import Layout
from service.dashboard.new_task import NewTaskPage
from service.dashboard.sign_in import SignIns
from service.dashboard.task_list import TaskListPage
from service.dashboard.task_page import TaskPage
from service.domain.ports.audit import EndedSignIns
from service.domain.ports.delivery_details import DeliveryDetails
from service.domain.ports.health_samples import HealthSamples
from service.domain.ports.overview import Overview
from service.domain.ports.prices import PriceList
from service.domain.session_tokens import SessionTokens
from service.domain.submission_limits import Limits

FORM_BODIES = BodyLimits(max_bytes=MB // 4, max_total_bytes=4 * MB, receive_timeout=10, memory_timeout=20)
"""Of forms without files, and of those that are kept until their author has signed in again."""


@dataclass(kw_only=True)
class Dashboard:
    """Implements `Pages`: the pages, and the sessions of the browsers that are signed in.

    `tokens` creates the tokens of sessions and forms; `sign_ins` stores which sessions and links ended. The other ports
    read what only pages show.
    """

    services: Services
    tokens: SessionTokens
    sign_ins: EndedSignIns
    prices: PriceList
    details: DeliveryDetails
    overview: Overview
    samples: HealthSamples
    limits: Limits
    _layout: Layout = field(init=False)
    _sessions: SignIns = field(init=False)
    _routes: list[Route] = field(init=False)

    def __post_init__(self) -> None:
        services = self.services
        self._layout = layout = Layout(
            tokens=self.tokens,
            auditor=Auditor(audit_log=services.audit_log, clock=services.clock),
            clock=services.clock,
            bodies=BodyReader(FORM_BODIES),
            public_url=services.public_url,
        )
        keys = list(services.api_keys)
        endpoint_pages = EndpointPages(layout=layout, services=services)
        self._sessions = SignIns(layout=layout, tokens=self.tokens, ended=self.sign_ins, api_keys=keys)
        self._routes = [
            *asset_routes(),
            *self._sessions.routes(),
            *self._attention(layout).routes(),
            *TaskListPage(layout=layout, services=services).routes(),
            *NewTaskPage(layout=layout, services=services, prices=self.prices).routes(),
            *BulkPage(layout=layout, services=services).routes(),
            *TaskPage(layout=layout, services=services, details=self.details).routes(),
            *CircuitsPage(layout=layout, services=services).routes(),
            *HandlersPage(layout=layout, services=services).routes(),
            *DeliveryReplays(layout=layout, services=services).routes(),
            *DeliveriesPage(layout=layout, services=services, details=self.details).routes(),
            *endpoint_pages.routes(),
            *EndpointActions(pages=endpoint_pages).routes(),
            *HealthPage(layout=layout, services=services, samples=self.samples, limits=self.limits).routes(),
            *AuditPage(layout=layout, audit_log=services.audit_log).routes(),
        ]

    def _attention(self, layout: Layout) -> AttentionPage:
        services = self.services
        figures = LatestFigures(health=services.health, clock=services.clock, each=services.budget_each)
        return AttentionPage(
            layout=layout, services=services, overview=self.overview, figures=figures, budget=self.limits.budget
        )

    def routes(self) -> list[Route]:
        """Return the routes of all pages."""
        return self._routes

    async def session(self, request: Request) -> tuple[str, str] | None:
        """Return the key id and the id of the session of a request, None without a valid one."""
        return await self._sessions.session(request)

    def problem_page(self, problem: Problem, scope: Scope) -> Response:
        """Return a page of a problem that is not one of a page: of an unknown address, a method, an internal error."""
        return self._layout.other_problem(Request(scope), problem)
