"""The Telegram handler against the stand-in of the Bot API."""
