"""Composable building blocks for FastAPI services; import each one from its own module."""

__version__ = "0.6.0"
