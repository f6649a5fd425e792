"""A collector in its own process: takes OTLP over HTTP, and writes what it got as lines of JSON.

`python otlp_receiver.py FILE MODE`, where MODE is `takes`, `refuses` (500), or `hangs` (never answers). Its first line
of standard output is its port. A line of FILE has the path, the headers, the raw body and the decoded message.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MESSAGES: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        message = MessageToDict(MESSAGES[self.path].FromString(raw))
        got = {"path": self.path, "headers": dict(self.headers.items()), "raw": raw.hex(), "message": message}
        with LOCK, FILE.open("a") as lines:
            lines.write(json.dumps(got) + "\n")
        if MODE == "hangs":
            threading.Event().wait()
        self.send_response(200 if MODE == "takes" else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    FILE, MODE, LOCK = Path(sys.argv[1]), sys.argv[2], threading.Lock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        print(server.server_address[1], flush=True)
        server.serve_forever()
