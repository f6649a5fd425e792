"""Fetching a JSON document from a server that is not ours, within limits."""

from typing import Any

from fastapi_kit.auth.strict_json import parse_object
from fastapi_kit.errors import needs_extra

with needs_extra("oidc"):
    import httpx2

__all__ = ["MAX_BYTES", "FetchError", "check_url", "fetch_json"]

MAX_BYTES = 256 * 1024
"""A longer document is not read to its end."""

_MAX_URL = 2048

_HEADERS = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}


class FetchError(Exception):
    """Say why a document could not be had, for the log and the operator."""


def check_url(url: str, *, insecure_http: bool) -> None:
    """Raise `ValueError` for what is no absolute https URL; with `insecure_http`, http will do.

    A user and a password in it are refused, since URLs end up in logs.
    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        raise ValueError("it is no URL") from None
    if len(url) > _MAX_URL:
        raise ValueError(f"it has more than {_MAX_URL} characters")
    if parsed.scheme != "https" and not (insecure_http and parsed.scheme == "http"):
        raise ValueError("it must begin with https://")
    if not parsed.host or parsed.userinfo or parsed.fragment:
        raise ValueError("it must have a host, no user and no fragment")


async def fetch_json(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """Return the JSON object at a URL.

    Security: no redirect is followed, since it could lead anywhere; a compressed answer is refused, since a small one
    can be very large; at most `MAX_BYTES` are read. The caller limits the time.

    Raises `FetchError`.
    """
    try:
        return parse_object(await _read(client, url))
    except ValueError as error:
        raise FetchError(f"{url} holds no strict JSON object: {error}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise FetchError(f"{url} cannot be fetched: {type(error).__name__} {error}".rstrip()) from error


async def _read(client: httpx2.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url, headers=_HEADERS, follow_redirects=False) as response:
        if response.status_code != 200:
            raise FetchError(f"{url} answers {response.status_code}, not 200")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise FetchError(f"{url} answers in an encoding that was not asked for")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise FetchError(f"{url} has more than {MAX_BYTES} bytes")
        return bytes(body)
