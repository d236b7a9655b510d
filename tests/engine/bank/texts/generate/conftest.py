"""A server on loopback that answers like an OpenAI-compatible endpoint, and fails like one when it is told to."""

import hashlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from reelmill.engine.bank.texts.config import GenerateConfig
from reelmill.engine.bank.texts.generate import ask
from reelmill.engine.bank.texts.generate.request import Request
from reelmill.engine.bank.texts.generate.run import Generator, generator

KEY = "sk-the-secret-key-0123456789"
WORDS: dict[str, Any] = {
    "type": "object",
    "properties": {"words": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    "required": ["words"],
    "additionalProperties": False,
}


class Handler(BaseHTTPRequestHandler):
    """One exchange; `server.model` is what the endpoint is."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        model: Model = self.server.model
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with model.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            model.requests.append((self.path, headers, body))
            model.running += 1
            model.most_running = max(model.most_running, model.running)
            fault = model.faults.popleft() if model.faults else model.always
        try:
            if model.slow:
                time.sleep(model.slow)
            if fault is None:
                self.chat(model.answer(body))
            else:
                fault(self, body)
        except OSError:
            self.close_connection = True  # the client went away, which is what some tests are about
        finally:
            with model.lock:
                model.running -= 1

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        """A whole response."""
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(data))} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def chat(self, text: str | None, finish: str = "stop", usage: bool = True, **message: Any) -> None:
        """A chat completion with this text."""
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text} | message}
        record = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        if usage:
            record["usage"] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        self.send(200, json.dumps(record).encode())

    def error(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        """An error as OpenAI words it."""
        record = {"error": {"message": message, "type": "error", "code": code}}
        self.send(status, json.dumps(record).encode(), {name.replace("_", "-"): v for name, v in headers.items()})

    def reset(self) -> None:
        """Break the connection off hard."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


class Server(ThreadingHTTPServer):
    """Quiet about connections that tests break."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


class Model:
    """A model that answers every question by its schema, the same each time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.faults: deque[Callable[[Handler, dict[str, Any]], None] | None] = deque()
        """What the next requests meet; None is a good answer."""
        self.always: Callable[[Handler, dict[str, Any]], None] | None = None
        """What all requests meet after them."""
        self.slow = 0.0
        self.running = self.most_running = 0
        self.url = ""

    def answer(self, body: dict[str, Any]) -> str:
        """JSON that fits the schema in the question."""
        question = body["messages"][1]["content"]
        schema = json.loads(question.rsplit("nothing else:\n", 1)[1]) if "nothing else:\n" in question else WORDS
        return json.dumps(self._value(schema, hashlib.sha256(question.encode()).hexdigest()[:6]))

    def _value(self, schema: dict[str, Any], name: str) -> Any:
        match schema["type"]:
            case "object":
                return {key: self._value(part, f"{key} {name}") for key, part in schema["properties"].items()}
            case "array":
                return [self._value(schema["items"], f"{name} {n}") for n in range(3)]
            case _:
                return f"Text {name}"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setattr(ask, "FIRST_WAIT_SECONDS", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(("127.0.0.1", 0), Handler)
    found = Model()
    server.model = found  # type: ignore[attr-defined]
    found.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


class Setup:
    """What a test asks with."""

    key, schema = KEY, WORDS

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.folder = model, folder

    def config(self, **options: Any) -> GenerateConfig:
        """A config that is quick to give up."""
        base: dict[str, Any] = {
            "generate": True,
            "endpoint": self.model.url,
            "model": "m",
            "concurrency": 1,
            "timeout_seconds": 10.0,
        }
        return GenerateConfig(**base | {"tries": 3} | options)

    def request(self, name: str = "jump") -> Request:
        """A question with a small schema."""
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Words for {name}?"}]
        return Request(name, "m", messages, WORDS, {"max_tokens": 100})

    def ask(self, *requests: Request, **options: Any) -> tuple[dict[str, Any], Generator]:
        """Ask, and return the answers with the generator that counted."""
        with generator(self.config(**options), self.folder) as asked:
            return asked.answers(requests or [self.request()], "test"), asked


@pytest.fixture
def setup(model: Model, tmp_path: Path) -> Setup:
    return Setup(model, tmp_path)
