"""The seminar's exercises, each a module."""
