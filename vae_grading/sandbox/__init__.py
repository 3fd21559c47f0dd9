"""Processes for code that is not trusted, and what they do."""
