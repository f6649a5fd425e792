"""Extensions and other forms of JOSE (RFC 7515, 4.1.11; RFC 7797; RFC 7516)."""

import json
import zlib
from typing import Any

from tests.auth.attacks.forging import BODY, HEAD, SIGNATURE, Attacks, genuine, header
from tests.auth.test_tokens import CLAIMS, NOW, segment, signed

__all__ = ["EXTENSIONS"]

EXTENSIONS = Attacks()
add = EXTENSIONS.add


EXTENSIONS_OF_THE_HEADER: dict[str, dict[str, Any]] = {
    "b64 false and crit": {"b64": False, "crit": ["b64"]},
    "b64 false alone": {"b64": False},
    "b64 true": {"b64": True},
    "crit of something unknown": {"crit": ["evil"], "evil": True},
    "crit of alg": {"crit": ["alg"]},
    "crit of exp": {"crit": ["exp"], "exp": NOW + 60},
    "crit empty": {"crit": []},
    "crit null": {"crit": None},
    "crit a string": {"crit": "b64"},
    "crit a number": {"crit": 1},
}
for what, more in EXTENSIONS_OF_THE_HEADER.items():
    add(f"header has {what}", signed(header(**more)), "header")
add("payload is not encoded", f"{segment(header(b64=False, crit=['b64']))}.{{'sub':'admin'}}.{SIGNATURE}", "form")
add("payload is detached", f"{HEAD}..{SIGNATURE}", "form")
DEFLATED = zlib.compress(json.dumps(CLAIMS).encode())[2:-4]
add("zip in the header, claims deflated", signed(header(zip="DEF"), DEFLATED), "json")
add("zip bomb", signed(header(zip="DEF"), zlib.compress(b" " * 1_000_000)[2:-4]), "json")
add("cty JWT, a nested token", signed(header(cty="JWT"), genuine("HS256").encode()), "json")
add("cty JWT, ten times nested", signed(header(cty="JWT"), b"e30." * 30), "json")
for name in ("RSA-OAEP", "A256KW", "dir", "ECDH-ES"):
    add(f"JWE with {name}", ".".join([segment(header(name, enc="A256GCM")), *"BCDE"]), "form")
add(
    "PBES2 with two milliard rounds",
    f"{segment(header('PBES2-HS256+A128KW', p2c=2**31 - 1, p2s='AA'))}.e30.AA",
    "signature",
)
add("PBES2 in five segments", ".".join([segment(header("PBES2-HS512+A256KW", p2c=2**31 - 1)), *"BCDE"]), "form")
FLATTENED = {"protected": HEAD, "payload": BODY, "signature": SIGNATURE}
add("flattened JSON serialisation", json.dumps(FLATTENED), "form")
add("general JSON serialisation", json.dumps({"payload": BODY, "signatures": [FLATTENED]}), "form")
add("JSON serialisation around a token", json.dumps({"header.payload.signature": genuine("HS256")}), "form")
