"""Error responses that are not in the one shape, and what of them is kept when a problem takes their place."""

from starlette.types import Message

__all__ = ["Held", "header_of", "headers_to_keep", "is_foreign"]

_MAX_DETAIL = 200
_OF_A_BODY = frozenset(
    {
        b"content-digest",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-location",
        b"content-md5",
        b"content-type",
        b"digest",
        b"etag",
        b"last-modified",
        b"repr-digest",
        b"trailer",
        b"transfer-encoding",
    }
)
"""Headers that would be wrong about another body. Content-Range stays: on a 416 it is about the resource."""


class Held:
    """A response that is kept back until the app is done: its start, and what may be needed of its body.

    Of text that is the beginning. The page that `debug` makes of a crash comes in one message, so only a page in one
    message is kept: one that is streamed is an endpoint's own.
    """

    def __init__(self, start: Message) -> None:
        self.start = start
        self.text: bytes = b""
        self.page: Message | None = None
        self._is_html = header_of(start["headers"], b"content-type").startswith(b"text/html")

    @property
    def may_be_of_a_crash(self) -> bool:
        """Tell whether an exception may come with it, of which it may tell too much."""
        return bool(self.start["status"] == 500)

    def is_streamed_page(self, message: Message) -> bool:
        """Tell whether the message begins a page that is not `debug`'s."""
        return self._is_html and bool(message.get("more_body", False))

    def add(self, message: Message) -> None:
        """Keep what may be needed of a message of the body."""
        if self._is_html:
            self.page = message
        else:
            self.text += message.get("body", b"")[: _MAX_DETAIL - len(self.text)]


def headers_to_keep(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers that hold for another body too."""
    return [header for header in headers if header[0].lower() not in _OF_A_BODY]


def is_foreign(status: int, headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether an error response has no body, plain text, or the page that `debug` makes of a crash."""
    media_type = header_of(headers, b"content-type")
    if not media_type or media_type.startswith(b"text/plain"):
        return True
    return status == 500 and media_type.startswith(b"text/html")


def header_of(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """Return the first value of a header, by its lower-case name; empty without."""
    for name, value in headers:
        if name == wanted or name.lower() == wanted:
            return value
    return b""
