"""Asymmetric keys as JWKs (RFC 7517, RFC 7518, 6; RFC 8037) and as PEM, both ways."""

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from fastapi_kit.auth import base64url
from fastapi_kit.errors import needs_extra

with needs_extra("auth"):
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

__all__ = ["PrivateKey", "PublicKey", "bytes_of", "check_use", "from_jwk", "from_pem", "to_jwk"]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

_MAX_BYTES = 2048
"""What a member of a JWK may have: a modulus of 16384 bits. Larger ones only serve to keep us busy."""

_CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
_CURVE_NAMES = {curve.name: name for name, curve in _CURVES.items()}
_PSS_OID = bytes.fromhex("06092a864886f70d01010a")
_SHA2_OID = re.compile(bytes.fromhex("06096086480165030402") + b"(.)", re.DOTALL)
_SHA2 = {"256": b"\x01", "384": b"\x02", "512": b"\x03"}
_RSA_FACTORS = ("p", "q", "dp", "dq", "qi")


def from_pem(pem: str | bytes, algorithm: str) -> PrivateKey | PublicKey:
    """Return the key of an unencrypted PEM; raise `ValueError` for any other input.

    An RSA key can be bound to PSS and to a hash by its object identifier (RFC 4055, 1.2). `cryptography` reads it as
    any RSA key, so it is here that one is refused for another algorithm.
    """
    try:
        raw = pem.encode() if isinstance(pem, str) else pem
        der = b64decode(raw.split(b"-----")[2])
        key = load_pem_private_key(raw, password=None) if b"PRIVATE KEY" in raw else load_pem_public_key(raw)
    except (ValueError, TypeError, IndexError, AttributeError, UnsupportedAlgorithm):  # the cause may quote the key
        raise ValueError("it cannot be read; give an unencrypted private or a public key") from None
    if not isinstance(key, PrivateKey | PublicKey):
        raise ValueError("it holds no RSA, EC or Ed25519 key")
    if _PSS_OID in der and (algorithm[:2] != "PS" or not set(_SHA2_OID.findall(der)) <= {_SHA2[algorithm[2:]]}):
        raise ValueError(f"it is bound to RSASSA-PSS, and not for {algorithm} (RFC 4055, 1.2)")
    return key


def from_jwk(jwk: Mapping[str, Any]) -> PrivateKey | PublicKey:
    """Return the key of an RSA, EC or Ed25519 JWK, private where it has `d`; raise `ValueError` for any other input."""
    build = _READERS.get(_text(jwk, "kty"))
    if build is None:
        raise ValueError("kty must be RSA, EC or OKP")
    try:
        return build(jwk)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # the library's text may quote the key
        told = error if isinstance(error, _MemberError) else "the members make no valid key"
        raise ValueError(str(told)) from None


def to_jwk(key: PublicKey) -> dict[str, str]:
    """Return the members that RFC 7638, 3.2 requires of a public key, by name in lexical order."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"e": _integer_text(numbers.e), "kty": "RSA", "n": _integer_text(numbers.n)}
    if isinstance(key, ec.EllipticCurvePublicKey):
        point, size = key.public_numbers(), _coordinate_bytes(key.curve)
        x, y = (base64url.encode(value.to_bytes(size, "big")) for value in (point.x, point.y))
        return {"crv": _CURVE_NAMES[key.curve.name], "kty": "EC", "x": x, "y": y}
    return {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(key.public_bytes_raw())}


def check_use(jwk: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a JWK that is not meant for signatures (RFC 7517, 4.2 and 4.3)."""
    if jwk.get("use", "sig") != "sig":
        raise ValueError("its use must be sig")
    private, public = {"sign"}, {"verify"}
    needed = private | public if jwk.get("kty") == "oct" else private if "d" in jwk else public
    operations: object = jwk.get("key_ops", sorted(needed))
    if not isinstance(operations, list) or not needed.issubset(map(str, operations)):
        raise ValueError(f"its key_ops must have {' and '.join(sorted(needed))}")


class _MemberError(ValueError):
    """Its text is ours, so it quotes nothing of the key."""


def _text(jwk: Mapping[str, Any], name: str) -> str:
    value = jwk.get(name)
    return value if isinstance(value, str) else ""


def bytes_of(jwk: Mapping[str, Any], name: str) -> bytes:
    """Return a member that is base64url; raise `ValueError` where it is none, or absent."""
    text = _text(jwk, name)
    try:
        if 0 < len(text) <= _MAX_BYTES * 4 // 3 + 1:
            return base64url.decode(text.encode())
    except ValueError:
        pass
    raise _MemberError(f"{name} must be canonical unpadded base64url (RFC 7518, 2)")


def _integer(jwk: Mapping[str, Any], name: str) -> int:
    raw = bytes_of(jwk, name)
    if raw[0] == 0:  # RFC 7518, 2: the minimum number of octets
        raise _MemberError(f"{name} must be an integer without leading zeros (RFC 7518, 2)")
    return int.from_bytes(raw, "big")


def _integer_text(value: int) -> str:
    return base64url.encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _rsa(jwk: Mapping[str, Any]) -> PrivateKey | PublicKey:
    if "oth" in jwk:
        raise _MemberError("an RSA key of more than two primes is not supported")
    n, public = _integer(jwk, "n"), rsa.RSAPublicNumbers(_integer(jwk, "e"), _integer(jwk, "n"))
    if "d" not in jwk:
        return public.public_key()
    d = _integer(jwk, "d")
    if not any(name in jwk for name in _RSA_FACTORS):  # RFC 7518, 6.3.2: all of them or none
        p, q = rsa.rsa_recover_prime_factors(n, public.e, d)
        dp, dq, qi = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    else:
        p, q, dp, dq, qi = (_integer(jwk, name) for name in _RSA_FACTORS)
    return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, public).private_key()


def _ec(jwk: Mapping[str, Any]) -> PrivateKey | PublicKey:
    curve = _CURVES.get(_text(jwk, "crv"))
    if curve is None:
        raise _MemberError("crv must be P-256, P-384 or P-521")
    size = _coordinate_bytes(curve)
    public = ec.EllipticCurvePublicNumbers(_scalar(jwk, "x", size), _scalar(jwk, "y", size), curve)
    if "d" not in jwk:
        return public.public_key()
    return ec.EllipticCurvePrivateNumbers(_scalar(jwk, "d", size), public).private_key()


def _scalar(jwk: Mapping[str, Any], name: str, size: int) -> int:
    raw = bytes_of(jwk, name)
    if len(raw) != size:
        raise _MemberError(f"{name} must have {size} bytes on this curve (RFC 7518, 6.2)")
    return int.from_bytes(raw, "big")


def _coordinate_bytes(curve: ec.EllipticCurve) -> int:
    return (curve.key_size + 7) // 8


def _okp(jwk: Mapping[str, Any]) -> PrivateKey | PublicKey:
    if jwk.get("crv") != "Ed25519":
        raise _MemberError("crv must be Ed25519")
    public = Ed25519PublicKey.from_public_bytes(bytes_of(jwk, "x"))
    if "d" not in jwk:
        return public
    private = Ed25519PrivateKey.from_private_bytes(bytes_of(jwk, "d"))
    if private.public_key() != public:
        raise _MemberError("d and x must be of one key")
    return private


_READERS = {"RSA": _rsa, "EC": _ec, "OKP": _okp}
