"""The demo's HTTP server: one page, and the answers to its requests."""

import ipaddress
import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mnist_jax.demo.app import App, RequestError
from mnist_jax.errors import UserError

_MOST_BYTES = 64_000_000  # of a photograph
# The page is self-contained: the browser must load nothing else.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'"
)
# Pages of other origins must ask before they send these, and are refused.
_BINARY, _JSON = "application/octet-stream", "application/json"


class Server(ThreadingHTTPServer):
    """Serves the demo, at any free port if `port` is 0.

    Raises:
        UserError: the port is in use, or the address is not one of this machine.
    """

    daemon_threads = True

    def __init__(self, app: App, *, host: str, port: int):
        self.app = app
        self.handlers = {
            "/predict": (app.predict, _BINARY),
            "/read": (app.read, _BINARY),
            "/correct": (app.correct, _JSON),
        }
        try:
            super().__init__((host, port), _Requests)
        except OSError as error:
            raise UserError(
                f"Cannot listen at --host={host} --port={port}: {error.strerror}. "
                "--port=0 takes any port that is free."
            ) from error
        self.port = self.server_address[1]
        self.address = f"http://{host}:{self.port}"
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}

    def knows(self, host: str) -> bool:
        """Return whether the Host of a request is this server.

        The name of another site can be made to lead here (DNS rebinding), but not an
        IP address.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error in a thread, unless the browser has just gone away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Requests(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    server: Server  # type: ignore
    timeout = 30  # seconds, for the next bytes
    protocol_version = "HTTP/1.1"  # keeps the connection
    # Otherwise an answer's body would wait until its headers are acknowledged.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send the page."""
        if not self.server.knows(self.headers.get("Host", "")):
            self._send_error(403, "not the address of this demo")
        elif urlsplit(self.path).path != "/":
            self._send_error(404, "there is only one page: /")
        else:
            self._send(200, "text/html; charset=utf-8", self.server.app.page())

    def do_POST(self) -> None:
        """Answer the page's script."""
        try:
            answer = self._answer()
        except RequestError as error:
            self.close_connection = True  # its body may not have been read
            self._send_error(*error.args)
        except TimeoutError:
            self.close_connection = True
            self._send_error(408, "the body is shorter than its Content-Length")
        except UserError as error:
            self._send_error(422, str(error))
        except OSError as error:
            self._send_error(500, f"{error.filename}: {error.strerror}")
        else:
            self._send(200, _JSON, json.dumps(answer).encode())

    def _answer(self) -> dict[str, Any]:
        """Check a request, read its body, and return the answer."""
        headers, url = self.headers, urlsplit(self.path)
        host = headers.get("Host", "")
        length = ",".join(headers.get_all("Content-Length", []))  # twice: no number
        same_origin = headers.get("Origin", f"http://{host}") == f"http://{host}"
        if not self.server.knows(host) or not same_origin:
            raise RequestError(403, "not from a page of this demo")
        if url.path not in self.server.handlers:
            raise RequestError(404, f"unknown path {url.path}")
        answer, content_type = self.server.handlers[url.path]
        if headers.get("Content-Type") != content_type:
            raise RequestError(415, f"unknown content type: send {content_type}")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise RequestError(411, "Content-Length must be the number of bytes")
        if int(length) > _MOST_BYTES:
            raise RequestError(413, f"send a body of at most {_MOST_BYTES:,} bytes")
        return answer(self.rfile.read(int(length)), self._chosen(url.query))

    def _chosen(self, query: str) -> list[int]:
        """Return the numbers of the networks that shall answer: ?run=0&run=2."""
        count = len(self.server.app.networks)
        chosen = parse_qs(query).get("run", [])
        if not set(chosen) <= {str(number) for number in range(count)}:
            raise RequestError(400, f"networks are numbered from 0 to {count - 1}")
        return [int(name) for name in dict.fromkeys(chosen)]

    def _send_error(self, status: int, message: str) -> None:
        self._send(status, _JSON, json.dumps({"error": message}).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing for each request."""
