"""The tokens of a log-in: the form of a refresh token, and the pair that a client gets."""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from fastapi_kit.auth.tokens import IssuedToken

__all__ = ["RefreshToken", "TokenPair"]

_HANDLE_BYTES = 16
_SECRET_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{64}")  # 48 bytes: no padding, no spare bits, so one text for each token


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """base64url(handle || secret). Every token of a log-in has the handle; each has a secret of its own.

    The log-in's id is a hash of the handle. It stands in access tokens and logs, and gives nobody the handle; who
    presents a right handle has held a token of the log-in.
    """

    handle: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> "RefreshToken":
        """Return the first token of a new log-in."""
        return cls(secrets.token_bytes(_HANDLE_BYTES), secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "RefreshToken | None":
        """Return the token that a client sent; `None` for what is none."""
        if not _FORM.fullmatch(text):
            return None
        raw = base64.urlsafe_b64decode(text)
        return cls(raw[:_HANDLE_BYTES], raw[_HANDLE_BYTES:])

    @property
    def session_id(self) -> str:
        """The id of its log-in."""
        return hashlib.sha256(self.handle).hexdigest()[:32]

    @property
    def secret_hash(self) -> str:
        """What a store keeps of it; 256 random bits need no slow hash."""
        return hashlib.sha256(self.secret).hexdigest()

    def successor(self, nonce: str) -> "RefreshToken":
        """Return the token after it: the same one each time, for who has both this token and the nonce."""
        return RefreshToken(self.handle, hmac.digest(self.secret, bytes.fromhex(nonce), "sha256"))

    def text(self) -> str:
        """Return what the client gets."""
        return base64.urlsafe_b64encode(self.handle + self.secret).decode()


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a log-in gives, and each refresh: a short-lived access token, and what gets the next one."""

    access: IssuedToken
    refresh_token: str = field(repr=False)
    refresh_expires_in: int
    """Seconds from now until it ends, unless it is used before."""
    session_id: str
    """The log-in (`sid`): for a list of a user's devices, for `end_session`, for logs."""
