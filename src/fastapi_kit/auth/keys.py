"""Keys for signing and verifying, checked when they are built (RFC 7518, RFC 8725)."""

from collections.abc import Iterable
from typing import Any, Protocol, cast

from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("auth"):
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
    from jose import jwk
    from jose.backends.base import Key as JoseKey

__all__ = ["ALGORITHMS", "Key", "KeySet"]

_HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_RSA = frozenset({"RS256", "RS384", "RS512"})
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}
_MIN_RSA_BITS = 2048
_MIN_DISTINCT_BYTES = 8

ALGORITHMS = frozenset({*_HMAC_BYTES, *_RSA, *_CURVES})
"""The algorithms there are. `none` is not one of them and never will be (RFC 8725, 3.2)."""

_GUESSABLE = ("secret", "password", "changeme", "qwerty", "abcdefgh", "12345678", "09d25e094faa6ca2")
"""What tutorials, templates and keyboards put into secrets; the last is in the FastAPI documentation."""


class _Signature(Protocol):
    """What python-jose's `Key` does for us."""

    def sign(self, message: bytes, /) -> bytes: ...

    def verify(self, message: bytes, signature: bytes, /) -> bool: ...


class Key:
    """One key for one algorithm; build it with `hmac` or `pem`, once, and keep it.

    `kid` names it in the header of tokens, so that several keys can be in use at once. It is public: never derive it
    from a secret.
    """

    def __init__(self, algorithm: str, signature: _Signature, *, kid: str | None, can_sign: bool) -> None:
        if kid is not None and not (kid and len(kid) <= 128 and kid.isascii() and kid.isprintable()):
            raise ConfigurationError(f"kid {kid!r}: use 1 to 128 printable ASCII characters")
        self.algorithm = algorithm
        self.kid = kid
        self.can_sign = can_sign
        self._signature = signature

    @classmethod
    def hmac(
        cls, secret: str | bytes, algorithm: str = "HS256", *, kid: str | None = None, setting: str = "the secret"
    ) -> "Key":
        """Build a key from a secret shared by all who sign and verify; `setting` is what errors call it.

        The secret has at least as many bytes as the hash (RFC 7518, 3.2): 32 for HS256, 48 for HS384, 64 for HS512.
        `python -c "import secrets; print(secrets.token_urlsafe(64))"` makes one that is long enough for all.

        Raises `ConfigurationError` for a secret that is short, known from tutorials or monotonous, for a PEM (a
        public key as an HMAC secret is the algorithm confusion of RFC 8725, 2.1), and for another algorithm. The
        error never shows the secret.
        """
        if algorithm not in _HMAC_BYTES:
            raise ConfigurationError(f"algorithm {algorithm!r} takes no secret: use one of {', '.join(_HMAC_BYTES)}")
        raw = _encoded(secret, setting)
        remedy = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(64))"'
        if len(raw) < _HMAC_BYTES[algorithm]:
            needed = _HMAC_BYTES[algorithm]
            raise ConfigurationError(f"{setting} has {len(raw)} bytes, {algorithm} needs {needed}; {remedy}")
        if b"-----BEGIN" in raw or raw.startswith((b"ssh-", b"ecdsa-")):
            raise ConfigurationError(f"{setting} is a key file, not a secret: use Key.pem, or make a secret")
        letters = raw.decode("latin-1").lower().replace("-", "").replace("_", "").replace(" ", "")
        if any(word in letters for word in _GUESSABLE):
            raise ConfigurationError(f"{setting} is like those of tutorials, which anybody can try; {remedy}")
        if len(set(raw)) < _MIN_DISTINCT_BYTES:
            raise ConfigurationError(f"{setting} repeats a few characters, so it can be guessed; {remedy}")
        return cls(algorithm, jwk.construct(raw, algorithm), kid=kid, can_sign=True)

    @classmethod
    def pem(cls, pem: str | bytes, algorithm: str, *, kid: str | None = None) -> "Key":
        """Build a key from a PEM: a private key signs and verifies, a public one verifies only.

        `algorithm` is RS256, RS384 or RS512 for RSA of at least 2048 bits, or ES256, ES384, ES512 for the curve
        P-256, P-384, P-521. The private key must not be encrypted.

        Raises `ConfigurationError` for a PEM that cannot be read and for a key that does not suit the algorithm.
        """
        if algorithm not in _RSA and algorithm not in _CURVES:
            asymmetric = ", ".join(sorted(ALGORITHMS - set(_HMAC_BYTES)))
            raise ConfigurationError(f"algorithm {algorithm!r} takes no PEM: use one of {asymmetric}")
        raw = pem.encode() if isinstance(pem, str) else pem
        can_sign = b"PRIVATE KEY" in raw
        try:
            material = load_pem_private_key(raw, password=None) if can_sign else load_pem_public_key(raw)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # the cause may quote the key
            raise ConfigurationError("the PEM cannot be read: give an unencrypted private or a public key") from None
        if algorithm in _RSA:
            suits = isinstance(material, rsa.RSAPrivateKey | rsa.RSAPublicKey) and material.key_size >= _MIN_RSA_BITS
            needed = f"an RSA key of at least {_MIN_RSA_BITS} bits"
        else:
            curve = _CURVES[algorithm]
            suits = isinstance(material, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) and isinstance(
                material.curve, curve
            )
            needed = f"a key on the curve {curve.name}"
        if not suits:
            raise ConfigurationError(f"the PEM does not suit {algorithm}: it needs {needed} (RFC 7518)")
        prepared = jwk.construct(cast(Any, material), algorithm)  # it takes cryptography's keys too
        return cls(algorithm, _Pair(prepared) if can_sign else prepared, kid=kid, can_sign=can_sign)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return self._signature.sign(message)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the signature is this key's; `False` for anything that is none."""
        return self._signature.verify(message, signature)

    def __repr__(self) -> str:
        return f"<Key {self.algorithm} kid={self.kid!r}>"


def _encoded(secret: object, setting: str) -> bytes:
    try:
        return secret if isinstance(secret, bytes) else str.encode(secret)  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):
        raise ConfigurationError(f"{setting} must be a str in UTF-8, or bytes, not {type(secret).__name__}") from None


class _Pair:
    """A private key with its public half made once: python-jose would derive it at each verification."""

    def __init__(self, private: JoseKey) -> None:
        self.sign = private.sign
        self.verify = private.public_key().verify


class KeySet:
    """The keys of one issuer: the first one signs, all of them verify.

    To rotate, put the new key first and keep the old one until the last token it signed has expired. A token that
    names a `kid` is tried with that key alone; one that names none, with every key of its algorithm.

    Raises `ConfigurationError` when there is no key, when two keys have the same `kid`, or when there are several
    and one has none.
    """

    def __init__(self, active: Key, *older: Key) -> None:
        kids = [key.kid for key in (active, *older)]
        if older and (None in kids or len(set(kids)) < len(kids)):
            raise ConfigurationError(
                "several keys need a kid each, and no two the same: Key.hmac(secret, kid='2026-11')"
            )
        self.active = active
        self._keys = (active, *older)

    def candidates(self, algorithm: str, kid: str | None) -> Iterable[Key]:
        """Return the keys that may have signed a token with this header; empty if none can."""
        return [key for key in self._keys if key.algorithm == algorithm and kid in (None, key.kid)]
