"""The demo's HTTP server: one page, and three things that it asks for."""

import json
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mnist_jax.demo.app import App, RequestError
from mnist_jax.errors import UserError

_MOST_BYTES = 64_000_000  # of a photograph
_LOCAL = ("127.0.0.1", "localhost")
# The page is self-contained: the browser must load nothing else.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'"
)
# Pages of other origins must ask before they send these, and are refused.
_BINARY, _JSON = "application/octet-stream", "application/json"


class Server(ThreadingHTTPServer):
    """Serves the demo; `serve_forever` answers until it is interrupted.

    Args:
        app: what answers.
        host: the address to listen on.
        port: 0 for any that is free.

    Raises:
        UserError: the port is in use, or the address is not one of this machine.
    """

    daemon_threads = True

    def __init__(self, app: App, *, host: str, port: int):
        self.app = app
        try:
            super().__init__((host, port), _Handler)
        except socket.gaierror as error:
            raise UserError(f"--host={host}: {error.strerror}.") from error
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"--port={port} at {host} cannot be used: {reason}. Choose another "
                "port (--port=0 takes any that is free)."
            ) from error
        self.port = self.server_address[1]
        self.address = f"http://{host}:{self.port}"

    def knows(self, host: str) -> bool:
        """Return whether a request was meant for this server.

        The name of another site can be made to lead here (DNS rebinding).
        """
        if self.server_address[0] not in _LOCAL:
            return True
        return host in [f"{name}:{self.port}" for name in _LOCAL]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error in a thread, unless the browser has just gone away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    server: Server  # type: ignore
    protocol_version = "HTTP/1.1"  # keeps the connection
    # Otherwise an answer's body would wait until its headers are acknowledged.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send the page."""
        if not self.server.knows(self.headers.get("Host", "")):
            self._send_error(HTTPStatus.FORBIDDEN, "not the address of this demo")
        elif urlsplit(self.path).path != "/":
            self._send_error(HTTPStatus.NOT_FOUND, "there is only one page: /")
        else:
            self._send(
                HTTPStatus.OK, "text/html; charset=utf-8", self.server.app.page()
            )

    def do_POST(self) -> None:
        """Answer the page's script."""
        path = urlsplit(self.path)
        kinds = {"/predict": _BINARY, "/read": _BINARY, "/correct": _JSON}
        try:
            length = int(self.headers.get("Content-Length", -1))
            if not 0 <= length <= _MOST_BYTES:
                self.close_connection = True  # the body is not read
                raise RequestError(f"send a body of at most {_MOST_BYTES:,} bytes")
            body = self.rfile.read(length)
            if not self.server.knows(self.headers.get("Host", "")):
                raise RequestError("not the address of this demo")
            if self.headers.get("Content-Type") != kinds.get(path.path):
                raise RequestError("unknown path or content type")
            if path.path == "/correct":
                answer = self.server.app.correct(body)
            else:
                ask = getattr(self.server.app, path.path.removeprefix("/"))
                answer = ask(body, self._chosen(path.query))
        except RequestError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, str(error))
        except UserError as error:
            self._send_error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except OSError as error:
            message = f"{error.filename}: {error.strerror}"
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, message)
        else:
            self._send(HTTPStatus.OK, _JSON, json.dumps(answer).encode())

    def _chosen(self, query: str) -> list[int]:
        """Return the numbers of the networks that shall answer: ?run=0&run=2."""
        count = len(self.server.app.names)
        chosen = parse_qs(query).get("run", [])
        if not set(chosen) <= {str(number) for number in range(count)}:
            raise RequestError(f"networks are numbered from 0 to {count - 1}")
        return [int(name) for name in dict.fromkeys(chosen)]

    def _send_error(self, status: HTTPStatus, message: str) -> None:
        self._send(status, _JSON, json.dumps({"error": message}).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing for each request."""
