"""The algorithm: none, and the confusion of families (RFC 8725, 2.1; CVE-2015-9235, CVE-2016-10555, CVE-2017-11424)."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.attacks.forging import KEYS, SIGNATURE, Attacks, forged, header, mac, unsigned
from tests.auth.test_keys import CURVES, ED25519, RSA, private_key, public_key, public_pem
from tests.auth.test_tokens import KEY, SECRET, signed

__all__ = ["ALGORITHMS"]

ALGORITHMS = Attacks()
add = ALGORITHMS.add
value: Any


for name in ("none", "None", "NONE", "nOnE", "NoNe", "none ", " none", "none\0", "", "null", "n\u03bfne"):
    add(f"alg {name!r} with an empty signature", unsigned(header(name)) + ".", "form")
    add(f"alg {name!r} without a signature", unsigned(header(name)), "form")
    add(f"alg {name!r} with the genuine signature", f"{unsigned(header(name))}.{SIGNATURE}", "signature")
    add(f"alg {name!r} signed with an empty key", forged(header(name), mac(b"")), "signature")
    add(f"alg {name!r} against a public key", forged(header(name), b"x"), "signature", "RS256")
for value in (None, 0, 1, True, 1.5, ["HS256"], ["none"], {"alg": "HS256"}, []):
    add(f"alg is {value!r}", forged(header(value), KEY.sign), "algorithm")
add("alg is missing", signed({"typ": "at+jwt"}), "algorithm")
for name in ("hs256", "Hs256", "HS256 ", " HS256", "HS256\0", "HS256\n", "HS-256", "SHA256", "HMACSHA256", "HS1"):
    add(f"alg {name!r} in place of HS256", forged(header(name), KEY.sign), "signature")
for name in ("\u0397S256", "\uff28\uff33\uff12\uff15\uff16", "HS\uff1256", "\u041dS256", "HS25\u200b6", "HS256\u0301"):
    add(f"alg {name!a} is a homoglyph", forged(header(name), KEY.sign), "signature")
for name, digest in (("HS384", "sha384"), ("HS512", "sha512")):
    add(f"alg {name} with the secret of HS256", forged(header(name), mac(SECRET, digest)), "signature")
for name in ("RS256", "ES256", "PS256", "EdDSA", "Ed25519", "ES256K", "dir", "A256KW", "RSA1_5", "RSA-OAEP"):
    add(f"alg {name} with a MAC of the secret", forged(header(name), KEY.sign), "signature")


def confusing_secrets(pair: Any) -> dict[str, bytes]:
    """Return every form in which a public key could have been handed to an HMAC."""
    public = pair.public_key()
    pem = public_pem(pair)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    forms = {
        "PEM": pem,
        "PEM without its last newline": pem.rstrip(b"\n"),
        "PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "PEM on one line": pem.replace(b"\n", b""),
        "base64 of the PEM": base64.b64encode(pem),
        "DER": der,
        "base64 of the DER": base64.b64encode(der),
        "hex of the DER": der.hex().encode(),
        "OpenSSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    }
    algorithm = "RS256" if pair is RSA else "EdDSA" if pair is ED25519 else "ES256"
    jwk = public_key(algorithm).public_jwk()
    forms["JWK"] = json.dumps(jwk).encode()
    forms["compact JWK"] = json.dumps(jwk, separators=(",", ":")).encode()
    forms["JWKS"] = json.dumps({"keys": [jwk]}).encode()
    for member in ("n", "x"):
        if member in jwk:
            forms[f"member {member}"] = jwk[member].encode()
            forms[f"bytes of {member}"] = base64.urlsafe_b64decode(jwk[member] + "==")
    if pair is RSA:
        forms["PKCS1 PEM"] = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)  # CVE-2017-11424
        forms["PKCS1 DER"] = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return forms


for algorithm, pair in (("RS256", RSA), ("PS256", RSA), ("ES256", CURVES["ES256"]), ("EdDSA", ED25519)):
    for form, secret in confusing_secrets(pair).items():
        for name, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
            token = forged(header(name), mac(secret, digest))
            add(f"{algorithm} to {name} confusion with the {form}", token, "signature", algorithm)
for name in ("RS384", "RS512", "PS256", "PS384", "PS512"):
    add(f"{name} by the key of RS256", forged(header(name), private_key(name).sign), "signature", "RS256")
add("RS256 by the key of PS256", forged(header("RS256"), KEYS["RS256"].sign), "signature", "PS256")
add("Ed25519 by the key of EdDSA", forged(header("Ed25519"), KEYS["EdDSA"].sign), "signature", "EdDSA")
add("ES256 by the key of ES512", forged(header("ES256"), KEYS["ES512"].sign), "signature", "ES512")
add(
    "PS256 without a salt",
    forged(
        header("PS256"),
        lambda message: RSA.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 0), hashes.SHA256()),
    ),
    "signature",
    "PS256",
)
add(
    "PS256 with SHA-1",
    forged(
        header("PS256"), lambda message: RSA.sign(message, padding.PSS(padding.MGF1(hashes.SHA1()), 20), hashes.SHA1())
    ),
    "signature",
    "PS256",
)
add("a PKCS1 signature for PS256", forged(header("PS256"), KEYS["RS256"].sign), "signature", "PS256")
add("a PSS signature for RS256", forged(header("RS256"), KEYS["PS256"].sign), "signature", "RS256")
