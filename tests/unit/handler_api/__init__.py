"""The public API of handlers, over a real store and the real application."""
