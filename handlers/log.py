"""Writes one line about each event: which task, what happened, where it stands."""

from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on(name="log", attempts=3, timeout=5)
async def log(event: Event, tools: Tools) -> None:
    """Log the event; neither prompt nor payload nor address, since logs travel further than tasks."""
    tools.log.info(
        "%s task=%s model=%s status=%s outputs=%d event=%s",
        event.type,
        event.task.id,
        event.task.model,
        event.task.status,
        len(event.task.output),
        event.id,
    )
