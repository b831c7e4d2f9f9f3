"""The endpoint of callbacks."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope

from service.api.endpoints import CALLBACK_PREFIX
from service.api.ports import Receiver
from service.api.probe_answers import ProbeAnswer, ProbeAnswers
from service.api.problems import Problem, ProblemError, internal_error, problem_of
from service.api.request_bodies import BodyReader
from service.api.request_context import ALREADY_LOGGED, NO_CONTENT, TASK
from service.api.request_work import BACKGROUND, RequestWork
from service.domain.errors import BadSignature, BadToken, BodyTooLarge, KeyMissing, StoreUnavailable, UnreadableBody
from service.domain.tokens import TokenClaims

PATH = f"{CALLBACK_PREFIX}{{token}}"
TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,2048}/?")
METHODS = ("GET", "HEAD", "OPTIONS", "POST")
"""Methods that are served: providers and gateways probe an address with the first three."""

VERDICTS: tuple[tuple[type[Exception], str, str], ...] = (
    (BadToken, "bad_token", "forged"),
    (BadSignature, "bad_signature", "signature"),
    (BodyTooLarge, "body_too_large", "too_large"),
    (UnreadableBody, "refused_unreadable", "unreadable"),
    (KeyMissing, "key_missing", "key_missing"),
    (StoreUnavailable, "store_unavailable", "store_unavailable"),
)
"""The verdict and the reason of each error; a BadToken carries its reason."""

REASONS = {"body_too_large": "too_large", "body_too_slow": "too_slow", "body_incomplete": "incomplete"}
"""The reasons of problems by their kind; others keep it."""

TOKEN_REASONS = frozenset({"forged", "expired", "another_task"})


@dataclass(kw_only=True, slots=True)
class CallbackEndpoint:
    """Receives callbacks: responds 204 only after the receiver has returned, and never 4xx for an internal error.

    `verdicts` counts the callbacks, those without a 204 too, by verdict. `probes` answers those of `boomerang doctor`,
    which are no callbacks.
    """

    receiver: Receiver
    bodies: BodyReader
    probes: ProbeAnswers | None = None
    work: RequestWork = BACKGROUND
    verdicts: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[Route]:
        """Return its routes; the request context serves POST before them."""
        return [Route(path, self.serve, methods=list(METHODS)) for path in (PATH, f"{PATH}/")]

    async def serve(self, request: Request) -> Response:
        """Serve a callback, or respond to a probe of its address, which has no effect."""
        request.state.route = PATH
        if request.method == "POST":
            answer = await self.call_back(request.scope, request.receive)
            return answer.response() if answer else NO_CONTENT
        try:
            self.receiver.verify_token(_segment(request.scope))
        except Exception as error:  # noqa: BLE001 - as for a callback
            return self._refuse(error, request.scope).response()
        return Response(status_code=204, headers={"Allow": ", ".join(METHODS)})

    async def call_back(self, scope: Scope, receive: Receive) -> Problem | ProbeAnswer | None:
        """Receive one callback; return the problem or the answer to a probe to respond with, None for a 204."""
        scope["state"]["route"] = PATH
        try:
            await self.work.prepare()
            # before the body: a forged token costs no memory and no time
            claims = self.receiver.verify_token(_segment(scope))
            try:
                if (body := self.bodies.received(receive)) is not None:
                    await self._record(scope, claims, body)
                else:
                    async with self.bodies.read(Request(scope, receive)) as body:
                        await self._record(scope, claims, body)
            except ProblemError:  # the body is too large or too slow, and what it says is asked at once
                await self.receiver.poll_at_once(claims)
                await self.work.drive(claims.task_id)
                raise
            await self.work.drive(claims.task_id)
        except Exception as error:  # noqa: BLE001 - an internal error must not look like an error of the sender
            return self._probed(error, scope) or self._refuse(error, scope)
        self.verdicts["accepted"] += 1
        return None

    async def _record(self, scope: Scope, claims: TokenClaims, body: bytes) -> None:
        headers: dict[str, str] = {}
        for raw, value in scope["headers"]:
            name, text = raw.decode("latin-1"), value.decode("latin-1")
            # a repeated header is joined, so that the signature check sees each copy
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        state = scope["state"]
        state[TASK] = claims.task_id
        state[ALREADY_LOGGED] = await self.receiver.receive(claims, headers, body)

    def _probed(self, error: Exception, scope: Scope) -> ProbeAnswer | None:
        """Return the answer to a probe, which is refused as a callback; None for anything else."""
        if self.probes is None or not isinstance(error, BadToken | KeyMissing):
            return None
        return self.probes.answer(_raw_segment(scope))

    def counters(self) -> dict[str, Mapping[str, int]]:
        """Return the counters of this process: all callbacks by verdict, and the refused ones by reason."""
        return {"callbacks": self.verdicts, "callbacks_refused": self.receiver.refused}

    def _refuse(self, error: Exception, scope: Scope) -> Problem:
        """Count the refusal, let the receiver leave a trace, and return the problem to respond with."""
        if isinstance(error, ProblemError):
            verdict = error.problem.kind.replace("-", "_")
            reason, problem = REASONS.get(verdict, verdict), error.problem
        else:
            found = next((names for kind, *names in VERDICTS if isinstance(error, kind)), None)
            verdict, reason = found or ("internal_error", "internal_error")
            problem = problem_of(error) if found else internal_error(error, status=503)
        if isinstance(error, BadToken) and error.reason in TOKEN_REASONS:
            reason = error.reason
        self.verdicts[verdict] += 1
        self.receiver.note_refusal(reason, _raw_segment(scope))
        return problem


def _segment(scope: Scope) -> str:
    """Return the last segment of the path as it was sent; raises BadToken if it spells no token."""
    if not TOKEN.fullmatch(scope["path"].removeprefix(CALLBACK_PREFIX)):
        raise BadToken("the path contains no token")
    return _raw_segment(scope)


def _raw_segment(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1").removeprefix("/").partition("/")[2]
