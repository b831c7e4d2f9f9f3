"""Archives and the content in them."""
