"""Writes one log line for each event: its task, its type, and the task's status."""

from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on(name="log", attempts=3, timeout=5)
async def log(event: Event, tools: Tools) -> None:
    """Log the event without prompt, payload and URLs, since more people read logs than tasks."""
    tools.log.info(
        "%s task=%s model=%s status=%s outputs=%d event=%s",
        event.type,
        event.task.id,
        event.task.model,
        event.task.status,
        len(event.task.output),
        event.id,
    )
