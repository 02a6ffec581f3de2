"""What a browser may ask the page's server for, as ASGI middleware around Gradio.

Each browser is a visitor, known by a random cookie that the server has signed. Gradio gives every
file of an upload or of a result a path in one folder, and would send it to anyone who names that
path. Here a file is sent only to visitors to whom the server has sent its path before, and a job
may name only such files. So paths cannot be guessed, and nothing outside of the folder can be
named. All routes of Gradio that the page does not need are closed.
"""

import collections
import hmac
import json
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, unquote

from keras_diffusion.cli.app.answers import Answer, file_paths, reply, uploaded_paths
from keras_diffusion.cli.app.files import Files

API = "/gradio_api/"
COOKIE = "keras_diffusion_visitor"  # then the port, as servers at several ports share cookies
OPEN = {"/", "/config", "/config/", "/theme.css", "/favicon.ico", "/manifest.json"}
OPEN_FOLDERS = ("/assets/", "/static/")
# After API. Those for a session or a file go on after = or /.
ROUTES = {"app_id", "cancel", "queue/data", "queue/join", "reset", "run/predict", "startup-events",
          "upload", "upload_progress"}  # fmt: skip
LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}
MOST_VISITORS, MOST_FILES, MOST_SESSIONS = 1000, 10_000, 10_000  # remembered
LARGEST_BODY, LARGEST_FILE = 2**20, 20 * 2**20  # bytes of a request, and of an upload


class Rejected(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        reason: text for the visitor.
    """

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Visitors:
    """The middleware.

    Args:
        app: ASGI application of Gradio, at "/".
        folder: path of the folder of all files, GRADIO_TEMP_DIR.
        hosts: set of the names by which browsers may call this machine; None: any. With names, a
            page of another site cannot reach the server under a name of its own (DNS rebinding).
    """

    def __init__(self, app, folder, hosts=None):
        self._app, self._folder, self._hosts = app, str(folder), hosts
        self._key, self._disk = secrets.token_bytes(32), Files(folder)
        self._files = _Recent(MOST_VISITORS)  # {visitor: paths}
        self._sessions = _Recent(MOST_SESSIONS)  # {session of Gradio: visitor}

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})  # Gradio has none
        try:
            receive, send = await self._checked(scope, receive, send)
        except Rejected as error:
            return await reply(send, error.status, error.reason)
        return await self._app(scope, receive, send)

    async def _checked(self, scope, receive, send):
        """Returns (receive, send) for the application.

        Raises:
            Rejected: a request that this visitor may not send.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in
                   reversed(scope["headers"])}  # fmt: skip
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            raise Rejected(421, "unknown host")
        path, cookie = scope["path"], f"{COOKIE}_{scope['server'][1]}"
        visitor = self._visitor(headers.get("cookie", ""), cookie)
        if not path.startswith(API):
            if scope["method"] not in ("GET", "HEAD") or not (
                path in OPEN or path.startswith(OPEN_FOLDERS)
            ):
                raise Rejected(404, "not found")
            if visitor or path != "/":
                return receive, Answer(send)
            visitor = secrets.token_hex(16)
            return receive, Answer(send, f"{cookie}={visitor}.{self._signature(visitor)}")
        route = path.removeprefix(API)
        if route not in ROUTES and not route.startswith(("heartbeat/", "file=")):
            raise Rejected(404, "not found")
        if not visitor:
            raise Rejected(403, "Load the page again: this browser has not sent its cookie.")
        if route.startswith("file="):
            if scope["method"] not in ("GET", "HEAD") or not self._owns(
                visitor, route.removeprefix("file=")
            ):
                raise Rejected(404, "not found")
            return receive, Answer(send)
        self._claim(visitor, parse_qs(scope["query_string"].decode("latin-1")).get("session_hash"))
        if route.startswith("heartbeat/"):
            self._claim(visitor, [route.removeprefix("heartbeat/")])
        if scope["method"] == "POST":
            if route == "upload":
                _check_kind(headers, "multipart/form-data", LARGEST_FILE + LARGEST_BODY)
                if not self._disk.has_room():
                    raise Rejected(507, "There is no room for more images. Try again later.")
            else:
                _check_kind(headers, "application/json", LARGEST_BODY)
                receive = await self._checked_body(visitor, receive)
        # Uncompressed, so that the paths in it can be read.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        paths = uploaded_paths if route == "upload" else file_paths
        return receive, Answer(send, on_value=lambda value: self._remember(visitor, paths(value)))

    async def _checked_body(self, visitor, receive):
        parts, more = [], True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Rejected(400, "disconnected")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(parts)
        try:
            value = json.loads(body)
            texts = list(_strings(value))
        except (ValueError, RecursionError) as error:
            raise Rejected(400, "not JSON") from error
        if isinstance(value, dict) and value.get("session_hash") is not None:
            self._claim(visitor, [value["session_hash"]])
        for key, text in texts:
            if key == "path" and not self._owns(visitor, text):
                raise Rejected(403, "not a file of this visitor")
            for part in re.findall(re.escape(self._folder) + r"[^\"'<>]*", unquote(text)):
                if not self._owns(visitor, part):
                    raise Rejected(403, "not a file of this visitor")
        sent = False

        async def replay():
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return replay

    def _visitor(self, cookies, name):
        """Returns the visitor that a header names, or None."""
        try:
            cookie = SimpleCookie(cookies).get(name)
        except CookieError:
            return None
        visitor, _, signature = (cookie.value if cookie else "").partition(".")
        signed = hmac.compare_digest(signature.encode(), self._signature(visitor).encode())
        return visitor if signed else None

    def _signature(self, visitor):
        return hmac.new(self._key, visitor.encode(), "sha256").hexdigest()

    def _claim(self, visitor, sessions):
        """Gives sessions of Gradio to the visitor who names them first."""
        for session in sessions or ():
            if not isinstance(session, str) or self._sessions.get(session, visitor) != visitor:
                raise Rejected(403, "not a session of this visitor")
            self._sessions[session] = visitor

    def _owns(self, visitor, path):
        return path in self._files.get(visitor, ())

    def _remember(self, visitor, paths):
        """Remembers the files of an answer."""
        files = self._files.get(visitor) or _Recent(MOST_FILES)
        for path in paths:
            if path.startswith(self._folder):
                files[path] = True
        if files:
            self._files[visitor] = files


class _Recent(collections.OrderedDict):
    """A dict of the `most` keys that were written last."""

    def __init__(self, most):
        super().__init__()
        self._most = most

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)


def _check_kind(headers, kind, most):
    """Raises Rejected for a request of another content type, or of more than `most` bytes."""
    if not headers.get("content-type", "").startswith(kind):
        raise Rejected(415, f"{kind} only")
    length = headers.get("content-length", "")  # the server reads no more than that
    if "transfer-encoding" in headers or not length.isdecimal() or int(length) > most:
        raise Rejected(413, "too large")


def _host_name(host):
    return host if host.endswith("]") else re.sub(r":\d*$", "", host)


def _strings(value, key=None):
    """Yields (key of the dict that holds it, or None; text) of all texts in a JSON value."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield None, name
            yield from _strings(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, key)
