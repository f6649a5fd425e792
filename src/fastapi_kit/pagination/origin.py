"""The request that asked for a page: what the links to its neighbours keep of it, and what its cursors are bound to."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from pydantic_core import CoreSchema
from starlette.requests import HTTPConnection
from starlette.responses import Response

from fastapi_kit.errors import ConfigurationError

__all__ = ["NoField", "Origin"]


class NoField:
    """Base of what params hold, and FastAPI looks at where they have no dependency to make them."""

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> CoreSchema:
        """Raise `ConfigurationError`, which says what is missing."""
        raise ConfigurationError(
            "the params of a page come from a dependency: write Annotated[SkipLimitParams, skip_limit()],"
            " Annotated[PageNumberParams, page_number()] or Annotated[CursorParams, cursor_limit(cursors)]"
        )


@dataclass(frozen=True, slots=True)
class Origin(NoField):
    """`names`: the query parameters that ask for the page; `response`: gets the `Link` header, if one is wanted."""

    connection: HTTPConnection
    names: Collection[str]
    response: Response | None

    def reference(self, changed: Mapping[str, int | str]) -> str:
        """Return the relative reference of another page: the query with what has changed (RFC 3986, 4.2).

        It has no host and no path, so it holds behind every proxy.
        """
        return "?" + urlencode([*self._others(), *changed.items()])

    def list_id(self) -> str:
        """Return what names the list: the path and all other query parameters, in whatever order they come."""
        return json.dumps([self.connection.scope["path"], sorted(self._others())])

    def _others(self) -> list[tuple[str, str]]:
        return [item for item in self.connection.query_params.multi_items() if item[0] not in self.names]
