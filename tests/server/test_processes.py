"""The server as processes of its own: one socket, a change seen by all, a graceful end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tiny import add, net, space

from modelspace.errors import ModelspaceError, UsageError
from modelspace.server import processes
from modelspace.server.settings import Settings

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


def test_settings_are_checked() -> None:
    for wrong in ({"port": -1}, {"port": 65536}, {"workers": 0}, {"workers": 65}):
        with pytest.raises(UsageError, match="must be in"):
            Settings(**wrong)
    local = {host: Settings(host).is_local for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9", "0.0.0.0", "::")}
    assert [host for host, is_local in local.items() if is_local] == ["127.0.0.1", "::1", "localhost", "127.9.9.9"]


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="in use"):
        processes.listen(Settings(port=taken.getsockname()[1]))
    with pytest.raises(UsageError, match="can't be served"):
        processes.listen(Settings("host.invalid"))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ModelspaceError) as raised:
        processes.run(None, Settings())
    assert "modelspace-db[serve]" in raised.value.hint


@pytest.mark.wide
@pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")
def test_two_workers_answer_see_a_change_and_end(tmp_path: Path) -> None:
    made = space(tmp_path, images=4, methods=["gradient_x_input"])
    add(made, "first", net(1))
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    words = ["serve", "--home", str(tmp_path), "--port", "0", "--workers", "2", "--token-file", str(token)]
    process = subprocess.Popen([sys.executable, "-m", "modelspace", *words], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split()[1]

        def ask(path: str) -> Any:
            request = urllib.request.Request(url + path, headers={"Authorization": "Bearer 0123456789abcdef"})
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)

        assert len(ask("/v1/models")["models"]) == 1
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/v1/models", timeout=30)
        made.rename("first", "renamed")
        time.sleep(0.5)
        assert {ask("/v1/models")["models"][0]["name"] for _ in range(8)} == {"renamed"}
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as raw:
            raw.sendall(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
