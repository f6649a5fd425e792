"""An authorization server of another make, in a process of its own.

    python authorization_server.py PORT CERTIFICATE CLIENT_ID CLIENT_SECRET

Its keys and tokens are made by joserfc. `/control` sets how it misbehaves and what it says; `/control/...` rotates its
keys, signs anything, and tells what it was asked.
"""

import asyncio
import base64
import gzip
import hashlib
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode

import uvicorn
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

ALGORITHMS = ["RS256", "ES256", "EdDSA"]
CERTIFICATE, CLIENT_ID, CLIENT_SECRET = sys.argv[2:5]

port = int(sys.argv[1])
issuer = f"https://localhost:{port}"
keys: list[Key] = []
"""The published ones; the last one signs."""
behaviour: dict[str, Any] = {}
"""For `jwks` and `configuration` a way to misbehave, or an answer; claims for `id_token`."""
asked: Counter[str] = Counter()
somebody_asked = asyncio.Condition()
codes: dict[str, dict[str, str]] = {}


def new_key(algorithm: str) -> Key:
    parameters: Any = {"kid": secrets.token_hex(4), "use": "sig", "alg": algorithm}
    if algorithm == "RS256":
        return RSAKey.generate_key(2048, parameters)
    return (
        OKPKey.generate_key("Ed25519", parameters) if algorithm == "EdDSA" else ECKey.generate_key("P-256", parameters)
    )


def sign(claims: dict[str, Any], header: dict[str, Any], key: Key) -> str:
    algorithm = key.as_dict(private=False)["alg"]
    now = int(time.time())
    members = {"iss": issuer, "sub": "1", "iat": now - 60, "exp": now + 7 * 24 * 3600} | claims
    named = {"alg": algorithm, "kid": key.kid} | header
    return jws.serialize_compact(
        {name: value for name, value in named.items() if value is not None},
        json.dumps({name: value for name, value in members.items() if value is not None}),
        key,
        algorithms=ALGORITHMS,
    )


async def answer(request: Request, name: str, document: dict[str, Any]) -> Response:
    async with somebody_asked:
        asked[name] += 1
        somebody_asked.notify_all()
    how = behaviour.get(name)
    match how:
        case "hang":
            await asyncio.sleep(3600)
        case "fail":
            return JSONResponse({"error": "down"}, 500)
        case "redirect":
            return RedirectResponse(f"{issuer}/elsewhere", 307)
        case "oversize":
            return Response(json.dumps(document | {"padding": "x" * 2**20}), media_type="application/json")
        case "gzip":
            raw = gzip.compress(json.dumps(document).encode())
            return Response(raw, headers={"content-encoding": "gzip"}, media_type="application/json")
        case "drip":
            return StreamingResponse(drip(), media_type="application/json")
        case str():
            return Response(how, media_type="application/json")
        case dict():
            return JSONResponse(document | how)
    return JSONResponse(document)


async def drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.01)


def public_keys() -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


async def configuration(request: Request) -> Response:
    return await answer(
        request,
        "configuration",
        {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/jwks",
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ALGORITHMS,
            "code_challenge_methods_supported": ["S256"],
        },
    )


async def jwks(request: Request) -> Response:
    return await answer(request, "jwks", public_keys())


async def elsewhere(request: Request) -> Response:
    return await answer(request, "elsewhere", public_keys())


async def authorize(request: Request) -> Response:
    """Consent at once: the user is whoever `id_token` says."""
    query = dict(request.query_params)
    is_code_flow = (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
    if not is_code_flow or query["code_challenge_method"] != "S256" or "openid" not in query["scope"].split():
        return Response("not a request that this server takes", 400)
    code = secrets.token_urlsafe()
    codes[code] = query
    return RedirectResponse(f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}", 302)


async def token(request: Request) -> Response:
    form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
    credentials = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    asked_for = codes.pop(form.get("code", ""), None)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
    if request.headers.get("authorization") != f"Basic {credentials}":
        return JSONResponse({"error": "invalid_client"}, 401)
    if (
        asked_for is None
        or challenge.rstrip(b"=").decode() != asked_for["code_challenge"]
        or form["redirect_uri"] != asked_for["redirect_uri"]
    ):
        return JSONResponse({"error": "invalid_grant"}, 400)
    claims = {"aud": CLIENT_ID, "nonce": asked_for["nonce"]} | behaviour.get("id_token", {})
    answered = {
        "access_token": sign({"aud": "somebody"}, {"typ": "at+jwt"}, keys[-1]),
        "token_type": "Bearer",
        "expires_in": 300,
        "id_token": sign(claims, {"typ": "JWT"}, keys[-1]),
    }
    return JSONResponse({name: value for name, value in answered.items() if name not in behaviour.get("omit", ())})


async def control(request: Request) -> Response:
    behaviour.clear()
    behaviour.update(await request.json())
    return Response()


async def rotate(request: Request) -> Response:
    """Sign with a new key; publish no more than the `published` newest."""
    body = await request.json()
    keys.append(new_key(body["algorithm"]))
    del keys[: -body["published"]]
    return Response()


async def make_token(request: Request) -> Response:
    body = await request.json()
    key = new_key(body["with_a_key_of_nobody"]) if body.get("with_a_key_of_nobody") else keys[-1]
    return Response(sign(body["claims"], body["header"], key))


async def count(request: Request) -> Response:
    """Tell what was asked how often, as soon as `name` was asked at least `times` times."""
    name, times = request.query_params["name"], int(request.query_params["times"])
    async with somebody_asked:
        await somebody_asked.wait_for(lambda: asked[name] >= times)
    return JSONResponse(asked)


app = Starlette(
    routes=[
        Route("/.well-known/openid-configuration", configuration),
        Route("/jwks", jwks),
        Route("/elsewhere", elsewhere),
        Route("/authorize", authorize),
        Route("/token", token, methods=["POST"]),
        Route("/control", control, methods=["POST"]),
        Route("/control/rotate", rotate, methods=["POST"]),
        Route("/control/token", make_token, methods=["POST"]),
        Route("/control/count", count),
    ]
)

if __name__ == "__main__":
    keys.append(new_key("ES256"))
    uvicorn.run(app, host="127.0.0.1", port=port, ssl_certfile=CERTIFICATE, log_level="warning", lifespan="off")
