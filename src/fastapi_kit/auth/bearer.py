"""Finding the bearer token in a request (RFC 6750, 2.1)."""

import re

from starlette.requests import HTTPConnection

from fastapi_kit.auth.errors import MalformedCredentialsError

__all__ = ["bearer_token"]

_QUERY_TOKEN = re.compile(rb"(?:^|&)access_token=")


def bearer_token(connection: HTTPConnection) -> str | None:
    """Return the token of the Authorization header; `None` where there is none, or another scheme's.

    Raises `MalformedCredentialsError` (400, `invalid_request`) for the scheme without a token or with several, for
    two Authorization headers, and for a token in the query besides: a request uses one method (RFC 6750, 2). A token in
    the query alone is not read, since URLs end up in logs.
    """
    headers = [value for name, value in connection.scope["headers"] if name == b"authorization"]
    if not headers:
        return None
    if len(headers) > 1:
        raise MalformedCredentialsError("Send one Authorization header.")
    scheme, _, rest = headers[0].partition(b" ")
    if scheme.lower() != b"bearer":  # case-insensitive: RFC 9110, 11.1
        return None
    token: bytes = rest.strip(b" ")
    if not token or b" " in token:
        raise MalformedCredentialsError("Send one token: Authorization: Bearer <token>")
    if _QUERY_TOKEN.search(connection.scope["query_string"]):
        raise MalformedCredentialsError("Send the token in the Authorization header alone.")
    return token.decode("latin-1")
