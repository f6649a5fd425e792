"""Log-ins that last: pairs of access and refresh tokens, log-out and revocation (RFC 6749, 6; RFC 9700, 4.14)."""

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from datetime import timedelta
from typing import Any

from fastapi_kit.auth.checks import checked_duration, checked_subject
from fastapi_kit.auth.claims import AccessClaims
from fastapi_kit.auth.errors import InvalidGrantError, TokenError
from fastapi_kit.auth.sessions._token import RefreshToken, TokenPair
from fastapi_kit.auth.sessions.checks import check_parts
from fastapi_kit.auth.sessions.rotation import MAX_SKEW_MS, Exchanged, Rotation
from fastapi_kit.auth.sessions.store import SessionRecord, SessionStore
from fastapi_kit.auth.tokens import TokenService
from fastapi_kit.errors import UnavailableError, raises

__all__ = ["Sessions", "TokenPair"]

_MAX_ABSOLUTE = timedelta(days=3653)
_MAX_GRACE = timedelta(milliseconds=MAX_SKEW_MS)
_MAX_SUBJECT = 255
_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_MARGIN_MS = 60 * 60 * 1000  # more than a token's leeway and than clocks that differ
_LONGEST_TOKEN_MS = 24 * 60 * 60 * 1000
_YEAR_MS = 366 * _LONGEST_TOKEN_MS  # log-ins that began when `absolute` was set longer end by then
_END_OF_TIME_MS = 253_402_300_799_000  # the year 9999, for a token that says more


class Sessions:
    """Issue access tokens with refresh tokens, and verify access tokens against log-outs and revocations.

    Give it to `Auth` in place of its `TokenService`. A log-in ends when its refresh token was not used for `idle` (14
    days), or `absolute` (90 days, up to 10 years) after it began, or when it is ended. `idle` is no shorter than the
    `ttl` of the tokens and no longer than `absolute`. All three times are a `timedelta`.

    A refresh token is good once. Who uses one again holds a copy: the log-in is ended, for the thief and for the
    user (RFC 9700, 4.14.2). But a client whose answer was lost, and two tabs that refresh at once, use one again
    too. So for `grace` (10 seconds, 0 to 60) the token before is answered with the successor that it had. With a
    grace of 0, of any number of refreshes at once one succeeds, and the others end the log-in; so does a retry after
    a lost answer.

    Security: a store keeps hashes; nobody makes a token from what it holds. Every access token is checked
    against the store at each request, and `UnavailableError` (503) refuses it when the store does not answer. Give each
    `Sessions` tables or a prefix of its own: a refresh token is good for every `TokenService` over the same store.

    Raises `ConfigurationError` for times out of these bounds, for `tokens` and a `store` that are none.

    >>> import asyncio, secrets
    >>> from fastapi_kit.auth import Key, TokenService
    >>> from fastapi_kit.auth.sessions.memory import MemorySessionStore
    >>> tokens = TokenService(Key.hmac(secrets.token_urlsafe(64)), issuer="https://shop.example", audience="shop")
    >>> sessions = Sessions(tokens, MemorySessionStore(development=True))
    >>> async def log_in_and_refresh() -> str:
    ...     pair = await sessions.start("7", scopes=["orders:read"])
    ...     pair = await sessions.refresh(pair.refresh_token)
    ...     return (await sessions.verify(pair.access.token)).subject
    >>> asyncio.run(log_in_and_refresh())
    '7'
    """

    def __init__(
        self,
        tokens: TokenService,
        store: SessionStore,
        *,
        idle: timedelta = timedelta(days=14),
        absolute: timedelta = timedelta(days=90),
        grace: timedelta = timedelta(seconds=10),
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_parts(tokens, store)
        checked_duration("absolute", absolute, tokens.ttl, _MAX_ABSOLUTE)
        checked_duration("idle", idle, tokens.ttl, absolute)
        checked_duration("grace", grace, timedelta(0), _MAX_GRACE)
        self.tokens = tokens
        self.store = store
        self._idle_ms, self._absolute_ms = _ms(idle), _ms(absolute)
        self._rotation = Rotation(_ms(idle), _ms(grace))
        self._clock = clock

    @property
    def issuer(self) -> str:
        """Who issues the tokens (`iss`): what `Issuers` finds this service by."""
        return self.tokens.issuer

    def using(self, store: SessionStore) -> "Sessions":
        """Return the same over another store: one that works inside your own transaction.

        `await sessions.using(store.within(session)).end_all(user_id)` ends the log-ins if the password change that is
        in the same transaction commits, and else does not.
        """
        other = copy(self)
        other.store = store
        return other

    async def start(
        self,
        subject: str,
        *,
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
    ) -> TokenPair:
        """Begin a log-in, and return its first tokens.

        `subject`, `scopes` and `claims` are those of `TokenService.issue`; a refresh gives the same again.

        Security: a password change may commit between your look at the password and this call. In a log-in of your
        own look the account up again afterwards, and `end_session` if it changed; the routers of the kit do.

        Raises what `TokenService.issue` raises, and `ValueError` for a subject that is no string, has over 255
        characters, or is one that no database can hold; `UnavailableError` (503).
        """
        checked_subject(subject)
        if len(subject) > _MAX_SUBJECT or "\0" in subject or subject != subject.encode("utf-8", "ignore").decode():
            raise ValueError(f"a subject has at most {_MAX_SUBJECT} characters, no NUL and no lone surrogate")
        now = self._now()
        token = RefreshToken.new()
        access = self.tokens.issue(subject, scopes=scopes, claims=claims, session_id=token.session_id)
        epoch = await self.store.epoch(subject)
        record = SessionRecord(
            id=token.session_id,
            subject=subject,
            scopes=access.scopes,
            claims=json.loads(json.dumps(claims or {})),  # as every store gives it back
            epoch=epoch,
            secret_hash=token.secret_hash,
            expires_at=now + self._idle_ms,
            ends_at=now + self._absolute_ms,
        )
        await self.store.add(record)
        return TokenPair(access, token.text(), self._idle_ms // 1000, record.id)

    async def refresh(
        self,
        token: str,
        *,
        scopes: Iterable[str] | None = None,
        check: Callable[[AccessClaims], Awaitable[object]] | None = None,
    ) -> TokenPair:
        """Exchange a refresh token for new tokens.

        `scopes` asks for an access token with fewer than the log-in has; the log-in keeps its own (RFC 6749, 6).
        `check` is awaited with the new claims, before anybody is told the tokens: it raises `TokenError` for a user who
        is gone. Whatever else it raises undoes the refresh, so that a database which is down costs nobody the log-in.

        Raises `InvalidGrantError` (400, `invalid_grant`) for a token that is unknown, expired, ended or used before,
        which ends the log-in; `InvalidScopeError` (400, `invalid_scope`), with which the token stays good; and
        `UnavailableError` (503): try again with the same token, within the grace, since the change may have been
        made and its answer lost. After the grace such a retry counts as used before.
        """
        now = self._now()  # once: who has to wait for the store must not wait the grace away
        presented = RefreshToken.parse(token)
        if presented is None:
            raise InvalidGrantError("unknown")
        asked = None if scopes is None else frozenset(scopes)
        exchanged = await self._rotation.exchange(self.store, presented, asked, now)
        pair = self._pair(exchanged, now)
        if check is not None:
            try:
                await check(self.tokens.verify(pair.access.token))
            except TokenError:
                raise
            except Exception:
                await self._rotation.undo(self.store, presented, exchanged)
                raise
        return pair

    @raises(UnavailableError)
    async def verify(self, token: str) -> AccessClaims:
        """Return what an access token says, if it is valid and neither it nor its log-in was revoked.

        A token that was issued without a log-in is refused if its subject was logged out everywhere in the second
        in which it was issued, or later: `iat` is in whole seconds.

        Raises `TokenError` (401, `invalid_token`), and `UnavailableError` (503) if the store does not answer.
        """
        claims = self.tokens.verify(token)
        session_id = claims.session_id
        if session_id is not None and not _SESSION_ID.fullmatch(session_id):
            raise TokenError("revoked")
        state = await self.store.check(claims.subject, session_id, claims.token_id)
        record = state.session
        if state.is_denied:
            raise TokenError("revoked")
        if session_id is None:
            if state.epoch and (claims.issued_at is None or claims.issued_at * 1000 <= state.epoch):
                raise TokenError("revoked")
        elif record is None or record.subject != claims.subject or record.why_ended(state.epoch, self._now()):
            raise TokenError("revoked")
        return claims

    async def end(self, refresh_token: str) -> None:
        """Log out: end the log-in of a refresh token; its access tokens end with it.

        A token that is unknown or malformed is no error (RFC 7009, 2.2); one that was used before ends the log-in too.

        Raises `UnavailableError` (503).
        """
        token = RefreshToken.parse(refresh_token)
        if token is not None:
            await self.end_session(token.session_id)

    async def end_session(self, session_id: str) -> None:
        """End one log-in by its `sid`, for example another device; an unknown one is no error.

        Security: check that the log-in is the caller's; `AccessClaims.session_id` is that of the request.

        Raises `UnavailableError` (503).
        """
        if _SESSION_ID.fullmatch(session_id):
            await self.store.end(session_id, self._now())

    async def end_all(self, subject: str) -> None:
        """Log out everywhere: end every log-in and every access token that the subject has now.

        Call it when a password changes, and when a user is deactivated or deleted.

        Raises `ValueError` for a subject that is empty or no string; `UnavailableError` (503).
        """
        checked_subject(subject)
        now = self._now()
        kept_for = max(self._absolute_ms, _YEAR_MS) + _LONGEST_TOKEN_MS + _MARGIN_MS
        await self.store.raise_epoch(subject, now=now, keep_until=now + kept_for)

    async def revoke(self, claims: AccessClaims) -> None:
        """Revoke one access token by its `jti`, until it expires; its log-in goes on.

        Raises `ValueError` for a token without a `jti` and for claims that the `TokenService` did not verify, and
        `UnavailableError` (503).
        """
        if claims.token_id is None or claims.issuer != self.tokens.issuer:
            raise ValueError("only a token of our own with a jti can be revoked: end its log-in, or its API key")
        expires_at = int(min(claims.expires_at * 1000, _END_OF_TIME_MS))
        await self.store.deny(claims.token_id, keep_until=expires_at + _MARGIN_MS)

    async def purge(self) -> int:
        """Delete what has expired, and return how many records that were; run it now and then, once a day.

        Redis forgets by itself. Raises `UnavailableError` (503).
        """
        return await self.store.purge(self._now())

    def _pair(self, exchanged: Exchanged, now: int) -> TokenPair:
        record, token, scopes, _ = exchanged
        left = timedelta(milliseconds=max(record.ends_at - now, 1000))  # an access token ends with its log-in
        access = self.tokens.issue(
            record.subject,
            scopes=scopes,
            claims=record.claims,
            ttl=min(self.tokens.ttl, left),
            session_id=record.id,
        )
        return TokenPair(access, token.text(), max(record.expires_at - now, 0) // 1000, record.id)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
