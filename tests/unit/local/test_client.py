"""The command line's client of control, against a server that answers as it is told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.client import ControlClient
from local.errors import LocalError

ASKED = {"format": "csv"}


class Control(BaseHTTPRequestHandler):
    """Takes a while for a manifest; breaks off a file of the format `broken`."""

    may_answer = threading.Event()

    def do_GET(self) -> None:
        if "/manifest" in self.path:
            self.may_answer.wait(5)
        content = json.dumps({"rows": 1}).encode()
        more = 1 if "broken" in self.path else 0
        self.send_response(200)
        self.send_header("content-length", str(len(content) + more))
        self.send_header("x-usage-snapshot", "s")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def client() -> Iterator[ControlClient]:
    Control.may_answer.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Control)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ControlClient(f"http://127.0.0.1:{server.server_port}", "a-token")
    Control.may_answer.set()
    server.shutdown()
    server.server_close()


def test_a_manifest_that_is_made_again_is_waited_for(
    client: ControlClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.client._TIMEOUT_S", 0.1)
    timer = threading.Timer(0.3, Control.may_answer.set)
    timer.start()
    manifest = client.export(ASKED, tmp_path / "usage.csv")
    timer.join()

    assert json.loads(manifest) == {"rows": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["usage.csv"]


def test_an_export_that_breaks_off_leaves_nothing(
    client: ControlClient, tmp_path: Path
) -> None:
    with pytest.raises(LocalError):
        client.export({"format": "broken"}, tmp_path / "usage.csv")

    assert list(tmp_path.iterdir()) == []
