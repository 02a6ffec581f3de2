"""What the page's server answers: to whom it sends files, and which routes are open."""

import asyncio
import json

import pytest

from keras_diffusion.cli.app import files, visitors
from keras_diffusion.cli.app.visitors import LARGEST_BODY, LARGEST_FILE, LOCAL_NAMES, Visitors

FOLDER = "/private"
SECRET = f"{FOLDER}/abc/cat.png"
FORM = "multipart/form-data; boundary=x"
FILE = {"path": SECRET, "url": f"/gradio_api/file={SECRET}", "meta": {"_type": "gradio.FileData"}}


class Gradio:
    """A stand-in that answers every request with `answer`, and remembers the requests."""

    def __init__(self):
        self.kind, self.chunks, self.requests = "application/json", [b"{}"], []

    async def __call__(self, scope, receive, send):
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.requests.append((scope["path"], body))
        headers = [(b"content-type", self.kind.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Browser:
    """A browser with a cookie."""

    def __init__(self, server):
        self._server, self.cookie = server, None
        _, headers, _ = self.request("/")
        self.cookie = headers["set-cookie"].split(";")[0]

    def request(self, path, value=None, host="127.0.0.1:7860", kind="application/json", query="",
                **headers):  # fmt: skip
        """(status, headers, body); `value` makes it a POST."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = {"host": host, "accept-encoding": "br", "content-type": kind,
                   "content-length": str(len(body)), **headers}  # fmt: skip
        headers.update({"cookie": self.cookie} if self.cookie else {})
        method = "GET" if value is None else "POST"
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(),
                 "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
                 "server": ("127.0.0.1", 7860)}  # fmt: skip
        sent, status = [], []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            (status if "status" in message else sent).append(message)

        asyncio.run(self._server(scope, receive, send))
        headers = {name.decode(): text.decode() for name, text in status[0]["headers"]}
        return status[0]["status"], headers, b"".join(message["body"] for message in sent)

    def status(self, path, value=None, **options):
        return self.request(path, value, **options)[0]

    def can_read(self, path=SECRET):
        return self.status(f"/gradio_api/file={path}") == 200


@pytest.fixture
def gradio():
    return Gradio()


@pytest.fixture
def server(gradio):
    return Visitors(gradio, FOLDER, LOCAL_NAMES)


def test_the_cookie_is_random_and_cannot_be_read_by_scripts(server):
    browser = Browser(server)
    _, headers, _ = Browser(server).request("/")
    assert "set-cookie" not in headers, "it has one"
    assert browser.cookie != Browser(server).cookie
    browser.cookie = None
    cookie = browser.request("/")[1]["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert browser.request("/")[1]["content-security-policy"].startswith("default-src 'self'")


@pytest.mark.parametrize("chunks", [1, 7, 10_000])
def test_a_file_is_sent_to_those_who_got_its_path(server, gradio, chunks):
    one, other = Browser(server), Browser(server)
    assert not one.can_read()
    stream = b"data: " + json.dumps({"output": {"data": [[{"image": FILE}]]}}).encode() + b"\n\n"
    gradio.kind = "text/event-stream"
    gradio.chunks = [stream[i : i + chunks] for i in range(0, len(stream), chunks)]
    status, _, body = one.request("/gradio_api/queue/data", query="session_hash=s")
    assert status == 200 and body == stream, "nothing is held back"
    assert one.can_read() and not other.can_read()
    assert not one.can_read(SECRET + "/../../def/dog.png") and not one.can_read("/etc/passwd")


def test_an_upload_belongs_to_who_sent_it(server, gradio):
    one, other = Browser(server), Browser(server)
    gradio.chunks = [json.dumps([SECRET, "/etc/passwd"]).encode()]
    assert one.status("/gradio_api/upload", b"...", kind=FORM) == 200
    assert one.can_read() and not other.can_read() and not one.can_read("/etc/passwd")


def join(path, session="s"):
    return {"session_hash": session, "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}


def test_a_job_names_only_files_of_its_visitor(server, gradio):
    one, other = Browser(server), Browser(server)
    gradio.chunks = [json.dumps([SECRET]).encode()]
    one.request("/gradio_api/upload", b"...", kind=FORM)
    route, count = "/gradio_api/queue/join", len(gradio.requests)
    for value in (
        join(SECRET, "t"),
        join("/etc/passwd", "t"),
        join("http://example.org/a.png", "t"),
        {"data": [SECRET]},
        {"data": [f"a prompt with {SECRET} in it"]},
        {"data": [SECRET.replace("/", "%2F")]},
        {"data": [{SECRET: 1}]},
        {"data": [json.dumps(join(SECRET))]},
    ):
        assert other.status(route, value) == 403, value
    assert len(gradio.requests) == count, "Gradio has seen none of them"
    assert one.status(route, join(SECRET)) == 200
    assert json.loads(gradio.requests[-1][1]) == join(SECRET)
    assert other.status(route, {"data": ["a prompt", 7, None]}) == 200
    for body in (b"{", b"[" * 10**6):
        assert one.status(route, body) == 400


@pytest.mark.parametrize("route", ["queue/join", "run/predict", "upload"])
def test_requests_have_their_content_type_and_a_size(route, server, gradio):
    browser, count = Browser(server), len(gradio.requests)
    right, wrong = ("application/json", FORM)[:: -1 if route == "upload" else 1]
    route = f"/gradio_api/{route}"
    for kind in (wrong, "text/plain", ""):
        assert browser.status(route, {}, kind=kind) == 415
    most = LARGEST_BODY + (LARGEST_FILE if right == FORM else 0)
    many = b" " * most + b"{}"
    assert browser.status(route, many, kind=right) == 413
    for headers in ({"content-length": ""}, {"transfer-encoding": "chunked"}):
        assert browser.status(route, {}, kind=right, **headers) == 413
    assert len(gradio.requests) == count, "Gradio has seen none of them"
    assert browser.status(route, {}, kind=right) == 200


def test_uploads_end_when_there_is_no_room(gradio, tmp_path, monkeypatch):
    browser = Browser(Visitors(gradio, tmp_path))
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc/cat.png").write_bytes(b"...")
    for most, status in ((3, 200), (2, 507)):
        monkeypatch.setattr(files, "MOST_BYTES", most)
        assert browser.status("/gradio_api/upload", b"...", kind=FORM) == status


def test_visitors_without_files_take_no_place(gradio, monkeypatch):
    monkeypatch.setattr(visitors, "MOST_VISITORS", 2)
    server = Visitors(gradio, FOLDER)
    one, *others = (Browser(server) for _ in range(4))
    gradio.chunks = [json.dumps([SECRET]).encode()]
    one.request("/gradio_api/upload", b"...", kind=FORM)
    gradio.chunks = [b"{}"]
    for other in others:
        assert other.status("/gradio_api/queue/join", {}) == 200
    assert one.can_read()


def test_a_text_that_looks_like_a_file_gives_no_file(server, gradio):
    one = Browser(server)
    gradio.kind = "text/event-stream"
    for data in ([SECRET], {"path": SECRET}, {"meta": SECRET}, json.dumps(FILE)):
        gradio.chunks = [b"data: " + json.dumps({"output": data}).encode() + b"\n\n"]
        one.request("/gradio_api/queue/data", query="session_hash=s")
        assert not one.can_read(), data


def test_a_session_belongs_to_who_names_it_first(server):
    one, other = Browser(server), Browser(server)
    assert one.status("/gradio_api/heartbeat/s") == 200
    assert other.status("/gradio_api/heartbeat/s") == 403
    assert other.status("/gradio_api/queue/data", query="session_hash=s") == 403
    for route in ("queue/join", "cancel", "reset"):
        assert other.status(f"/gradio_api/{route}", {"session_hash": "s"}) == 403
        assert one.status(f"/gradio_api/{route}", {"session_hash": "s"}) == 200


CLOSED = [
    "/docs", "/openapi.json", "/monitoring", "/monitoring/summary", "/login", "/gradio_api/info",
    "/gradio_api/openapi.json", "/gradio_api/runs", "/gradio_api/proxy=https://a.hf.space/x",
    "/gradio_api/file/private/abc/cat.png", "/gradio_api/deep_link", "/gradio_api/vibe-code/",
    "/gradio_api/call/create", "/gradio_api/run/create", "/gradio_api/stream/s/1/2/playlist.m3u8",
    "/gradio_api/queue/status", "/gradio_api/dev/reload", "/nowhere", "/../etc/passwd",
    "/gradio_api/component_server", "/gradio_api/component_server/",
]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_other_routes_of_gradio_are_closed(server, gradio, path):
    browser = Browser(server)
    count = len(gradio.requests)
    assert browser.status(path) == browser.status(path, {}) == 404
    assert len(gradio.requests) == count


def test_without_the_cookie_nothing_is_computed(server):
    stranger = Browser(server)
    stranger.cookie = None
    assert stranger.status("/gradio_api/queue/join", {"data": []}) == 403


def test_only_cookies_of_this_server_are_taken(server, gradio):
    browser = Browser(server)
    name, value = browser.cookie.split("=")
    visitor, signature = value.split(".")
    assert browser.status("/gradio_api/queue/join", {}) == 200
    for guess in ("", "guessed", visitor, f"{visitor}.", f"{'0' * 32}.{signature}", "\xff.\xff"):
        browser.cookie = f"{name}={guess}"
        assert browser.status("/gradio_api/queue/join", {}) == 403, guess
        assert "set-cookie" in browser.request("/")[1]
    browser.cookie = Browser(Visitors(gradio, FOLDER)).cookie
    assert browser.status("/gradio_api/queue/join", {}) == 403, "of a server that ran before"


def test_a_name_of_another_site_is_not_answered(server, gradio):
    browser = Browser(server)
    assert browser.status("/", host="evil.example:7860") == 421
    for host in ("localhost:1", "127.0.0.1", "[::1]:7860"):
        assert browser.status("/", host=host) == 200
    everywhere = Browser(Visitors(gradio, FOLDER))
    assert everywhere.status("/", host="my-machine.example") == 200
