"""A bounded memory of what was verified."""

from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["CacheInfo", "VerifiedCache"]

_ValueT = TypeVar("_ValueT")


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """How often the cache answered, how often not, and how full it is."""

    hits: int
    misses: int
    size: int
    max_size: int


class VerifiedCache(Generic[_ValueT]):
    """Keep the values used last, by the digest of what they were made from; 0 keeps none.

    Only what verified is put in, so a flood of forged tokens cannot push the genuine ones out.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._values: dict[bytes, _ValueT] = {}
        self._hits = self._misses = 0
        self._lock = Lock()

    def get(self, digest: bytes) -> _ValueT | None:
        """Return the value and mark it as used; `None` where there is none."""
        with self._lock:
            value = self._values.pop(digest, None)
            if value is None:
                self._misses += 1
            else:
                self._hits += 1
                self._values[digest] = value  # the end of a dict is its newest place
            return value

    def put(self, digest: bytes, value: _ValueT) -> None:
        """Keep a value, in the place of the one that was used longest ago if there is no room."""
        with self._lock:
            self._values[digest] = value
            if len(self._values) > self._max_size:
                del self._values[next(iter(self._values))]

    def info(self) -> CacheInfo:
        """Return the figures so far."""
        return CacheInfo(self._hits, self._misses, len(self._values), self._max_size)
