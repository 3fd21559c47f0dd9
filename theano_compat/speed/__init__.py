"""Patches that make programs faster. They change only the last digits of results."""
