"""Verifying access tokens: the kit against PyJWT with the same checks, in turns.

No token is seen twice while the cache remembers it, except where the row says so. PyJWT is used as its documentation
advises, with one instance and keys that were prepared once; it does not know `typ`, so that is checked by hand.
"""

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.data import AUDIENCE, ISSUER, SECRET
from fastapi_kit.auth import Key, TokenService

BLOCKS = 300
TOKENS_IN_A_BLOCK = 20
CACHED, TOKENS = 200, 400
REQUIRED = ["iss", "sub", "aud", "exp", "iat", "jti"]

Verify = Callable[[str], object]
_Pair = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Result:
    """Medians over all blocks: µs a token of PyJWT and of the kit, and the ratio of the second to the first."""

    name: str
    aim: float | None
    pyjwt_us: float
    kit_us: float
    ratio: float


def measure() -> Iterator[Result]:
    """Yield how the kit compares to PyJWT, an algorithm at a time; `aim` is the ratio that we want, if any."""
    pairs: list[tuple[str, _Pair, float | None]] = [
        ("RS256", rsa.generate_private_key(65537, 2048), 0.8),
        ("PS256", rsa.generate_private_key(65537, 2048), None),
        ("ES256", ec.generate_private_key(ec.SECP256R1()), None),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate(), None),
    ]
    yield _compare("HS256", Key.hmac(SECRET), SECRET.encode(), 0.5)
    for algorithm, pair, aim in pairs:
        pem = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        yield _compare(algorithm, Key.pem(pem, algorithm), pair.public_key(), aim)
    yield _compare("HS256", Key.hmac(SECRET), SECRET.encode(), None, is_cached=True)


def _compare(algorithm: str, key: Key, pyjwt_key: Any, aim: float | None, *, is_cached: bool = False) -> Result:
    service = TokenService(
        key, issuer=ISSUER, audience=AUDIENCE, ttl=timedelta(hours=1), cache_size=TOKENS if is_cached else CACHED
    )
    tokens = [service.issue(str(number), scopes=["read", "write"]).token for number in range(TOKENS)]
    verify_pyjwt = _pyjwt(pyjwt_key, algorithm)
    for token in tokens:  # warm up, and fill the cache
        service.verify(token)
        verify_pyjwt(token)
    pyjwt, kit = _rounds(verify_pyjwt, tokens), _rounds(service.verify, tokens)
    blocks: list[tuple[float, float]] = []
    gc.collect()
    gc.freeze()
    for number in range(BLOCKS):
        if number % 2:
            took_pyjwt, took_kit = next(pyjwt), next(kit)
        else:
            took_kit, took_pyjwt = next(kit), next(pyjwt)
        blocks.append((took_pyjwt, took_kit))
    if bool(service.cache_info().hits) is not is_cached:
        raise RuntimeError("the cache answered where it should not, or did not where it should")
    return Result(
        name=f"{algorithm} cached" if is_cached else algorithm,
        aim=aim,
        pyjwt_us=statistics.median(pyjwt for pyjwt, _ in blocks) * 1e6,
        kit_us=statistics.median(kit for _, kit in blocks) * 1e6,
        ratio=statistics.median(kit / pyjwt for pyjwt, kit in blocks),
    )


def _pyjwt(key: Any, algorithm: str) -> Verify:
    codec = jwt.PyJWT({"require": REQUIRED})

    def verify(token: str) -> object:
        decoded = codec.decode_complete(token, key, [algorithm], audience=AUDIENCE, issuer=ISSUER)
        if decoded["header"].get("typ") != "at+jwt":
            raise jwt.InvalidTokenError("typ")
        return decoded["payload"]

    return verify


def _rounds(verify: Verify, tokens: list[str]) -> Iterator[float]:
    """Yield the seconds that one token took, on average over a block; the tokens go round and round."""
    endless = itertools.cycle(tokens)
    while True:
        block = list(itertools.islice(endless, TOKENS_IN_A_BLOCK))
        start = time.perf_counter()
        for token in block:
            verify(token)
        yield (time.perf_counter() - start) / TOKENS_IN_A_BLOCK
