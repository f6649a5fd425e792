"""Collect the examples in Markdown and in docstrings as tests, each file in an empty folder of its own."""

import contextlib
import os
import random
import secrets
import tempfile
from typing import Any
from unittest import mock

import structlog
from opentelemetry.exporter.otlp.common import http as otlp_http
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

from tests.logging_state import unchanged_logging

_FOLDER = "_sybil_folder"

# Its threads outlive the test that started them, and Hypothesis minds who else draws from the shared generator.
setattr(otlp_http, "random", random.Random())  # noqa: B010, S311  # a module, for type checkers


def _enter_folder(namespace: dict[str, Any]) -> None:
    folder = contextlib.ExitStack()
    folder.enter_context(contextlib.chdir(folder.enter_context(tempfile.TemporaryDirectory())))
    drawn = {name: secrets.token_urlsafe(64) for name in ("SECRET_KEY", "CURSOR_SECRET")}
    folder.enter_context(mock.patch.dict(os.environ, drawn))
    folder.callback(structlog.reset_defaults)
    folder.enter_context(unchanged_logging())
    namespace[_FOLDER] = folder
    namespace["__name__"] = "__main__"  # as in a script; Pydantic takes no object of a class from `builtins`


def _leave_folder(namespace: dict[str, Any]) -> None:
    namespace[_FOLDER].close()


_markdown = Sybil(
    name="markdown",
    parsers=[PythonCodeBlockParser(), SkipParser()],
    pattern="*.md",
    setup=_enter_folder,
    teardown=_leave_folder,
)
_docstrings = Sybil(
    name="docstring",
    parsers=[DocTestParser()],
    path="src",
    pattern="*.py",
    setup=_enter_folder,
    teardown=_leave_folder,
)

pytest_collect_file = (_markdown + _docstrings).pytest()
