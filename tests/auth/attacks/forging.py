"""How the attacks of the lists are written down: by name, with the token that is sent and the reason why it fails.

The lists: RFC 8725, the JWT pages of PortSwigger and of OWASP's cheat sheets, Auth0's "critical vulnerabilities", the
playbook of jwt_tool, Wycheproof's JSON web signatures, and the CVEs of JWT libraries.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi_kit.auth import Key, KeySet, TokenService
from tests.auth.test_keys import private_key
from tests.auth.test_tokens import CLAIMS, KEY, segment, service, signed

__all__ = [
    "BODY",
    "HEAD",
    "KEYS",
    "SERVICES",
    "SIGNATURE",
    "Attack",
    "Attacks",
    "forged",
    "genuine",
    "header",
    "mac",
    "unsigned",
]

KEYS: dict[str, Key] = {
    "HS256": KEY,
    **{algorithm: private_key(algorithm) for algorithm in ("RS256", "PS256", "ES256", "ES512", "EdDSA")},
}
SERVICES: dict[str, TokenService] = {algorithm: service(KeySet(key)) for algorithm, key in KEYS.items()}


def header(algorithm: Any = "HS256", **more: Any) -> dict[str, Any]:
    return {"alg": algorithm, "typ": "at+jwt", **more}


def unsigned(head: Any, claims: Any = CLAIMS) -> str:
    return f"{segment(head)}.{segment(claims)}"


def forged(head: Any, signature: bytes | Callable[[bytes], bytes], claims: Any = CLAIMS) -> str:
    message = unsigned(head, claims)
    raw = signature if isinstance(signature, bytes) else signature(message.encode())
    return f"{message}.{segment(raw)}"


def genuine(algorithm: str, **more: Any) -> str:
    return signed(header(algorithm, **more), key=KEYS[algorithm])


def mac(secret: bytes | str, digest: Any = hashlib.sha256) -> Callable[[bytes], bytes]:
    raw = secret.encode() if isinstance(secret, str) else secret
    return lambda message: hmac.new(raw, message, digest).digest()


@dataclass(frozen=True)
class Attack:
    name: str
    token: str
    reason: str
    on: str = "HS256"
    """The algorithm of the service that is attacked."""


class Attacks(list[Attack]):
    def add(self, name: str, token: str, reason: str, on: str = "HS256") -> None:
        self.append(Attack(name, token, reason, on))


HEAD, BODY, SIGNATURE = genuine("HS256").split(".")
