"""Archives in object stores, against real servers of them."""
