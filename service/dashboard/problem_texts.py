"""What pages of problems say beside the detail of the problem: a title, and what to do."""

from http import HTTPStatus

from service.api.problems import Problem

TITLES = {
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible at this address",
    422: "Something in it is wrong",
    500: "Something failed here",
    503: "Not available right now",
}
HINTS = {
    404: "Check the address for a mistake.",
    405: "It belongs to a form of a page, which shows what became of it.",
    500: "Whether the last action was done is on the page of what it was about: look there first.",
    503: "Nothing was changed. Try again in a moment.",
}
GONE = "It may have been deleted after its retention, or belong to another client."
"""The hint where an address is one of a page, and what it names is not there."""


def title_of(problem: Problem) -> str:
    """Return the title of the page of a problem."""
    return TITLES.get(problem.status) or HTTPStatus(problem.status).phrase.capitalize()


def hint_for(problem: Problem) -> str:
    """Return what to add to the detail of a problem, an empty text for nothing."""
    return GONE if problem.kind == "not-found" else HINTS.get(problem.status, "")
