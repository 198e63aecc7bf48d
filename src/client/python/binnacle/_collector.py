"""One connection to the collector, opened when needed and kept."""

import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from json import loads
from urllib.parse import urlsplit

from ._place import find_collector

CONNECT_WITHIN = 3.0
ANSWER_WITHIN = 10.0
JSON = "application/json"


# ValueError: a URL, or a token for a header, that is none.
FAILURES = (OSError, HTTPException, ValueError)


class Unreachable(Exception):
    """Nobody answers; the text says who and why."""


class Answer:
    __slots__ = ("status", "body", "retry_after", "_is_json")

    def __init__(self, status, body, retry_after):
        self.status = status
        # 204 has no body: the answer to a chunk.
        self._is_json = isinstance(body, dict) or status == 204
        self.body = body if isinstance(body, dict) else {}
        self.retry_after = retry_after

    @property
    def is_ok(self):
        return 200 <= self.status < 300 and self._is_json

    @property
    def is_collectors(self):
        """False where a proxy answers, or whoever else has the port now: its word about a batch is worth nothing."""
        if 200 <= self.status < 300:
            return self._is_json
        return str(self.body.get("type")).startswith("urn:binnacle:")

    @property
    def problem(self):
        """What the collector says is wrong, and what to do about it."""
        parts = [self.body.get("detail") or self.body.get("title") or "HTTP status %d." % self.status]
        if self.body.get("hint"):
            parts.append(self.body["hint"])
        return " ".join(str(part) for part in parts)


class Collector:
    def __init__(self):
        self.url = None
        self._token = None
        self._connection = None

    def request(self, method, path, body=None, kind=JSON, within=ANSWER_WITHIN):
        """Sends one request and waits for the answer; Unreachable where none comes.

        body: JSON text, or a list of bytes-like pieces, each of which is to be taken `within` so many seconds.
        """
        is_reused = self._connection is not None
        try:
            return self._request(method, path, body, kind, within)
        except FAILURES as error:
            self.close()
            if is_reused and not _is_timeout(error):
                # The collector closes what has idled for long. Ours may have been on its way: repeating is harmless.
                try:
                    return self._request(method, path, body, kind, within)
                except FAILURES as again:
                    error = again
                    self.close()
            raise self.lost(error) from error

    def _request(self, method, path, body, kind, within):
        response = self._ask(method, path, body, {"Accept": "application/json", "Content-Type": kind}, within)
        text = response.read()
        try:
            parsed = loads(text)
        except ValueError:
            parsed = None
        return Answer(response.status, parsed, _seconds(response.getheader("Retry-After")))

    def open(self, path, headers, body=None):
        """GETs something to be read piece by piece, or POSTs a question for it: the response, or Unreachable."""
        try:
            return self._ask("GET" if body is None else "POST", path, body, headers, ANSWER_WITHIN)
        except FAILURES as error:
            raise self.lost(error) from error

    def lost(self, error):
        self.close()
        reason = "does not answer" if _is_timeout(error) else "cannot be reached (%s)" % (error or "no answer")
        return Unreachable("the collector at %s %s" % (self.url, reason))

    def _ask(self, method, path, body, headers, within):
        if self._connection is None or self._connection.sock is None:
            self._connect()
        connection = self._connection
        connection.sock.settimeout(within)
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        data = None
        if isinstance(body, str):
            data = body.encode("ascii")
        elif body is not None:
            data = body
            headers["Content-Length"] = str(sum(map(len, body)))
        else:
            headers.pop("Content-Type", None)
        try:
            connection.request(method, prefix_of(self.url) + path, data, headers)
        except (BrokenPipeError, ConnectionResetError):
            # Refused before all of it was sent: the answer may be there.
            if data is None or connection.sock is None:
                raise
        return connection.getresponse()

    def _connect(self):
        self.url = os.environ.get("BINNACLE_URL")  # For the message, where it is no URL.
        self.url, self._token = find_collector()
        self._connection = open_connection(self.url, CONNECT_WITHIN)
        self._connection.connect()

    def close(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @property
    def token(self):
        return self._token

    @property
    def open_socket(self):
        return self._connection.sock if self._connection is not None else None


def open_connection(url, timeout):
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OSError("%r is no URL such as http://127.0.0.1:7070; see BINNACLE_URL" % url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, parts.port, timeout=timeout)


def prefix_of(url):
    """What stands between the host and /api: the place of a collector behind a proxy."""
    return urlsplit(url).path.rstrip("/")


def _seconds(text):
    return min(float(text), 60.0) if text and text.isdecimal() and text.isascii() else None


def _is_timeout(error):
    # socket.timeout is TimeoutError from Python 3.10 on; before it is a class of its own.
    return isinstance(error, TimeoutError) or type(error).__name__ == "timeout"
