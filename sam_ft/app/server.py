"""A server for one person: on this machine alone, behind a random token, one request at a time."""

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from sam_ft.utils.errors import UserError

log = logging.getLogger("sam_ft")

HOST = "127.0.0.1"  # not reachable from other machines
NAMES = (HOST, "localhost")  # of this machine
IDLE_SECONDS = 60  # after which a connection that sends nothing is closed
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
# The page loads nothing from elsewhere, and no other page can embed it or read from it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Route(NamedTuple):
    """respond: of query and body, gives a media type and the content · limit: bytes of a body"""

    respond: Callable[[dict[str, str], bytes], tuple[str, bytes]]
    limit: int = 0


class Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class PageServer(ThreadingHTTPServer):
    """Serves the files of page/ and some routes below `address`. routes: by method and name"""

    daemon_threads = True

    def __init__(self, routes: Mapping[tuple[str, str], Route], port: int = 0) -> None:
        super().__init__((HOST, port), Handler)
        self.token = secrets.token_urlsafe(16)
        self.lock = threading.Lock()  # a model serves one request at a time
        self.routes = {**page_files(), **routes}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"


class Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Also serves POST. An error of the person becomes one line on the page."""
        try:
            route, query = self._route()
            body = self._body(route.limit)  # before the lock: a slow sender keeps nobody waiting
            with self.server.lock:
                kind, content = route.respond(query, body)
            self._send(HTTPStatus.OK, kind, content)
        except Refused as error:
            self.close_connection = True  # the body was not read
            self._send_error(error.status, str(error))
        except UserError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, str(error))
        except (ConnectionError, TimeoutError):  # the page was closed
            self.close_connection = True
        except Exception:
            log.exception("%s %s", self.command, urlsplit(self.path).path.rpartition("/")[2])
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the program failed; its terminal says where")

    do_POST = do_GET

    def _route(self) -> tuple[Route, dict[str, str]]:
        """The route and the query of a request that knows the token. Raises: Refused"""
        # A foreign page could reach this server by a name of its own that resolves to 127.0.0.1 (DNS rebinding). Any
        # port: that of an ssh tunnel may be another one.
        host = self.headers.get("Host", "")
        if host.partition(":")[0] not in NAMES:
            raise Refused(HTTPStatus.FORBIDDEN, "the page is for this machine alone; open it as 127.0.0.1")
        if self.headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise Refused(HTTPStatus.FORBIDDEN, "the request comes from another page")
        address = urlsplit(self.path)
        token, _, name = address.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN, "the token in the address is wrong; open the address that the terminal shows"
            )
        if (self.command, name) not in self.server.routes:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        return self.server.routes[self.command, name], query

    def _body(self, limit: int) -> bytes:
        """Raises: Refused, ConnectionError"""
        length = self.headers.get("Content-Length", "0" if self.command == "GET" else "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request lacks its length")
        if int(length) > limit:
            sizes = f"{int(length) / 1e6:.1f} MB; expected at most {limit / 1e6:.1f} MB"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request has {sizes}")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the request ended early")
        return body

    def _send_error(self, status: HTTPStatus, message: str) -> None:
        self._send(status, *json_content({"error": message}))

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: Any) -> None:
        """Logs nothing: lines for requests would hide those that matter."""


def json_content(value: Any) -> tuple[str, bytes]:
    """A media type and the content."""
    return "application/json", json.dumps(value).encode()


def page_files() -> dict[tuple[str, str], Route]:
    """Routes to the files of page/, and to page.html by an empty name."""
    found = {}
    for file in (files("sam_ft.app") / "page").iterdir():
        suffix = file.name[file.name.rindex(".") :]
        if suffix in KINDS:
            content = KINDS[suffix], file.read_bytes()
            found["GET", "" if file.name == "page.html" else file.name] = Route(lambda *_, content=content: content)
    return found
