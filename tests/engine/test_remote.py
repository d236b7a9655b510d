"""Remote inputs: a real http server that does everything servers do wrong, and a bucket."""

import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from reelmill.engine import remote
from reelmill.engine.errors import MediaError
from reelmill.engine.fetch import local_copy, version_of
from reelmill.tests.engine.fetching import BODY, failure, fetched, row


class Handler(BaseHTTPRequestHandler):
    """What each path does is told by its name."""

    protocol_version = "HTTP/1.1"
    seen: Counter[str]

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        name = self.path.partition("?")[0].strip("/").rpartition(".")[0]
        self.seen[f"{self.command} {name}"] += 1
        count = self.seen[f"{self.command} {name}"]
        if name in ("none", "broken", "locked") or (name == "flaky" and count < 3):
            return self.reply({"none": 404, "locked": 403}.get(name, 503), {"Content-Length": "0"})
        if name == "unsigned-head" and not with_body:
            return self.reply(403, {"Content-Length": "0"})
        if name.startswith("to-"):
            port = self.connection.getsockname()[1]
            places = {
                "to-here": "/ok.mp4",
                "to-file": "file:///etc/passwd",
                "to-other": "http://other.invalid/a.mp4",
                "to-port": "http://127.0.0.1:1/a.mp4",
                "to-itself": f"http://127.0.0.1:{port}/to-itself.mp4",
            }
            return self.reply(302, {"Location": places[name], "Content-Length": "0"})
        if name == "silent":
            time.sleep(3)
            return None
        return self.body(name, count, with_body)

    def body(self, name: str, count: int, with_body: bool) -> None:
        headers, body, status = {"ETag": '"one"'}, BODY, 200
        if name == "dated":
            headers = {"Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}
        elif name == "changing":
            headers = {"ETag": f'"{with_body}"'}
        asked = self.headers.get("Range")
        if asked and name != "no-ranges":
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            if first >= len(BODY):
                return self.reply(416, {"Content-Length": "0"})
            status, body = 206, BODY[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(BODY)}"
        if name == "endless":
            headers["Transfer-Encoding"] = "chunked"
            self.reply(200, headers)
            try:
                while with_body:
                    self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            except OSError:
                pass
            return None
        self.reply(status, headers | {"Content-Length": str(len(body))})
        if with_body:
            if name == "dripping":
                self.drip(body)
            else:
                self.wfile.write(body[:1000] if name == "short" else body)
        self.close_connection = True
        return None

    def drip(self, body: bytes) -> None:
        try:
            for byte in body[:60]:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            pass

    def reply(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.01)
    Handler.seen = Counter()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.block_on_close = False
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_url_is_downloaded_under_its_extension(server, tmp_path):
    url = f"{server}/ok.MP4?signature=a%2Fb"
    assert version_of(url) == '"one"'
    with local_copy(row(url), tmp_path, max_bytes=10**6, version='"one"') as found:
        assert found.suffix == ".mp4"
        assert found.read_bytes() == BODY
    assert list(tmp_path.iterdir()) == []
    assert fetched(row(f"{server}/ü b.mp4"), tmp_path) == BODY


def test_a_stretch_of_a_url(server, tmp_path):
    url = f"{server}/a.tar"
    assert fetched(row(url, (300, 1000), "a.tar/b.mp4"), tmp_path, max_bytes=1000) == BODY[300:1300]
    assert fetched(row(url, (300, 0)), tmp_path) == b""
    end = len(BODY)
    assert failure(row(url, (end - 10, 30)), tmp_path) == (
        "damaged",
        "the file ends 20 bytes before the end of this video",
    )
    assert failure(row(url, (end + 5, 30)), tmp_path)[0] == "damaged"
    assert failure(row(f"{server}/no-ranges.tar", (300, 10)), tmp_path) == (
        "unreadable",
        "the server gives no byte ranges",
    )


def test_the_version_of_a_url(server):
    assert version_of(f"{server}/dated.mp4") == f"{len(BODY)}:Sat, 01 Jan 2022 00:00:00 GMT"
    assert version_of(f"{server}/unsigned-head.mp4") == '"one"'
    assert version_of(f"{server}/flaky.mp4") == '"one"'


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("none", "missing", "HTTP 404"),
        ("locked", "unreadable", "HTTP 403"),
        ("broken", "network", "HTTP 503, tried 3 times"),
        ("short", "network", "tried 3 times"),
        ("endless", "limit", "more than 1000000 bytes"),
        ("to-file", "unreadable", "redirects to another server, file://: name that URL itself"),
        ("to-other", "unreadable", "redirects to another server, http://other.invalid: name that URL itself"),
        ("to-port", "unreadable", "redirects to another server, http://127.0.0.1:1: name"),
        ("to-itself", "unreadable", "more than 5 redirects"),
    ],
)
def test_what_a_server_does_wrong(server, tmp_path, name, reason, detail):
    found = failure(row(f"{server}/{name}.mp4"), tmp_path)
    assert found[0] == reason
    assert detail in found[1]
    if name not in ("short", "endless"):
        with pytest.raises(MediaError, match=detail.split(":")[0]):
            version_of(f"{server}/{name}.mp4")


def test_a_server_is_asked_again_only_where_that_helps(server, tmp_path):
    assert fetched(row(f"{server}/flaky.mp4"), tmp_path) == BODY
    failure(row(f"{server}/none.mp4"), tmp_path)
    failure(row(f"{server}/short.mp4"), tmp_path)
    assert Handler.seen == {"GET flaky": 3, "GET none": 1, "GET short": 3}


def test_a_redirect_within_the_server_is_followed(server, tmp_path):
    assert fetched(row(f"{server}/to-here.mp4"), tmp_path) == BODY


def test_a_length_beyond_the_limit_is_not_read(server, tmp_path):
    assert failure(row(f"{server}/ok.mp4"), tmp_path, max_bytes=1000) == (
        "limit",
        f"{len(BODY)} bytes, at most 1000 are taken",
    )


def test_a_file_that_changes_is_not_taken(server, tmp_path):
    version = version_of(f"{server}/changing.mp4")
    reason, detail = failure(row(f"{server}/changing.mp4"), tmp_path, version=version)
    assert (reason, detail) == ("changed", 'the file changed while it was being read: "False" became "True"')


@pytest.mark.parametrize("name", ["silent", "dripping"])
def test_a_deadline_holds_over_everything(server, tmp_path, name):
    reason, detail = failure(row(f"{server}/{name}.mp4"), tmp_path, timeout_seconds=0.3)
    assert (reason, detail) == ("network", "not finished within 0.3 s")


def test_nobody_there(server, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.mp4"
        reason, detail = failure(row(url), tmp_path)
    assert reason == "network"
    assert "Cannot connect" in detail
    for wrong in ("http://", "http://[::1/a.mp4", "http://a:b/c.mp4"):
        assert failure(row(wrong), tmp_path)[0] == "unreadable"


def test_without_the_package_the_message_says_what_to_install(tmp_path):
    """In a process of its own, in which the package cannot be imported."""
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from reelmill.engine.fetch import version_of\n"
        "version_of('s3://bucket/a.mp4')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UsageError: reading s3:// inputs needs the package s3fs" in result.stderr.replace(
        "reelmill.shards.errors.", ""
    )
    assert "pip install " in result.stderr


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("s3fs", reason="s3 inputs need the extra `s3` (s3fs)")
    server = pytest.importorskip("moto.server", reason="s3 is tried against moto's server, which is not installed")
    boto3, fsspec = pytest.importorskip("boto3"), pytest.importorskip("fsspec")
    running = server.ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="videos")
    client.put_object(Bucket="videos", Key="a/ü b.mp4", Body=BODY)
    client.close()
    fsspec.filesystem("s3", use_listings_cache=False).clear_instance_cache()
    yield "s3://videos"
    running.stop()


def test_a_bucket(bucket, tmp_path, monkeypatch):
    url = f"{bucket}/a/ü b.mp4"
    version = version_of(url)
    assert len(version) == 32
    monkeypatch.setattr(remote, "RANGE_BYTES", 10_000)
    assert fetched(row(url), tmp_path, version=version) == BODY
    assert fetched(row(url, (300, 1000), "a.tar/b.mp4"), tmp_path) == BODY[300:1300]
    assert failure(row(url, (len(BODY) - 10, 30)), tmp_path)[0] == "damaged"
    assert failure(row(url), tmp_path, max_bytes=1000)[0] == "limit"
    assert failure(row(url), tmp_path, version="another")[0] == "changed"
    assert failure(row(f"{bucket}/none.mp4"), tmp_path) == ("missing", "no such object")
    assert failure(row("s3://none/none.mp4"), tmp_path)[0] == "missing"
    assert failure(row(f"{bucket}/a"), tmp_path) == ("unreadable", "must be a file, but is a directory")
