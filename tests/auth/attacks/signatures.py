"""The signature: left out, cut, psychic, in another form (CVE-2020-28042, CVE-2022-21449)."""

import base64
import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.auth.attacks.forging import KEYS, Attacks, forged, genuine, header, unsigned
from tests.auth.test_keys import CURVES, RSA
from tests.auth.test_tokens import CLAIMS, segment

__all__ = ["SIGNATURES"]

SIGNATURES = Attacks()
add = SIGNATURES.add


for algorithm in KEYS:
    head, body, signature = genuine(algorithm).split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    add(f"{algorithm}: signature is empty", f"{head}.{body}.", "form", algorithm)
    add(f"{algorithm}: signature and its dot are cut off", f"{head}.{body}", "form", algorithm)
    changed = segment(CLAIMS | {"sub": "admin"})
    add(f"{algorithm}: signature of other claims", f"{head}.{changed}.{signature}", "signature", algorithm)
    for what, other in {
        "half of it": raw[: len(raw) // 2],
        "without its last byte": raw[:-1],
        "with a byte more": raw + b"\0",
        "with a zero before": b"\0" + raw,
        "twice": raw * 2,
        "all zero": bytes(len(raw)),
        "all ones": b"\xff" * len(raw),
        "reversed": raw[::-1],
        "its text": signature.encode(),
        "one zero byte": b"\0",
    }.items():
        add(f"{algorithm}: signature is {what}", forged(header(algorithm), other), "signature", algorithm)

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
for r, s in (
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
    (ORDER, ORDER),
    (ORDER, 1),
    (1, ORDER),
    (ORDER + 1, ORDER + 1),
    (ORDER, 0),
):
    psychic = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    add(f"psychic signature r={r:#x} s={s:#x}", forged(header("ES256"), psychic), "signature", "ES256")
ES256_RAW = KEYS["ES256"].sign(unsigned(header("ES256")).encode())
ES256_DER = CURVES["ES256"].sign(unsigned(header("ES256")).encode(), ec.ECDSA(hashes.SHA256()))
add("ECDSA signature in DER", forged(header("ES256"), ES256_DER), "signature", "ES256")
add("ECDSA signature in DER of r=s=0", forged(header("ES256"), bytes.fromhex("3006020100020100")), "signature", "ES256")
add(
    "ECDSA r and s padded to 48 bytes",
    forged(header("ES256"), bytes(16) + ES256_RAW[:32] + bytes(16) + ES256_RAW[32:]),
    "signature",
    "ES256",
)
add("ECDSA r and s swapped", forged(header("ES256"), ES256_RAW[32:] + ES256_RAW[:32]), "signature", "ES256")
ED25519_RAW = KEYS["EdDSA"].sign(unsigned(header("EdDSA")).encode())
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
add(
    "Ed25519 signature with s plus the order",
    forged(
        header("EdDSA"),
        ED25519_RAW[:32] + (int.from_bytes(ED25519_RAW[32:], "little") + ED25519_ORDER).to_bytes(32, "little"),
    ),
    "signature",
    "EdDSA",
)
add("Ed25519 signature of the neutral point", forged(header("EdDSA"), b"\1" + bytes(63)), "signature", "EdDSA")
for padding_byte in (b"\xff", b"\0"):
    block = (b"\0\1" + padding_byte * 8 + b"\0" + hashlib.sha256(b"x").digest()).ljust(256, b"\0")
    add(f"RSA block as its own signature {padding_byte!r}", forged(header("RS256"), block), "signature", "RS256")
MODULUS = RSA.public_key().public_numbers().n
for what, number in {"0": 0, "1": 1, "the modulus": MODULUS, "the modulus less 1": MODULUS - 1}.items():
    add(f"RSA signature is {what}", forged(header("RS256"), number.to_bytes(256, "big")), "signature", "RS256")
