"""The forms of pages: their fields and files, and what is wrong with one that no page of this service sent."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

from service.api.problems import Problem, ProblemError
from service.api.request_bodies import BodyReader
from service.dashboard.request_checks import is_own_form
from service.dashboard.unsent_forms import UnsentForm, unsent_form
from service.dashboard.uploads import MULTIPART_TYPE, Upload, read_multipart
from service.domain.errors import BoomerangError, UnreadableBody

FORM_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 2000

FOREIGN_FORM = Problem(status=403, kind="foreign-form", detail="another site sent this form; open the page here")
OLD_FORM = Problem(
    status=403, kind="old-form", detail="this form belongs to a session that ended; go back, reload and send it again"
)


class Form:
    """The fields and files of a submitted form."""

    def __init__(self, pairs: Sequence[tuple[str, str]], files: Sequence[tuple[str, Upload]] = ()) -> None:
        self._pairs = pairs
        self._files = files

    def get(self, name: str, default: str = "") -> str:
        """Return the last value of a field."""
        return next((value for key, value in reversed(self._pairs) if key == name), default)

    def unsent(self, path: str) -> UnsentForm:
        """Return what to send to `path` in another session."""
        return unsent_form(path, self._pairs, self._files)

    def all(self, name: str) -> list[str]:
        """Return all values of a field in their order."""
        return [value for key, value in self._pairs if key == name]

    def pairs(self, *names: str) -> list[tuple[str, str]]:
        """Return the names and values of these fields in the order of the form."""
        return [(key, value) for key, value in self._pairs if key in names]

    def files(self, name: str) -> list[Upload]:
        """Return all files of a field in their order."""
        return [file for key, file in self._files if key == name]


class StaleFormError(ProblemError):
    """A form of a session that ended, which a page of this service sent."""

    def __init__(self, form: UnsentForm) -> None:
        super().__init__(OLD_FORM)
        self.form = form


def content_type(request: Request) -> str:
    """Return the media type of a body without its parameters, in lower case."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def read_form(request: Request, bodies: BodyReader) -> Form:
    """Return the form of a request, with its files. Raises UnreadableBody, and what `bodies` raises."""
    async with bodies.read(request) as body:
        if content_type(request) == MULTIPART_TYPE:
            return Form(*await read_multipart(request.headers, body))
        try:
            return Form(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError as error:
            raise UnreadableBody("the form cannot be read") from error


async def sent_without_session(request: Request, bodies: BodyReader, public_url: str | None) -> UnsentForm | None:
    """Return a form that is small enough to be kept; None for another one, and for one of another site."""
    if content_type(request) not in {FORM_TYPE, MULTIPART_TYPE} or not is_own_form(request, public_url):
        return None
    try:
        found = (await read_form(request, bodies)).unsent(request.url.path)
    except BoomerangError:
        return None
    return found if found.is_small else None
