"""The Discord handler against the stand-in of the API."""
