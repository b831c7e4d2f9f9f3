"""What chat handlers write: progress, ends and faults of tasks in plain words. Shared by the chat handlers."""

from collections.abc import Sequence

from service import Fault, InvalidTask, TaskView

MB = 1_000_000

ERRORS = {
    "content": "The provider's content policy refused the prompt or a picture. Change the words or the pictures, "
    "and send the command again.",
    "input": "The provider could not use the request. Change it as follows, and send the command again.",
    "credit": "The account of this service at the provider is empty. Inform its operator; your request is fine.",
    "provider": "The provider failed. Your request is fine: send the command again in a few minutes.",
    "timeout": "The provider took too long. Send the command again, perhaps with a shorter video.",
    "unknown": "The video could not be made. Send the command again; if it fails again, inform the operator.",
}
SHOWN_KINDS = frozenset({"content", "input", "unknown"})
"""Kinds whose message of the provider helps the user."""

SUBJECTS = {"images": "Pictures", "prompt": "Prompt", "duration": "Duration", "videos": "Videos", "": "Request"}
NUMBERED = {"images": "Picture", "videos": "Video"}
MAX_MESSAGE = 300
MAX_FAULTS = 8


def is_open(task: TaskView) -> bool:
    """Return whether a task may still change by itself."""
    return task.status in {"queued", "submitting", "in_progress", "in_doubt"}


def progress_text(task: TaskView) -> str:
    """Return what an unfinished task does now."""
    if task.status == "in_doubt":
        return "The provider did not confirm the request. Waiting for its answer."
    if task.status == "in_progress":
        done = f" {task.progress:.0%}" if task.progress else ""
        return f"Making the video…{done}"
    return f"Waiting: {task.note}." if task.note else "Waiting in the queue…"


def end_text(task: TaskView) -> str:
    """Return how a task ended without a result, and what its user can do."""
    if task.status == "canceled":
        return "Canceled."
    if task.status == "expired":
        return "The provider has not finished in time. If a result still arrives, it is sent here."
    error = task.error or {}
    kind = str(error.get("kind") or "unknown")
    text = ERRORS.get(kind, ERRORS["unknown"])
    message = str(error.get("message") or "").strip()
    if message and kind in SHOWN_KINDS:
        text += f"\n\nThe provider says: {shorten(message, MAX_MESSAGE)}"
    return f"{text}\n\nTask {task.id}"


def fault_text(error: InvalidTask) -> str:
    """Return the faults of a request that was not accepted, a line each."""
    faults = list(error.faults)
    lines = [f"• {_fault_line(fault)}" for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        lines.append(f"• and {len(faults) - MAX_FAULTS} more")
    return "\n".join(("The request was not accepted:", *lines, "Change it and send the command again."))


def _fault_line(fault: Fault) -> str:
    parts: Sequence[object] = [part for part in fault.loc if part != "params"]
    name = str(parts[0]) if parts else ""
    subject = SUBJECTS.get(name, name)
    if len(parts) > 1 and isinstance(parts[1], int):
        subject = f"{NUMBERED.get(name, subject)} {parts[1] + 1}"
    return f"{subject}: {shorten(fault.msg, MAX_MESSAGE)}"


def cap_text(scope: str, cap: int) -> str:
    """Return the refusal of a cap of `scope`, `user` or `chat`."""
    who = "You have" if scope == "user" else "This chat has"
    videos = "video" if cap == 1 else "videos"
    all_of = "the one" if cap == 1 else f"all {cap}"
    return f"{who} used {all_of} {videos} of today. A new day begins at 00:00 UTC."


def link_text(url: str, size: int | None, days: int | None) -> str:
    """Return the message with the address of a result that is too large for the platform."""
    large = f"The video is too large for this chat ({size / MB:.0f} MB)." if size else "The video cannot be sent here."
    until = f"for {days} days" if days else "for a short time only"
    return f"{large} Download it here, {until}:\n{url}"


def shorten(text: str, limit: int) -> str:
    """Return `text` with at most `limit` UTF-16 code units, which is how chats count."""
    if utf16_length(text) <= limit:
        return text
    cut = text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", "ignore")
    return f"{cut.rstrip()}…"


def utf16_length(text: str) -> int:
    """Return the number of UTF-16 code units; a lone surrogate counts as one."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
