"""Keys that the header brings or names (RFC 8725, 3.10; CVE-2018-0114)."""

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fastapi_kit.auth import Key
from tests.auth.attacks.forging import Attacks, forged, header, mac
from tests.auth.test_keys import private_pem, public_key
from tests.auth.test_tokens import segment, signed

__all__ = ["HEADERS"]

HEADERS = Attacks()
add = HEADERS.add
kid: Any
value: Any


EVIL = rsa.generate_private_key(65537, 2048)
EVIL_KEY = Key.pem(private_pem(EVIL), "RS256", kid="evil")
EVIL_JWK = EVIL_KEY.public_jwk()
for member, value in {
    "jwk": EVIL_JWK,
    "jwk of the server": public_key("RS256").public_jwk(),
    "jku": "http://127.0.0.1:1/jwks.json",
    "jku with user info": "http://issuer.example@127.0.0.1:1/jwks.json",
    "jku of a file": "file:///etc/passwd",
    "x5u": "http://127.0.0.1:1/cert.pem",
    "x5c": [base64.b64encode(EVIL.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode()],
    "x5t": EVIL_KEY.thumbprint(),
}.items():
    extra = {member.split()[0]: value, "kid": "evil"}
    add(f"header has {member}", forged(header("RS256", **extra), EVIL_KEY.sign), "signature", "RS256")
    add(f"header has {member}, for a secret", forged(header(**extra), mac(b"x" * 32)), "signature")
add(
    "header has a jwk with a secret",
    forged(header(jwk={"kty": "oct", "k": segment(b"x" * 32)}), mac(b"x" * 32)),
    "signature",
)

for kid in (
    "../../../../../../dev/null",
    "/dev/null",
    "/proc/sys/kernel/randomize_va_space",
    "C:\\Windows\\win.ini",
    "file:///dev/null",
    "' UNION SELECT 'key' --",
    "' OR '1'='1",
    "x'; DROP TABLE keys; --",
    "key.pem; sleep 9",
    "$(whoami)",
    "`id`",
    "| whoami",
    "http://127.0.0.1:1/key",
    "${jndi:ldap://127.0.0.1:1/a}",
    "{{7*7}}",
    "%00",
    "\0",
    "a\0b",
    "\r\nX-Evil: 1",
    "",
    " ",
    "*",
    "null",
    "0",
    "__class__",
    "é",
    "\U0001f600",
    "x" * 3000,
):
    for what, secret in {"empty": b"", "'key'": b"key", "a zero": b"0", "a line": b"2\n"}.items():
        shown = ascii(kid[:40])
        add(f"kid {shown}, the key being {what}", forged(header(kid=kid), mac(secret)), "signature")
for kid in (0, 1, True, 1.5, [], ["a"], {}, {"a": 1}):
    add(f"kid is {kid!r}", signed(header(kid=kid)), "header")
