import asyncio
import json
import re
import threading
import time
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrec.data.cleaning import LONGEST_ID
from genrec.decoding.attribute_filter import OPERATORS
from genrec.serving.body_limit import DISCARDED_LIMITS, BodyLimit
from genrec.serving.http import MAX_BODY_BYTES, MAX_WAITING, create_app
from tests.serving.fakes import NextRows, recommender

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client():
    # Exceptions of the service are answers here: a 500 must be seen as one.
    app = create_app(recommender(), max_k=20, max_history=10)
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


def post(client, body):
    return client.post("/v1/recommend", json=body)


def test_an_answer_has_items_reasons_and_digests(client):
    answer = post(client, {"history": ["i0", "ghost"], "k": 2})
    assert answer.status_code == 200
    assert answer.json() == {
        "items": [
            {"item_id": "i1", "score": -1.0, "rank": 1, "title": "Title 1"},
            {"item_id": "i2", "score": -2.0, "rank": 2, "title": "Title 2"},
        ],
        "unknown_items": ["ghost"],
        "fallback": None,
        "shortfall": None,
        "rules": ["exclude_seen"],
        "score": "model",
        "history_read": 1,
        "model_digest": "a" * 64,
        "index_digest": "b" * 64,
    }


def test_defaults_are_ten_items_and_no_seen_ones(client):
    body = post(client, {"history": ["i0"]}).json()
    assert [item["item_id"] for item in body["items"]] == ["i1", "i2", "i3", "i4", "i5"]
    assert "10 items were asked for and 5 returned" in body["shortfall"]
    seen = post(client, {"history": ["i0"], "exclude_seen": False}).json()
    assert len(seen["items"]) == 6


def test_an_empty_history_gets_popular_items_and_is_told(client):
    body = post(client, {"history": [], "k": 2}).json()
    assert [item["item_id"] for item in body["items"]] == ["i2", "i3"]
    assert body["fallback"] == "popularity: the history is empty"


def test_health_names_what_is_served(client):
    body = client.get("/healthz").json()
    assert body["status"] == "ok"
    assert (body["model"], body["items"]) == ("next_rows", 6)
    assert (body["model_digest"], body["index_digest"]) == ("a" * 64, "b" * 64)
    assert body["prefix_cache"] is None


def test_the_description_names_the_limits(client):
    text = client.get("/openapi.json").json()
    fields = text["components"]["schemas"]["Query"]["properties"]
    assert (fields["k"]["minimum"], fields["k"]["maximum"]) == (1, 20)
    assert fields["history"]["maxItems"] == 10
    assert fields["history"]["items"]["maxLength"] == LONGEST_ID
    assert client.get("/docs").status_code == 200


def test_the_page_of_the_interface_loads_nothing_from_elsewhere(client):
    page = client.get("/docs").text
    sources = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page)
    assert len(sources) >= 3
    for source in sources:
        place = urlsplit(source)
        assert place.netloc in ("", urlsplit(str(client.base_url)).netloc), source
        assert client.get(urljoin("/docs", place.path)).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "body.history: Field required"),
        ({"history": ["i0"], "kk": 3}, "body.kk: Extra inputs"),
        ({"history": "i0,i1"}, "body.history: Input should be a valid list"),
        ({"history": [1]}, "body.history.0: Input should be a valid string"),
        ({"history": [None]}, "body.history.0"),
        ({"history": [""]}, "body.history.0"),
        ({"history": ["x" * 501]}, "at most 500 characters"),
        ({"history": ["i0"] * 11}, "at most 10 items"),
        ({"history": ["i0"], "k": 0}, "body.k: Input should be greater than or equal to 1, got 0."),
        ({"history": ["i0"], "k": 21}, "body.k: Input should be less than or equal to 20, got 21."),
        ({"history": ["i0"], "k": "3"}, "body.k: Input should be a valid integer"),
        ({"history": ["i0"], "k": 3.0}, "body.k"),
        ({"history": ["i0"], "k": True}, "body.k"),
        ({"history": ["i0"], "k": None}, "body.k"),
        ({"history": ["i0"], "k": 10**300}, "body.k"),
        ({"history": ["i0"], "exclude_seen": "yes"}, "body.exclude_seen"),
        ([], "body"),
        ("text", "body"),
        (None, "body"),
    ],
)
def test_a_wrong_field_is_named_with_the_way_out(client, body, words):
    answer = post(client, body)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert words in detail
    assert 'Send JSON such as {"history"' in detail


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"history=i0",
        b"\xff\xfe",
        b'{"history": [NaN]}',
        b'{"k": NaN, "history": []}',
        b'{"k": Infinity, "history": []}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"history": ["\\ud800"]}',
        b'{"\\ud800": 1, "history": []}',
        b'{"k": ' + b"9" * 5000 + b"}",
        b'{"history": ["i0"], "k": 1e400}',
    ],
)
def test_what_is_no_request_is_refused_as_json(client, raw):
    answer = client.post("/v1/recommend", content=raw, headers=JSON)
    assert answer.status_code in (400, 422)
    assert 'Send JSON such as {"history"' in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data", ""])
def test_other_content_types_are_refused(client, kind):
    answer = client.post(
        "/v1/recommend", content=b'{"history": ["i0"]}', headers={"content-type": kind}
    )
    assert answer.status_code in (400, 422)
    assert isinstance(answer.json()["detail"], str)


def test_other_paths_and_methods_are_refused_as_json(client):
    wrong = client.get("/v1/recommend")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json() == {"detail": "GET '/v1/recommend' is not answered; send POST."}
    nowhere = client.get("/nowhere")
    assert nowhere.status_code == 404
    assert "there is no GET '/nowhere'; there are POST /v1/recommend" in nowhere.json()["detail"]


@pytest.mark.parametrize("extra", [0, 1])
def test_a_body_of_one_mebibyte_is_the_most(client, extra):
    body = b'{"history": []}'
    body += b" " * (MAX_BODY_BYTES + extra - len(body))
    answer = client.post("/v1/recommend", content=body, headers=JSON)
    assert answer.status_code == (413 if extra else 200)
    if extra:
        detail = answer.json()["detail"]
        assert "larger than 1048576 bytes; send fewer ids in history, deny, allow" in detail


def test_an_endless_body_is_refused_while_it_is_read():
    """The service holds one limit's worth and discards some more, whatever the client declares."""
    app = create_app(recommender())
    taken, sent = 0, []

    async def receive():
        nonlocal taken
        taken += 65536
        return {"type": "http.request", "body": b" " * 65536, "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/recommend",
        "headers": [],
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert taken <= (1 + DISCARDED_LIMITS) * MAX_BODY_BYTES + 2 * 65536


def test_a_list_of_a_million_ids_is_read_to_its_end_and_refused():
    """A connection that is closed while a client still sends loses the answer with it."""
    body = json.dumps({"history": [], "deny": [f"item{n:09d}" for n in range(1_000_000)]}).encode()
    chunks = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    sent = []

    async def receive():
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message):
        sent.append(message)

    async def never(scope, receive, send):
        raise AssertionError("the request must not get here")

    asyncio.run(BodyLimit(never, max_bytes=MAX_BODY_BYTES)({"type": "http"}, receive, send))
    assert sent[0]["status"] == 413
    assert chunks == []


def test_a_body_that_never_ends_to_arrive_is_given_up():
    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    async def never(scope, receive, send):
        raise AssertionError("the request must not get here")

    asyncio.run(BodyLimit(never, max_bytes=10, seconds=0.05)({"type": "http"}, receive, send))
    assert sent[0]["status"] == 408
    assert "detail" in json.loads(sent[1]["body"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "history": json_values | st.lists(st.sampled_from(["i0", "i5", "ghost", "\u2603", "\x00"])),
        "k": json_values | st.integers(-2, 25),
        "exclude_seen": json_values,
        "extra": json_values,
    },
)
comparisons = st.fixed_dictionaries(
    {
        "attribute": st.sampled_from(["title", "item_id", "cost"]) | json_values,
        "op": st.sampled_from(OPERATORS) | json_values,
        "value": json_values | st.lists(st.text(max_size=3), max_size=3),
    }
)
expressions = st.recursive(
    comparisons,
    lambda inner: (
        st.builds(lambda one: {"not": one}, inner)
        | st.builds(lambda several: {"all": several}, st.lists(inner, max_size=3))
        | st.builds(lambda several: {"any": several}, st.lists(inner, max_size=3))
    ),
    max_leaves=5,
)
ids = st.lists(st.sampled_from(["i0", "i1", "i5", "ghost", "\x00"]), max_size=4)
ruled = st.fixed_dictionaries(
    {"history": st.sampled_from([["i0"], [], ["ghost"]]), "k": st.integers(1, 8)},
    optional={
        "deny": ids | json_values,
        "allow": ids | json_values,
        "where": expressions | json_values,
        "named": ids | json_values,
        "at_most": st.dictionaries(
            st.sampled_from(["title", "first_code", "x"]), st.integers(-1, 3)
        )
        | json_values,
        "boosts": st.dictionaries(st.sampled_from(["i1", "ghost"]), st.floats()) | json_values,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=requests | ruled | json_values)
def test_any_json_gets_an_answer_or_a_reason(client, body):
    answer = client.post("/v1/recommend", content=json.dumps(body), headers=JSON)
    assert answer.status_code in (200, 400, 422)
    if answer.status_code == 200:
        items = [item["item_id"] for item in answer.json()["items"]]
        assert len(items) == len(set(items)) <= 20
    else:
        assert isinstance(answer.json()["detail"], str)


class Slow(NextRows):
    """Answers when told to, and notices two calls at once."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.inside = 0
        self.most = 0

    def rank(self, histories, k, *, exclude=None):
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.release.wait(10)
        time.sleep(0.001)
        self.inside -= 1
        return super().rank(histories, k, exclude=exclude)


def test_health_is_answered_and_one_request_runs_at_a_time_while_the_model_works():
    ranker = Slow()
    app = create_app(recommender(ranker))
    asked = MAX_WAITING + 5
    with TestClient(app) as client:
        codes = []

        def ask():
            codes.append(post(client, {"history": ["i0"], "k": 1}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(asked)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 10
        # Those beyond the queue are sent away at once; the rest wait for the model.
        while len(codes) < asked - MAX_WAITING and time.monotonic() < until:
            time.sleep(0.01)
        assert codes == [503] * (asked - MAX_WAITING)
        assert client.get("/healthz").json()["status"] == "ok"
        ranker.release.set()
        for thread in threads:
            thread.join(10)
    assert sorted(codes) == [200] * MAX_WAITING + [503] * (asked - MAX_WAITING)
    assert ranker.most == 1


def test_a_fault_of_the_model_is_a_json_answer_and_not_the_end_of_the_service():
    class Broken(NextRows):
        def rank(self, histories, k, *, exclude=None):
            raise RuntimeError("secret path")

    with TestClient(create_app(recommender(Broken())), raise_server_exceptions=False) as client:
        answer = post(client, {"history": ["i0"]})
        assert answer.status_code == 500
        assert "its log says why" in answer.json()["detail"]
        assert "secret" not in answer.text
        assert post(client, {"history": []}).status_code == 200


def test_rules_are_kept_to_and_named(client):
    where = {"not": {"attribute": "title", "op": "in", "value": ["Title 2", "Title 3"]}}
    body = post(client, {"history": ["i0"], "k": 3, "deny": ["i4", "x"], "where": where}).json()
    assert [item["item_id"] for item in body["items"]] == ["i1", "i5"]
    assert body["rules"] == ["exclude_seen", "deny (2 ids, 1 not in the catalogue)", "where"]
    assert "the rules allow 2" in body["shortfall"]
    only = post(client, {"history": ["i0"], "allow": []}).json()
    assert only["items"] == []
    assert "the rules allow 0" in only["shortfall"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"where": {"attribute": "cost", "op": "<", "value": 1}}, "no attribute 'cost'; they have"),
        ({"where": {"attribute": "title", "op": "~", "value": "x"}}, "'~' is no operator; use one"),
        ({"named": ["in_stock"]}, "no set of items called 'in_stock'"),
        ({"at_most": {"title": 0}}, "expected a whole number from 1"),
        ({"at_most": {"colour": 2}}, "no attribute 'colour'; at_most takes first_code or one of"),
        ({"boosts": {"i1": 1e9}}, "expected a number between"),
        ({"boosts": {"i1": 1.0}}, "knows neither boosts nor at_most"),
        (
            {"where": {"attribute": "title", "op": "==", "value": [[["x"]]]}},
            "is list; give a value",
        ),
        ({"where": {"attribute": "x" * 5000, "op": "<", "value": 1}}, "no attribute 'xxxxx"),
        ({"where": {}}, "got an object without keys"),
        ({"deny": "i1"}, "deny"),
        ({"where": "price < 1"}, "where"),
    ],
)
def test_rules_that_are_none_are_refused_with_what_is_valid(client, rules, words):
    answer = post(client, {"history": ["i0"], "k": 2, **rules})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    # However much was sent, the answer repeats the beginning of it.
    assert len(answer.json()["detail"]) < 500
