"""Keys for signing and verifying, checked when they are built (RFC 7517, RFC 7518, RFC 8725)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi_kit.auth import base64url
from fastapi_kit.auth.algorithms import (
    ALGORITHMS,
    ASYMMETRIC,
    HMAC_BYTES,
    Signature,
    check_key,
    hmac_signature_of,
    is_key_file,
    public_of,
    signature_of,
)
from fastapi_kit.auth.material import PrivateKey, PublicKey, bytes_of, check_use, from_jwk, from_pem, to_jwk
from fastapi_kit.auth.strict_json import parse_object
from fastapi_kit.errors import ConfigurationError
from fastapi_kit.errors.secrets import secret_bytes

__all__ = ["Key", "KeySet", "VerificationKeys"]


class Key:
    """One key for one algorithm; build it with `hmac`, `pem` or `jwk`, once, and keep it.

    `kid` names it in the header of tokens, so that several keys can be in use at once. It is public: never derive it
    from a secret.
    """

    def __init__(
        self, algorithm: str, signature: Signature, *, kid: str | None, can_sign: bool, public: PublicKey | None
    ) -> None:
        if kid is not None and not (kid and len(kid) <= 128 and kid.isascii() and kid.isprintable()):
            raise ConfigurationError(f"kid {kid!r}: use 1 to 128 printable ASCII characters")
        self.algorithm = algorithm
        self.kid = kid
        self.can_sign = can_sign
        self._signature = signature
        self._public = public

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
        if algorithm not in HMAC_BYTES:
            raise ConfigurationError(f"algorithm {algorithm!r} takes no secret: use one of {', '.join(HMAC_BYTES)}")
        raw = secret_bytes(secret, setting, least=HMAC_BYTES[algorithm], user=algorithm)
        if is_key_file(raw):
            raise ConfigurationError(f"{setting} is a key file, not a secret: use Key.pem, or make a secret")
        return cls(algorithm, hmac_signature_of(raw, algorithm), kid=kid, can_sign=True, public=None)

    @classmethod
    def pem(cls, pem: str | bytes, algorithm: str, *, kid: str | None = None) -> "Key":
        """Build a key from a PEM: a private key signs and verifies, a public one verifies only.

        `algorithm` is one of RS256, RS384, RS512, PS256, PS384, PS512 for RSA of at least 2048 bits, ES256, ES384 or
        ES512 for the curve P-256, P-384 or P-521, and EdDSA, or Ed25519 by its newer name, for Ed25519.

        Raises `ConfigurationError` for a PEM that cannot be read, and for a key that does not suit the algorithm.
        """
        if algorithm not in ASYMMETRIC:
            raise ConfigurationError(
                f"algorithm {algorithm!r} takes no PEM: use one of {', '.join(sorted(ASYMMETRIC))}"
            )
        try:
            return cls._of(from_pem(pem, algorithm), algorithm, kid)
        except ValueError as error:
            raise ConfigurationError(f"the PEM is no key for signatures: {error}") from None

    @classmethod
    def jwk(
        cls, jwk: Mapping[str, Any] | str | bytes, *, algorithm: str | None = None, kid: str | None = None
    ) -> "Key":
        """Build a key from a JWK (RFC 7517), parsed or as JSON: of type RSA, EC, OKP with Ed25519, or oct.

        `algorithm` and `kid` are wanted where its `alg` and `kid` do not name them; an `alg` that differs is refused.
        The key is held to what `pem` and `hmac` want. `use` must be "sig" or absent; `key_ops` must be absent, or have
        "sign" for a private key, "verify" for a public one, both for a secret. Other members are ignored (RFC 7517, 4):
        `x5c` and `x5u` are never looked at.

        Raises `ConfigurationError`, which never shows the key, for any other input.
        """
        try:
            members = _members(jwk)
            name = _algorithm_of(members, algorithm)
            check_use(members)
            named: object = members.get("kid") if kid is None else kid
            if not isinstance(named, str | None):
                raise ValueError("kid must be a string")
            if name in ASYMMETRIC:
                return cls._of(from_jwk(members), name, named)
            if members.get("kty") != "oct":
                raise ValueError(f"it does not suit {name}, which needs kty oct")
            return cls.hmac(bytes_of(members, "k"), name, kid=named, setting="k of the JWK")
        except ValueError as error:
            raise ConfigurationError(f"the JWK is no key for signatures: {error}") from None

    @classmethod
    def _of(cls, key: PrivateKey | PublicKey, algorithm: str, kid: str | None) -> "Key":
        check_key(key, algorithm)
        public = public_of(key)
        return cls(algorithm, signature_of(key, algorithm), kid=kid, can_sign=key is not public, public=public)

    def public_jwk(self) -> dict[str, str]:
        """Return the public half as a JWK, with `alg`, `use` and, where there is one, `kid`.

        Raises `ConfigurationError` for a secret, which is never published.
        """
        named = {} if self.kid is None else {"kid": self.kid}
        return {**self._public_members(), "alg": self.algorithm, "use": "sig", **named}

    def thumbprint(self) -> str:
        """Return the SHA-256 thumbprint of the public half (RFC 7638), which can serve as a `kid`.

        Raises `ConfigurationError` for a secret: what is derived from one must not be public.
        """
        text = json.dumps(self._public_members(), separators=(",", ":"))
        return base64url.encode(hashlib.sha256(text.encode()).digest())

    def _public_members(self) -> dict[str, str]:
        if self._public is None:
            raise ConfigurationError(f"a key for {self.algorithm} is a secret: it has no public half")
        return to_jwk(self._public)

    @property
    def is_secret(self) -> bool:
        """Whether it is shared by all who sign and verify, and so has no public half."""
        return self._public is None

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message; raise `ConfigurationError` if the key is public."""
        if not self.can_sign:
            raise ConfigurationError("this key cannot sign: it is public, so it can only verify")
        return self._signature.sign(message)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the signature is this key's; `False` for anything that is none."""
        return self._signature.verify(message, signature)

    def __repr__(self) -> str:
        return f"<Key {self.algorithm} kid={self.kid!r}>"


def _members(jwk: object) -> Mapping[str, Any]:
    if isinstance(jwk, str | bytes):
        return parse_object(jwk.encode() if isinstance(jwk, str) else jwk)
    if not isinstance(jwk, Mapping):
        raise ValueError("it must be a mapping, or JSON")
    return jwk


def _algorithm_of(jwk: Mapping[str, Any], given: str | None) -> str:
    name = jwk.get("alg", given)
    if given not in (None, name):
        raise ValueError(f"its alg is another one than {given}")
    if not isinstance(name, str) or name not in ALGORITHMS:
        raise ValueError(f"its alg, or algorithm=, must be one of {', '.join(sorted(ALGORITHMS))}")
    return name


class VerificationKeys:
    """Keys that verify. A token that names a `kid` is tried with those of that name, another one with all that suit."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    def candidates(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        """Return the keys that may have signed a token with this header; empty if none can."""
        return [key for key in self._keys if key.algorithm == algorithm and kid in (None, key.kid)]


class KeySet(VerificationKeys):
    """The keys of one issuer: the first one signs, all of them verify.

    To rotate, put the new key first and keep the old one until the last token it signed has expired. A token that
    names a `kid` is tried with that key alone; one that names none, with every key of its algorithm.

    Raises `ConfigurationError` when there is no key, when two keys have the same `kid`, or when there are several
    and one has none.
    """

    def __init__(self, active: Key, *older: Key) -> None:
        given: tuple[object, ...] = (active, *older)
        if wrong := [type(key).__name__ for key in given if not isinstance(key, Key)]:
            raise ConfigurationError(f"KeySet got a {wrong[0]}: give keys one after the other, KeySet(new, old)")
        kids = [key.kid for key in (active, *older)]
        if older and (None in kids or len(set(kids)) < len(kids)):
            raise ConfigurationError(
                "several keys need a kid each, and no two the same: Key.hmac(secret, kid='2026-11')"
            )
        super().__init__((active, *older))
        self.active = active

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public keys as a JWK Set (RFC 7517, 5); secrets are left out."""
        return {"keys": [key.public_jwk() for key in self._keys if not key.is_secret]}
