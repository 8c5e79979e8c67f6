"""The server over real HTTP: who is let in, and how requests are read."""

import socket
import threading

import pytest

from sam_ft.app.server import HEADERS, HOST, PageServer, Route, json_content
from sam_ft.utils.errors import DataError
from tests.support.page import serve


def echo(query, body):
    return json_content({"query": query, "body": body.decode()})


def refuse(query, body):
    raise DataError("a.png: is damaged")


def fail(query, body):
    raise RuntimeError("a bug")


@pytest.fixture(scope="module")
def client():
    running = []

    def alone(query, body):
        running.append(1)
        seen = max(len(running) for _ in range(100_000))  # long enough for another thread to come in
        running.pop()
        return json_content(seen)

    routes = {("POST", "echo"): Route(echo, 10), ("GET", "refuse"): Route(refuse), ("GET", "fail"): Route(fail)}
    with serve(PageServer({**routes, ("GET", "echo"): Route(echo), ("GET", "alone"): Route(alone)})) as client:
        yield client


def test_the_page_and_its_files_are_served_and_nothing_else(client):
    assert client.get("").content.startswith(b"<!doctype html>")
    for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
        assert (client.get(name).status, client.get(name).kind) == (200, kind)
    for name in ("page.html", "../server.py", "..%2Fserver.py", "%2e%2e/server.py", "/etc/passwd", "page.js/"):
        assert client.get(name).status == 404


def test_every_reply_forbids_other_hosts_embedding_and_caching(client):
    for reply in (client.get(""), client.get("refuse"), client.request("GET", "/")):
        assert HEADERS.items() <= reply.headers.items()
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert {source for sources in policy.values() for source in sources.split()} == {"'none'", "'self'", "data:"}


@pytest.mark.parametrize("token", ["", "wrong", "TOKEN", "TOKEN%20", "../TOKEN"])
def test_a_wrong_token_is_refused(client, token):
    token = token.replace("TOKEN", client.server.token[:-1])
    for method, name in (("GET", ""), ("POST", "echo"), ("GET", "page.js")):
        reply = client.request(method, f"/{token}/{name}", b"{}")
        assert (reply.status, list(reply.json)) == (403, ["error"])


def test_bytes_that_are_no_text_are_a_wrong_token_too(client):
    with socket.create_connection((HOST, client.server.server_port)) as connection:
        connection.sendall(b"GET /\xff\xc3/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 403 " in connection.recv(1000)


def test_the_refusals_say_what_to_do(messages, client):
    path = f"/{client.server.token}/echo"
    messages.check(client.request("GET", "/").json["error"])
    messages.check(client.request("GET", path, Host="evil.example").json["error"])
    messages.check(client.request("POST", path, b"", Origin="http://evil.example").json["error"])
    messages.check(client.request("POST", path, b"", **{"Content-Length": "x"}).json["error"])
    messages.check(client.get("other").json["error"])


def test_the_token_is_new_for_each_server_and_long(client):
    with serve(PageServer({})) as other:
        assert other.server.token != client.server.token
        assert len(other.server.token) >= 22  # 128 bits in base64
        assert other.server.address == f"http://127.0.0.1:{other.server.server_port}/{other.server.token}/"


def test_the_server_listens_on_this_machine_alone(client):
    assert client.server.socket.getsockname()[0] == HOST == "127.0.0.1"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1]", "0.0.0.0"])
def test_another_host_name_is_refused_since_it_may_resolve_to_this_machine(client, host):
    reply = client.request("GET", f"/{client.server.token}/", Host=host)
    assert (reply.status, list(reply.json)) == (403, ["error"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8765", "localhost"])
def test_the_port_of_a_tunnel_may_be_another_one(client, host):
    reply = client.request("POST", f"/{client.server.token}/echo", b"a", Host=host, Origin=f"http://{host}")
    assert reply.status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_a_request_of_another_page_is_refused(client, origin):
    for method in ("POST", "GET"):
        reply = client.request(
            method, f"/{client.server.token}/echo", b"a" if method == "POST" else None, Origin=origin
        )
        assert (reply.status, list(reply.json)) == (403, ["error"])


def test_query_and_body_arrive(client):
    reply = client.post("echo", "é ".encode(), image="a b/ü.png", empty="")
    assert reply.json == {"query": {"image": "a b/ü.png"}, "body": "é "}
    assert client.get("echo").json == {"query": {}, "body": ""}


def test_a_body_that_is_too_large_is_refused_before_it_is_read(messages, client):
    assert client.post("echo", b"0123456789").status == 200
    reply = client.post("echo", b"0123456789a")
    assert reply.status == 413
    messages.check(reply.json["error"])


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "²", "", "+1"])
def test_a_length_that_is_no_number_is_refused(client, length):
    reply = client.request("POST", f"/{client.server.token}/echo", b"", **{"Content-Length": length.encode("latin-1")})
    assert (reply.status, list(reply.json)) == (411, ["error"])


@pytest.mark.parametrize(("method", "name"), [("GET", "other"), ("POST", "refuse"), ("POST", "")])
def test_an_unknown_route_or_method_is_refused(client, method, name):
    assert client.request(method, f"/{client.server.token}/{name}", b"").status == 404


def test_a_mistake_of_the_person_is_one_line(client):
    reply = client.get("refuse")
    assert (reply.status, reply.json) == (400, {"error": "a.png: is damaged"})


def test_a_bug_is_logged_without_the_token_and_the_server_goes_on(client, caplog):
    reply = client.get("fail", image="a.png")
    assert reply.status == 500
    assert "a bug" not in reply.content.decode()
    assert caplog.messages == ["GET fail"]
    assert "RuntimeError: a bug" in caplog.text
    assert client.server.token not in caplog.text
    assert client.get("").status == 200


def test_one_request_at_a_time_has_the_model(client):
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(client.get("alone").json)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [1, 1, 1, 1]


def test_a_sender_that_stops_in_the_middle_keeps_nobody_waiting(client):
    head = f"POST /{client.server.token}/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf"
    with socket.create_connection((HOST, client.server.server_port)) as stalled:
        stalled.sendall(head.encode())
        assert client.post("echo", b"whole").status == 200  # while the other is stalled
        stalled.shutdown(socket.SHUT_WR)
        assert stalled.recv(1) == b""  # and no half request is served
