"""A stream that logs go to, and logging as it was before a test."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastapi_kit.observability import configure_logging
from tests.logging_state import SERVERS, unchanged_logging

__all__ = ["SECRET", "SERVERS", "Alone", "Output", "log", "restored_logging"]

SECRET = "hunter2XQZ"


@contextmanager
def restored_logging() -> Iterator[None]:
    with warnings.catch_warnings(), unchanged_logging():
        yield


class Output(io.StringIO):
    """A stream that counts how often it is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)

    def lines(self) -> list[dict[str, Any]]:
        said = self.getvalue()
        assert said.endswith("\n")
        assert said.isascii()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said)
        lines = said.splitlines()
        assert len(lines) == said.count("\n") == self.writes
        return [json.loads(line, parse_constant=pytest.fail) for line in lines]

    def line(self) -> dict[str, Any]:
        [line] = self.lines()
        return line


log = logging.getLogger("shop")


class Alone(Output):
    """The output of a logger that pytest does not see, whose own handlers raise at what they cannot show."""

    def __init__(self) -> None:
        super().__init__()
        self.log = logging.Logger("shop")  # noqa: LOG001
        self.log.addHandler(configure_logging(stream=self))
