"""The Slack handler against the stand-in of the Web API."""
