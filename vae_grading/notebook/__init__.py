"""A student's notebook: its cells, and running them."""
