"""The server: what it answers, and what it refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import add, near, net, space

from modelspace.server.answers import ENDPOINTS
from modelspace.server.parameters import MOST_K
from modelspace.server.settings import Settings
from modelspace.workspace import ModelSpace

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from modelspace.server.app import make_app

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelSpace:
    made = space(tmp_path_factory.mktemp("served"), images=12, methods=["gradient_x_input"])
    for name, module in {"a": net(1), "b": near(1, 0.1), "c": net(2), "d": net(3)}.items():
        add(made, name, module, task=f"task {name}", tags={"group": "é" if name == "a" else "<script>"})
    made.add_task("flowers")
    made.observe("flowers", "a", 0.9)
    return made


def client_of(registry: ModelSpace, token: str | None = None, host: str = "127.0.0.1") -> TestClient:
    return TestClient(
        make_app(registry, Settings(host), token), base_url="http://localhost", raise_server_exceptions=True
    )


@pytest.fixture(scope="module")
def client(registry: ModelSpace) -> Iterator[TestClient]:
    with client_of(registry) as made:
        yield made


def error(response: Any) -> tuple[int, str, str]:
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    return response.status_code, response.json()["error"]["message"], response.json()["error"]["hint"]


# ---- answers


@pytest.mark.wide
def test_nearest_is_that_of_the_library(client: TestClient, registry: ModelSpace) -> None:
    answer = client.get("/v1/nearest/a", params={"k": 2, "hub_correction": "csls", "where": "name <> 'b'"}).json()
    expected = registry.nearest("a", 2, hubs="csls", where="name <> 'b'")
    assert answer["neighbours"] == json.loads(json.dumps(expected.to_dicts()))
    assert (answer["target"], answer["space"], answer["ranked_by"]) == ("a", "gradient_x_input", "csls")


def test_models_come_in_pages(client: TestClient, registry: ModelSpace) -> None:
    names, after, sizes = [], 0, []
    while after is not None:
        page = client.get("/v1/models", params={"limit": 3, "after": after}).json()
        names += [model["name"] for model in page["models"]]
        sizes.append(len(page["models"]))
        after = page["next"]
    assert (names, sizes) == (["a", "b", "c", "d"], [3, 1])
    assert [
        m["name"] for m in client.get("/v1/models", params={"where": "name > 'b'", "limit": 1}).json()["models"]
    ] == ["c"]
    assert client.get("/v1/models", params={"where": "false"}).json() == {"models": [], "next": None}
    shown = client.get("/v1/models/a").json()
    assert shown == json.loads(json.dumps(registry.list().to_dicts()[0]))
    assert shown["tags"] == {"group": "é"}


def test_affinity_has_the_interval_of_nearest(client: TestClient, registry: ModelSpace) -> None:
    answer = client.get("/v1/affinity", params={"a": "a", "b": "b"}).json()
    best = registry.nearest("a", 1)[0]
    assert (best.name, answer["space"]) == ("b", "gradient_x_input")
    assert [answer[key] for key in ("affinity", "low", "high")] == pytest.approx([best.affinity, best.low, best.high])


def test_spaces_tasks_and_outcomes(client: TestClient) -> None:
    assert [row["name"] for row in client.get("/v1/spaces").json()["spaces"]] == ["gradient_x_input"]
    (task,) = client.get("/v1/tasks").json()["tasks"]
    assert task == client.get("/v1/tasks/flowers").json()
    assert "location" not in task, "a path on the server"
    (outcome,) = client.get("/v1/tasks/flowers/outcomes").json()["outcomes"]
    assert (outcome["model"], outcome["score"]) == ("a", 0.9)
    assert client.get("/v1/tasks/flowers/prospects", params={"k": 1}).json()["models"][0]["name"] in "abcd"


def test_the_atlas_is_drawn_once_and_may_load_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/atlas")
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in first.headers["content-security-policy"]
    monkeypatch.setattr(ModelSpace, "atlas", None)
    assert client.get("/atlas").text == first.text


def test_the_document_describes_every_address_and_needs_nothing_from_elsewhere(client: TestClient) -> None:
    made = client.get("/openapi.json").json()
    assert set(made["paths"]) == {endpoint.path for endpoint in ENDPOINTS}
    k = next(each for each in made["paths"]["/v1/nearest/{name}"]["get"]["parameters"] if each["name"] == "k")
    assert k["schema"] == {"type": "integer", "minimum": 1, "maximum": MOST_K, "default": 5}
    page = client.get("/docs")
    assert all(f"GET {endpoint.path}" in page.text for endpoint in ENDPOINTS)
    assert "://" not in page.text
    assert "<script" not in page.text
    assert client.get("/").text == page.text


def test_health(registry: ModelSpace, tmp_path: Path) -> None:
    with client_of(registry, TOKEN) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
    with client_of(ModelSpace(tmp_path)) as client:
        assert error(client.get("/healthz"))[0] == 503
        assert error(client.get("/v1/models"))[0] == 503


# ---- what a client does wrong


@pytest.mark.parametrize(
    ("url", "status", "message", "hint"),
    [
        ("/v1/nearest/aa", 404, "there is no model 'aa'", "did you mean a?"),
        ("/v1/nearest/a?k=0", 400, "k must be a whole number in 1..1000", ""),
        ("/v1/nearest/a?k=1001", 400, "k must be a whole number in 1..1000", ""),
        ("/v1/nearest/a?k=%D9%A3", 400, "k must be a whole number in 1..1000", ""),
        ("/v1/nearest/a?k=1&k=2", 400, "the parameter k is given twice", ""),
        ("/v1/nearest/a?wehre=true", 400, "there is no parameter 'wehre' here", "did you mean where?"),
        ("/v1/nearest/a?hub_correction=x", 400, "hub_correction must be one of none, centred, csls, mutual", ""),
        ("/v1/nearest/a?space=x", 404, "there is no space 'x'", "did you mean gradient_x_input?"),
        ("/v1/nearest/a?where=nmae='a'", 400, "?where=nmae='a': ", "did you mean name?"),
        ("/v1/nearest/a?rerank=directed", 404, "re-ranking needs", "space.fill() on the server"),
        ("/v1/affinity?a=a", 400, "the parameter b is missing", ""),
        ("/v1/affinity?a=a&b=zz", 404, "there is no model 'zz'", ""),
        ("/v1/models?limit=1001", 400, "limit must be a whole number in 1..1000", ""),
        ("/v1/models?after=-1", 400, "after must be a whole number", ""),
        ("/v1/models?where=%FF", 400, "the query is not of the form", ""),
        ("/v1/models?where=%00", 400, "where is longer than 2000 characters, or has a null", ""),
        (f"/v1/models?where={'1' * 2001}", 400, "where is longer than 2000 characters", ""),
        (f"/v1/models?where={'1' * 8001}", 414, "the query is longer than 8000 characters", ""),
        ("/v1/tasks/none", 404, "there is no task 'none'", ""),
        ("/v1/spaces?x=1", 400, "there is no parameter 'x' here", "this address takes no parameters"),
        ("/v2/models", 404, "there is no such address", "/docs lists"),
        ("/v1/models/", 404, "there is no such address", ""),
    ],
)
def test_errors_are_json_with_a_hint(client: TestClient, url: str, status: int, message: str, hint: str) -> None:
    code, said, advice = error(client.get(url))
    assert (code, "`" in said + advice) == (status, False)
    assert said.startswith(message)
    assert hint in advice


#: What a model could be loaded from, or a file read through.
HOSTILE = (
    "zoo:curvature",
    "python:os:getcwd",
    "file:%2Fetc%2Fpasswd",
    "..%2F..%2Fetc%2Fpasswd",
    "%2e%2e",
    "a%00",
    "a%0d%0aX:%20y",
    "%F0%9F%91%8D",
    "a'--",
    "<script>",
    "x" * 3000,
    "%ff%fe",
)


@pytest.mark.first(8)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["/v1/nearest/", "/v1/models/", "/v1/tasks/"])
def test_a_hostile_name_is_no_model(client: TestClient, registry: ModelSpace, place: str, name: str) -> None:
    response = client.get(place + name)
    code, message, hint = error(response)
    assert code == 404
    assert "x" not in {key.lower() for key in response.headers}
    assert str(registry.home) not in message + hint


@pytest.mark.parametrize(
    "where",
    [
        "1=1) OR (1=1",
        "name IN (SELECT content FROM read_text('/etc/passwd'))",
        "name = (SELECT getenv('HOME'))",
        "true; DROP TABLE models",
        "true); COPY models TO '/tmp/x.csv'; --",
        "name = (SELECT 'x' FROM 'http://localhost/x.csv')",
    ],
)
def test_a_condition_escapes_nowhere(client: TestClient, registry: ModelSpace, where: str) -> None:
    response = client.get("/v1/models", params={"where": where})
    if response.status_code == 200:  # only a query of the models
        assert len(response.json()["models"]) <= 4
    else:
        assert error(response)[0] == 400
    assert len(registry) == 4


def test_a_condition_has_only_so_much_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelspace.registry import sql

    monkeypatch.setattr(sql, "CONDITION_S", 0.3)
    started = time.monotonic()
    slow = "(SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b) > 0"
    code, message, _ = error(client.get("/v1/models", params={"where": slow}))
    assert code == 400
    assert "interrupted after 0.3 s" in message
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    assert error(client.request(method, "/v1/models"))[0] == 405


def test_a_body_is_refused(client: TestClient) -> None:
    assert error(client.request("GET", "/v1/models", content=b"x"))[0] == 413
    assert error(client.request("GET", "/v1/models", headers={"Transfer-Encoding": "chunked"}))[0] == 413
    assert error(client.request("GET", "/v1/models", headers={"Content-Length": "1e9"}))[0] == 413


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org", "localhost.example.org:80", "", "[::2]", "a@localhost"]
)
def test_a_page_of_another_name_can_not_ask_this_machine(client: TestClient, host: str) -> None:
    assert error(client.get("/v1/models", headers={"Host": host}))[0] == 421


@pytest.mark.parametrize("host", ["localhost:8265", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_names_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/models?limit=1", headers={"Host": host}).status_code == 200


def test_other_machines_use_any_name(registry: ModelSpace) -> None:
    with client_of(registry, TOKEN, host="0.0.0.0") as client:
        headers = {"Host": "example.org", "Authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.first(6)
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}0",
        f"Bearer {TOKEN.upper()}",
        TOKEN,
    ],
)
def test_without_the_token_nothing_is_said(registry: ModelSpace, header: str | None) -> None:
    with client_of(registry, TOKEN) as client:
        for url in ("/v1/models", "/atlas", "/docs", "/openapi.json", "/", "/nothing"):
            response = client.get(url, headers={} if header is None else {"Authorization": header})
            assert error(response)[0] == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/v1/models", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
        twice = [("Authorization", "Bearer x"), ("Authorization", f"Bearer {TOKEN}")]
        assert client.get("/v1/models", headers=twice).status_code == 401
        assert client.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()["security"]


def test_a_fault_of_ours_is_an_error_without_details(registry: ModelSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ModelSpace) -> None:
        raise RuntimeError("secret")

    with client_of(registry) as client:
        monkeypatch.setattr(ModelSpace, "spaces", broken)
        code, message, hint = error(client.get("/v1/spaces"))
    assert code == 500
    assert "secret" not in message + hint


# ---- changes of the registry


@pytest.mark.wide
def test_a_change_is_seen_at_once_and_a_writer_is_not_kept_out(tmp_path: Path) -> None:
    made = space(tmp_path, images=4, methods=["gradient_x_input"])
    add(made, "first", net(1))
    add(made, "second", net(2))
    stop = threading.Event()
    wrong: list[object] = []

    with client_of(made) as client:

        def ask() -> None:
            while not stop.is_set():
                page = client.get("/v1/models").json()
                ranking = client.get("/v1/nearest/first?k=5").json()
                if "models" not in page or "neighbours" not in ranking or len(page["models"]) not in (2, 1):
                    wrong.append((page, ranking))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        made.remove("second")
        waited = time.monotonic() - started
        names = [model["name"] for model in client.get("/v1/models").json()["models"]]
        neighbours = client.get("/v1/nearest/first").json()["neighbours"]
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert (names, neighbours) == (["first"], [])
    assert waited < 5
