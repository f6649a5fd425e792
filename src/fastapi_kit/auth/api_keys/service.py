"""Issuing, rotating, revoking and verifying API keys."""

import logging
import math
import re
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from hmac import compare_digest
from types import MappingProxyType
from typing import Any

from fastapi.openapi.models import APIKey
from fastapi.openapi.models import SecurityBase as SchemeModel
from starlette.requests import HTTPConnection

from fastapi_kit.auth.api_keys.checks import check_labels, check_store, limited_scopes, milliseconds_of
from fastapi_kit.auth.api_keys.form import ID_LENGTH, KeyForm
from fastapi_kit.auth.api_keys.info import ApiKeyInfo, NewApiKey, info_of, moment_of
from fastapi_kit.auth.api_keys.store import ApiKeyRecord, ApiKeyStore
from fastapi_kit.auth.checks import checked_duration, checked_subject
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.errors import InvalidApiKeyError, MalformedCredentialsError
from fastapi_kit.auth.keys import Key
from fastapi_kit.errors import ConfigurationError, ConflictError, NotFoundError, Problem, UnavailableError

__all__ = ["ApiKeys"]

_logger = logging.getLogger("fastapi_kit.auth")

_KEY_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MIN_LIFE, _MAX_LIFE = timedelta(seconds=1), timedelta(days=3653)
_MAX_OVERLAP = timedelta(days=90)
_MIN_TOUCH, _MAX_TOUCH = timedelta(seconds=1), timedelta(days=1)
_UNKNOWN = "0" * 64
_NO_SUCH_KEY = "There is no such API key."
_NO_CLAIMS: MappingProxyType[str, Any] = MappingProxyType({})


class ApiKeys:
    """Issue API keys, and let requests authenticate with them: `Auth([tokens, api_keys], load_user)`.

    A key is `prefix_id_secret`, and is sent in a header of its own, never in the URL. The secret has 256 random bits.
    `store` holds an HMAC-SHA256 of the key under `pepper`, a secret of at least 32 bytes that the database does not
    know, so a stolen table opens nothing. Each request looks its key up once, so a revoked key ends at once.

    - `pepper`: checked as the secret of `Key.hmac` is. To replace it, give the new one first and the old ones after
      it: the first hashes, all verify. A key moves to the first at its next use; when every live key was used since
      all workers had the new pepper first, the old one can go. Where workers are replaced one after the other, start
      them with the new pepper in second place, then all with it in first place.
    - `prefix`: 2 to 16 small letters and digits that name your service, and do not change.
    - `header`: where a request has the key.
    - `touch_every`: how old `last_used_at` may get before a request writes it again, a `timedelta` of 1 second to 1
      day.

    The challenge of its 401 is `ApiKey`. That scheme is not registered with IANA, but RFC 9110, 15.5.2 wants one.

    Security: an API key is a bearer credential that lives long: give it scopes and an end. `load_user` decides at each
    request whether its subject may still call. If the store does not answer, the request is a 503.

    Raises `ConfigurationError` for a store that is none, a weak pepper, and values out of these bounds.
    """

    scheme_name = "ApiKey"
    challenge = "ApiKey"
    problems: tuple[type[Problem], ...] = (MalformedCredentialsError, InvalidApiKeyError, UnavailableError)

    def __init__(
        self,
        store: ApiKeyStore,
        pepper: str | bytes,
        *older_peppers: str | bytes,
        prefix: str,
        header: str = "X-API-Key",
        touch_every: timedelta = timedelta(seconds=60),
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_store(store)
        if not _FIELD_NAME.fullmatch(header) or header.lower() in {"authorization", "cookie"}:
            raise ConfigurationError(f"header is {header!r}: name a header that holds the key alone, as X-API-Key does")
        checked_duration("touch_every", touch_every, _MIN_TOUCH, _MAX_TOUCH)
        self.model: SchemeModel = APIKey.model_validate({"in": "header", "name": header})
        self._form = KeyForm(prefix)
        self._peppers = [Key.hmac(one, setting="the pepper") for one in (pepper, *older_peppers)]
        self._store = store
        self._header = header.lower().encode()
        self._touch_ms = _milliseconds(touch_every)
        self._touching: set[str] = set()
        self._touch_from = 0
        self._clock = clock

    async def create(
        self, subject: str, *, name: str = "", scopes: Iterable[str] = (), expires_in: timedelta | None = None
    ) -> NewApiKey:
        """Return a new key for a subject, the id of the user as a string.

        - `name`: what the owner calls it, up to 100 printable characters.
        - `scopes`: what it may do, as in a token. That the owner may do as much is for you to see to.
        - `expires_in`: a `timedelta` of 1 second to 10 years; without it the key has no end.

        Raises `ValueError` for a subject that is no string, empty, longer than 255 characters or not printable, and
        for values out of these bounds; `UnavailableError` (503).
        """
        check_labels(subject, name)
        lifetime = None
        if expires_in is not None:
            lifetime = milliseconds_of("expires_in", expires_in, _MIN_LIFE, _MAX_LIFE)
        new, record = self._new(subject, name, limited_scopes(scopes), lifetime)
        await self._store.add(record)
        return new

    async def rotate(self, key_id: str, *, subject: str, overlap: timedelta = timedelta(days=1)) -> NewApiKey:
        """Return the successor of a key, with its subject, name and scopes; it lives as long as the key was to.

        `subject` is whose key it must be: that of the caller, or for an administrator that of `get`. The key itself is
        good for `overlap` more, a `timedelta` of 0 to 90 days, but never longer than it was; one that has expired gets
        a successor too. A key is rotated once: whoever lost the successor rotates that one. Revoking a key does not
        revoke its successor.

        Raises `NotFoundError` (404) for a key that is unknown, revoked or another subject's; `ConflictError` (409) for
        one that was rotated; `UnavailableError` (503); `ValueError` for a subject that is empty or no string, and for
        another overlap.
        """
        overlap_ms = milliseconds_of("overlap", overlap, timedelta(0), _MAX_OVERLAP)
        record = await self._own(key_id, checked_subject(subject))
        if record.revoked_at is not None:
            raise NotFoundError("The API key was revoked.")
        if record.successor_id is None:
            lifetime = None if record.expires_at is None else record.expires_at - record.created_at
            new, successor = self._new(record.subject, record.name, record.scopes, lifetime)
            ends_at = successor.created_at + overlap_ms
            if record.expires_at is not None:
                ends_at = min(ends_at, record.expires_at)
            if await self._store.replace(key_id, successor, expires_at=ends_at):
                return new
        raise ConflictError("The API key was rotated already, or revoked meanwhile.")

    async def revoke(self, key_id: str, *, subject: str) -> None:
        """End a key at once; no error for one that was revoked.

        `subject` is whose key it must be: that of the caller, or for an administrator that of `get`.

        Raises `NotFoundError` (404) for a key that is unknown or another subject's; `UnavailableError` (503);
        `ValueError` for a subject that is empty or no string.
        """
        await self._own(key_id, checked_subject(subject))
        await self._store.revoke(key_id, self._now())

    async def get(self, key_id: str) -> ApiKeyInfo:
        """Return what may be shown of a key, whoever it is of.

        Security: for administrators and jobs. For users `list` has their own keys.

        Raises `NotFoundError` (404) for a key that is unknown; `UnavailableError` (503).
        """
        return info_of(await self._found(key_id))

    async def list(self, subject: str) -> tuple[ApiKeyInfo, ...]:
        """Return all keys of a subject, newest first, with those that have ended; empty if there was none.

        Raises `ValueError` for a subject that is empty or no string; `UnavailableError` (503).
        """
        return tuple(info_of(record) for record in await self._store.of_subject(checked_subject(subject)))

    def find(self, connection: HTTPConnection, /) -> str | None:
        """Return what the request has in the header, `None` where it has none.

        Raises `MalformedCredentialsError` (400, `invalid_request`) for two such headers.
        """
        values = [value for name, value in connection.scope["headers"] if name == self._header]
        if not values:
            return None
        if len(values) > 1:
            raise MalformedCredentialsError("Send one API key.")
        value: bytes = values[0]
        return value.decode("latin-1")

    async def verify(self, value: str, _: HTTPConnection, /) -> AccessClaims:
        """Return what a key stands for, if it is genuine, not revoked, and has not expired.

        Notes its use where `touch_every` has passed since the last time. If that fails, a warning is logged, and the
        request goes on.

        Raises `InvalidApiKeyError` (401, `invalid_api_key`) for every other string; `UnavailableError` (503).
        """
        key_id = self._form.id_of(value)
        hashes = self._hashes(value)
        record = await self._store.find(key_id)
        known = _UNKNOWN if record is None else record.secret_hash
        is_genuine = True in [compare_digest(one, known) for one in hashes]
        if record is None:
            raise InvalidApiKeyError("unknown")
        if not is_genuine:
            raise InvalidApiKeyError("secret")
        if record.revoked_at is not None:
            raise InvalidApiKeyError("revoked")
        now = self._now()
        if record.expires_at is not None and record.expires_at <= now:
            raise InvalidApiKeyError("expired")
        await self._touch(record, now, hashes[0])
        return AccessClaims(
            record.subject,
            "api_key",
            record.scopes,
            record.id,
            None,
            record.created_at / 1000,
            0,
            math.inf if record.expires_at is None else record.expires_at / 1000,
            _NO_CLAIMS,
        )

    def _new(
        self, subject: str, name: str, scopes: frozenset[str], lifetime: int | None
    ) -> tuple[NewApiKey, ApiKeyRecord]:
        key_id, key = self._form.new()
        now = self._now()
        ends_at = None if lifetime is None else now + lifetime
        record = ApiKeyRecord(key_id, self._hashes(key)[0], subject, name, scopes, now, ends_at)
        return NewApiKey(key, key_id, moment_of(ends_at)), record

    def _hashes(self, key: str) -> tuple[str, ...]:
        # Of the whole key: a hash that is copied to another row makes no key of it.
        return tuple(pepper.sign(key.encode()).hex() for pepper in self._peppers)

    async def _own(self, key_id: str, subject: str) -> ApiKeyRecord:
        record = await self._found(key_id)
        if record.subject != subject:
            raise NotFoundError(_NO_SUCH_KEY)
        return record

    async def _found(self, key_id: str) -> ApiKeyRecord:
        # A client can send a NUL in a path, which PostgreSQL takes for no text.
        record = await self._store.find(key_id) if _KEY_ID.fullmatch(key_id) else None
        if record is None:
            raise NotFoundError(_NO_SUCH_KEY)
        return record

    async def _touch(self, record: ApiKeyRecord, now: int, secret_hash: str) -> None:
        before = now - self._touch_ms
        is_due = record.last_used_at is None or record.last_used_at < before
        if not is_due or now < self._touch_from or record.id in self._touching:
            return
        self._touching.add(record.id)
        try:
            await self._store.touch(record.id, now=now, before=before, secret_hash=secret_hash)
        except Exception as exc:  # noqa: BLE001 (whatever it is, the key is good)
            self._touch_from = now + self._touch_ms  # a store that refuses must not be asked by every request
            _logger.warning("The last use of API key %s was not noted: %s", record.id, type(exc).__name__)
        finally:
            self._touching.discard(record.id)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
