"""Answers to the probes of `boomerang doctor`, and a small application that answers while no service runs."""

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.endpoints import CALLBACK_PREFIX
from service.domain.ports.signals import Clock
from service.domain.probe_tokens import ProbeTokens

ANSWER_HEADER = "Boomerang-Probe"
"""Header of a response to a probe: its answer."""


@dataclass(frozen=True, kw_only=True)
class ProbeAnswer:
    """The answer to one probe."""

    text: str

    def response(self) -> Response:
        """Return the response: the answer stands in a header and in the body, since a proxy may drop one of them."""
        return Response(self.text, headers={ANSWER_HEADER: self.text}, media_type="text/plain")


@dataclass(frozen=True, kw_only=True)
class ProbeAnswers:
    """Answers probes with `tokens`, which hold the signing keys of this process."""

    tokens: ProbeTokens
    clock: Clock

    def answer(self, segment: str) -> ProbeAnswer | None:
        """Return the answer to the probe that the last segment of a callback address spells, None if it is none."""
        text = self.tokens.answer(segment.rstrip("/"), self.clock.now())
        return ProbeAnswer(text=text) if text else None


def probe_app(answers: ProbeAnswers) -> Starlette:
    """Return an application that answers probes and nothing else."""

    async def serve(request: Request) -> Response:
        answer = answers.answer(request.path_params["token"])
        return answer.response() if answer else Response(status_code=404)

    return Starlette(routes=[Route(f"{CALLBACK_PREFIX}{{token}}", serve, methods=["POST"])])
