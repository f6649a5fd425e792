"""Processes for the tests of telemetry: a collector, and an app in uvicorn."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

HERE = Path(__file__).parent

APP = """\
import os

from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel

from fastapi_kit import errors
from fastapi_kit.observability import Telemetry

SECRET = os.environ["SECRET"]
telemetry = Telemetry(
    "shop",
    otlp_endpoint=os.environ.get("COLLECTOR"),
    otlp_headers={"x-api-key": "key-of-the-collector"} if "COLLECTOR" in os.environ else None,
    operation_spans=True,
    flush_timeout_seconds=float(os.environ.get("FLUSH", "20")),
    resource_attributes={"deployment.environment.name": "trial"},
)
app = FastAPI(telemetry=telemetry.config)
errors.install(app)
app.include_router(telemetry.router)
shop = APIRouter(prefix="/shop")
inner = FastAPI()
errors.install(inner)


class Order(BaseModel):
    pieces: int


@shop.get("/items/{item}")
async def read(item: int) -> int:
    return item


@shop.post("/orders")
async def order(order: Order) -> None: ...


@app.get("/health/live")
async def live() -> None: ...


@app.get("/crash")
async def crash() -> None:
    with telemetry.tracer_provider.get_tracer("another instrumentation").start_as_current_span("work") as span:
        span.set_attribute("http.request.header.authorization", [f"Bearer {SECRET}"])
        span.set_attribute("db.query.text", "SELECT 1 FROM users WHERE token = $1")
        span.set_attribute("db.query.parameter.0", SECRET)
        try:
            try:
                int(f"1 {SECRET}")
            except ValueError as error:
                error.add_note(f"seen in {SECRET}")
                raise ExceptionGroup(f"all of {SECRET}", [error, KeyError(SECRET)]) from error
        except ExceptionGroup as error:
            raise LookupError(f"no such token:\\n{SECRET}\\n    {SECRET}") from error


@app.get("/refused")
async def refused() -> None:
    raise HTTPException(403, f"not with {SECRET}")


@inner.get("/items/{item}")
async def mounted(item: str) -> str:
    return item


app.include_router(shop, prefix="/v1")
app.mount("/mounted", inner)
"""


class Collector:
    """A receiver of OTLP in a process of its own; `mode` is `takes`, `refuses` or `hangs`."""

    def __init__(self, folder: Path, mode: str = "takes") -> None:
        self._file = folder / "received.jsonl"
        self._file.touch()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "otlp_receiver.py"), str(self._file), mode], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def pushes(self, path: str | None = None) -> list[dict[str, Any]]:
        got = [json.loads(line) for line in self._file.read_text().splitlines()]
        return [push for push in got if path in {None, push["path"]}]

    def raw(self) -> bytes:
        return b"".join(bytes.fromhex(push["raw"]) + str(push["headers"]).encode() for push in self.pushes())

    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for push in self.pushes("/v1/traces")
            for resource in push["message"]["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def logs(self) -> list[dict[str, Any]]:
        return [
            record
            for push in self.pushes("/v1/logs")
            for resource in push["message"]["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {
            metric["name"]: metric
            for push in self.pushes("/v1/metrics")
            for resource in push["message"]["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for metric in scope["metrics"]
        }


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in of.get("attributes", [])}


class Service:
    """An app in a uvicorn of its own. `stop` sends SIGTERM and gives how long it took, in seconds."""

    def __init__(self, folder: Path, app: str = APP, *options: str, **environment: str) -> None:
        (folder / "shop.py").write_text(app)
        self._log = folder / "log"
        command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", "0", "--app-dir", str(folder), *options]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 60
        while "Uvicorn running on " not in self.log() or "startup complete" not in self.log():
            assert time.monotonic() < deadline, self.log()
            assert self._process.poll() is None, self.log()
            time.sleep(0.02)
        url = self.log().partition("Uvicorn running on ")[2].split()[0]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{urlsplit(url).port}", timeout=60)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> float:
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        return time.monotonic() - began
