"""The algorithms that sign, and which key suits which (RFC 7518, 3; RFC 8037; RFC 9864)."""

from typing import Any, Protocol, cast

from fastapi_kit.auth.material import PrivateKey, PublicKey
from fastapi_kit.errors import needs_extra

with needs_extra("auth"):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from jose import jwk
    from jose.backends.base import Key as JoseKey
    from jose.backends.native import HMACKey
    from jose.utils import is_pem_format, is_ssh_key

__all__ = [
    "ALGORITHMS",
    "ASYMMETRIC",
    "HMAC_BYTES",
    "Signature",
    "check_key",
    "hmac_signature_of",
    "is_key_file",
    "public_of",
    "signature_of",
]

HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""How long a secret is at least: as long as its hash (RFC 7518, 3.2)."""

_PKCS1 = frozenset({"RS256", "RS384", "RS512"})
_PSS: dict[str, hashes.HashAlgorithm] = {"PS256": hashes.SHA256(), "PS384": hashes.SHA384(), "PS512": hashes.SHA512()}
_CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_ED25519 = frozenset({"EdDSA", "Ed25519"})
"""One signature under two names: the old one says no curve, the new one does (RFC 9864). A key goes by one of them."""

ASYMMETRIC = frozenset({*_PKCS1, *_PSS, *_CURVES, *_ED25519})
"""Those with a public key."""

ALGORITHMS = frozenset({*HMAC_BYTES, *ASYMMETRIC})
"""The algorithms there are. `none` is not one of them and never will be (RFC 8725, 3.2)."""

_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 16384
_MAX_EXPONENT_BITS = 64

_ROCA = {
    prime: {pow(65537, exponent, prime) for exponent in range(prime)}
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
}
"""The fingerprint of a faulty chip: its moduli are powers of 65537 modulo small primes. Few others are, one in 2^28."""


class Signature(Protocol):
    """What signs and verifies: python-jose's `Key`, where it has the algorithm."""

    def sign(self, message: bytes, /) -> bytes:
        """Return the signature of a message; undefined for a public key."""
        ...

    def verify(self, message: bytes, signature: bytes, /) -> bool:
        """Tell whether a signature is this key's; `False` for anything that is none."""
        ...


def public_of(key: PrivateKey | PublicKey) -> PublicKey:
    """Return the public half of a key, which may be it."""
    return key.public_key() if isinstance(key, PrivateKey) else key


def check_key(key: PrivateKey | PublicKey, algorithm: str) -> None:
    """Raise `ValueError` if a key does not suit an asymmetric algorithm, or is weak."""
    public = public_of(key)
    if algorithm in _CURVES:
        curve = _CURVES[algorithm].name
        needed, suits = f"a key on the curve {curve}", _curve(public) == curve
    elif algorithm in _ED25519:
        needed, suits = "an Ed25519 key", isinstance(public, Ed25519PublicKey)
    else:
        needed, suits = "an RSA key", isinstance(public, rsa.RSAPublicKey)
    if not suits:
        raise ValueError(f"{algorithm} needs {needed} (RFC 7518)")
    if isinstance(public, rsa.RSAPublicKey):
        _check_rsa(public.public_numbers())


def _check_rsa(numbers: rsa.RSAPublicNumbers) -> None:
    """Raise `ValueError` for a modulus that can be factored, and for what makes each verification slow.

    OpenSSL takes no modulus over 16384 bits, and no exponent over 64 with a large one. With an exponent of 1 anybody
    could sign. One of 3 is allowed: what is said against it is true where the padding is checked loosely, and OpenSSL
    compares all of it.
    """
    if not _MIN_RSA_BITS <= numbers.n.bit_length() <= _MAX_RSA_BITS:
        raise ValueError(f"an RSA key has {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits (RFC 7518, 3.3)")
    if not (3 <= numbers.e < 1 << _MAX_EXPONENT_BITS and numbers.e % 2):
        raise ValueError(f"the exponent of an RSA key is odd, 3 or more, and has at most {_MAX_EXPONENT_BITS} bits")
    if all(numbers.n % prime in powers for prime, powers in _ROCA.items()):
        raise ValueError("this RSA key was made by a faulty chip and can be factored (CVE-2017-15361): make a new one")


def _curve(key: PublicKey) -> str | None:
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else None


def is_key_file(secret: bytes) -> bool:
    """Tell whether a secret is the text of a key file: a public key as a secret is the confusion of RFC 8725, 2.1."""
    return b"-----BEGIN" in secret or is_pem_format(secret) or is_ssh_key(secret)


def hmac_signature_of(secret: bytes, algorithm: str) -> Signature:
    """Return what signs with a secret.

    It is python-jose's key on the standard library, which takes two thirds of the time of the one on `cryptography`
    and compares in constant time as well.
    """
    return cast(Signature, HMACKey(secret, algorithm))


def signature_of(key: PrivateKey | PublicKey, algorithm: str) -> Signature:
    """Return what signs with a key that suits the algorithm; with a public one it only verifies."""
    if algorithm in _ED25519:
        return _OfCryptography(key)
    if algorithm in _PSS:
        hash_ = _PSS[algorithm]  # the salt is as long, when signing and when verifying: RFC 7518, 3.5
        return _OfCryptography(key, padding.PSS(padding.MGF1(hash_), hash_.digest_size), hash_)
    public = public_of(key)
    verifying = jwk.construct(cast(Any, public), algorithm)  # it takes cryptography's keys too
    return verifying if key is public else _Pair(jwk.construct(cast(Any, key), algorithm), verifying)


class _OfCryptography:
    """A key for what python-jose lacks: EdDSA, and PS256 to PS512."""

    def __init__(self, key: PrivateKey | PublicKey, *settings: object) -> None:
        self._private: Any = key
        self._public: Any = public_of(key)
        self._settings = settings

    def sign(self, message: bytes) -> bytes:
        signed: bytes = self._private.sign(message, *self._settings)
        return signed

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._public.verify(signature, message, *self._settings)
        except InvalidSignature:
            return False
        return True


class _Pair:
    """A private key with its public half made once: python-jose would derive it at each verification."""

    def __init__(self, private: JoseKey, public: JoseKey) -> None:
        self.sign = private.sign
        self.verify = public.verify
