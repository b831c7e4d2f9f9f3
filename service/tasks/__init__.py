"""The life of a task: accept, submit once, poll, record."""
