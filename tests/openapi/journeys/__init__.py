"""Journeys with generated clients: submit, wait, result, history. Each runs in a process of its own."""
