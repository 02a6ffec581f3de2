"""What the page's server sends: the headers of answers, and the files that answers name."""

import json

HEADERS = {
    # Nothing from elsewhere. Gradio has scripts and styles in its page, and workers from blobs; its
    # image editor compiles functions (eval).
    "content-security-policy": "default-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Answer:
    """A `send` that adds headers, and passes on the JSON values in what is sent.

    Args:
        send: of ASGI.
        cookie: None, or the name and value of a new visitor's.
        on_value: None, or a function that is called with each value: that of a JSON body, or of a
            line of an event stream.
    """

    def __init__(self, send, cookie=None, on_value=None):
        self._send, self._cookie, self._on_value = send, cookie, on_value
        self._kind, self._rest = "", b""

    async def __call__(self, message):
        if message["type"] == "http.response.start":
            names = {name.encode() for name in HEADERS}
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
            headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            if self._cookie:
                cookie = f"{self._cookie}; Path=/; HttpOnly; SameSite=Strict"
                headers.append((b"set-cookie", cookie.encode()))
            kinds = [value.decode() for name, value in headers if name.lower() == b"content-type"]
            self._kind = kinds[0] if kinds else ""
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and self._on_value:
            self._read(message.get("body", b""), message.get("more_body", False))
        await self._send(message)

    def _read(self, body, more):
        self._rest += body
        if self._kind.startswith("text/event-stream"):
            *lines, self._rest = self._rest.split(b"\n")
        elif self._kind.startswith("application/json"):
            lines = [] if more else [self._rest]
        else:
            lines, self._rest = [], b""
        for line in lines:
            try:
                value = json.loads(line.removeprefix(b"data:"))
            except ValueError:
                continue
            self._on_value(value)


def uploaded_paths(value):
    """Returns the paths in the answer to an upload."""
    return [path for path in value if isinstance(path, str)] if isinstance(value, list) else []


def file_paths(value):
    """Yields the paths of the files in the values of components."""
    if isinstance(value, dict) and isinstance(value.get("meta"), dict):
        if isinstance(value.get("path"), str):
            yield value["path"]
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from file_paths(part)


async def reply(send, status, text):
    send, body = Answer(send), text.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
