"""The HTTP service: one model, asked over JSON."""

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from reprlib import repr as shortened
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from genrec import __version__
from genrec.data.cleaning import LONGEST_ID
from genrec.errors import RequestError
from genrec.serving.body_limit import BodyLimit
from genrec.serving.recommender import Recommender
from genrec.serving.rules import Rules

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
MAX_WAITING = 64
_EXAMPLE = (
    'Send JSON such as {"history": ["ID1", "ID2"], "k": 10, "exclude_seen": true}, with '
    "Content-Type: application/json."
)


class Item(BaseModel):
    """One recommended item."""

    item_id: str = Field(description="Id of the item.")
    score: float = Field(description="Higher is better; comparable within one answer only.")
    rank: int = Field(description="1 is the best.")
    title: str = Field(description="What to show a person.")


class Answer(BaseModel):
    """Items for one history, and everything worth knowing about them."""

    items: list[Item] = Field(description="Best first.")
    unknown_items: list[str] = Field(description="Ids of the history the catalogue does not have.")
    fallback: str | None = Field(description="What answered in place of the model, and why.")
    shortfall: str | None = Field(description="Why there are fewer than k items.")
    rules: list[str] = Field(description="The rules that were kept to.")
    score: str = Field(
        description="What scores are: level or exact log-probabilities, or counts of a fallback."
    )
    history_read: int = Field(description="Newest items of the history that were read.")
    model_digest: str = Field(description="Identifies the model.")
    index_digest: str = Field(description="Identifies the semantic IDs that are served.")


class PrefixUse(BaseModel):
    """What was reused of earlier histories since the start."""

    prompts: int = Field(description="Histories that were looked up.")
    hits: int = Field(description="Those of which a part was not read again.")
    tokens_read: int = Field(description="Tokens the model read.")
    tokens_reused: int = Field(description="Tokens it did not have to read.")
    bytes_used: int = Field(description="Memory that is in use.")
    bytes_limit: int = Field(description="Memory it may take: serve.prefix_cache_bytes.")


class Health(BaseModel):
    """What is being served."""

    status: str = Field(description="ok: requests are answered.")
    model: str = Field(description="Name of the ranking model.")
    items: int = Field(description="Items in the catalogue.")
    model_digest: str = Field(description="Identifies the model.")
    index_digest: str = Field(description="Identifies the semantic IDs that are served.")
    version: str = Field(description="Version of genrec.")
    prefix_cache: PrefixUse | None = Field(
        description="What was reused of earlier histories; null where nothing is kept."
    )


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="What was wrong and what to do.")


class AsciiJSON(JSONResponse):
    """JSON in ASCII, so that any text a client sent can be repeated to it."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Return the content as bytes."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii")


def create_app(recommender: Recommender, *, max_k: int = 100, max_history: int = 1000) -> FastAPI:
    """Make the service: POST /v1/recommend, GET /healthz, and a description at /docs.

    The model runs on one thread of its own, so that /healthz is answered while it works.

    Args:
        recommender: What answers.
        max_k: Largest k a request may ask for.
        max_history: Longest history a request may send.
    """
    model_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        model_thread.shutdown(wait=True)

    app = FastAPI(
        title="genrec",
        version=__version__,
        lifespan=lifespan,
        default_response_class=AsciiJSON,
        description="Recommendations from a language model that speaks in semantic IDs.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    _add_error_handlers(app)
    _add_recommend(app, recommender, model_thread, max_k, max_history)
    _add_page(app)

    @app.get("/healthz", response_model=Health, summary="Tell that the service is up")
    async def healthz() -> JSONResponse:
        reused = recommender.prefix_cache_stats
        return AsciiJSON(
            {
                "status": "ok",
                "model": recommender.name,
                "items": len(recommender.catalog),
                **_digests(recommender),
                "version": __version__,
                "prefix_cache": None if reused is None else asdict(reused),
            }
        )

    return app


def _add_page(app: FastAPI) -> None:
    """Serve /docs with scripts of our own: FastAPI's page loads them from a public network."""
    app.mount("/docs-files", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{app.title}: interface",
            swagger_js_url="docs-files/swagger-ui-bundle.js",
            swagger_css_url="docs-files/swagger-ui.css",
            swagger_favicon_url="docs-files/favicon-32x32.png",
        )


def _add_recommend(
    app: FastAPI,
    recommender: Recommender,
    model_thread: ThreadPoolExecutor,
    max_k: int,
    max_history: int,
) -> None:
    """Add POST /v1/recommend, whose limits depend on the service."""
    item_id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]

    class Query(BaseModel):
        """A history and how many items are wanted."""

        model_config = ConfigDict(extra="forbid", strict=True)

        history: list[item_id] = Field(
            max_length=max_history, description="Item ids, oldest first; may be empty."
        )
        k: int = Field(min(10, max_k), ge=1, le=max_k, description="Items wanted.")
        exclude_seen: bool = Field(True, description="Never recommend an item of the history.")
        deny: list[item_id] = Field([], description="Ids that must not be returned.")
        allow: list[item_id] | None = Field(None, description="The only ids that may be returned.")
        where: dict[str, Any] | None = Field(
            None,
            description="A rule about attributes: attribute, op and value; or all, any, not.",
            examples=[{"attribute": "price", "op": "<=", "value": 20}],
        )
        named: list[str] = Field([], max_length=20, description="Sets of items, such as in_stock.")
        at_most: dict[str, int] = Field(
            {}, max_length=5, description="Attribute, or first_code, to items of one value."
        )
        boosts: dict[str, float] = Field({}, description="Id to what is added to its score.")

    waiting = 0

    @app.post(
        "/v1/recommend",
        response_model=Answer,
        summary="Recommend items for a history",
        responses={code: {"model": Problem} for code in (400, 408, 413, 422, 503)},
    )
    async def recommend(query: Query) -> JSONResponse:
        nonlocal waiting
        if waiting >= MAX_WAITING:
            return AsciiJSON(
                {"detail": f"{waiting} requests are waiting already; try again in a second."},
                status_code=503,
                headers={"Retry-After": "1"},
            )
        waiting += 1
        try:
            rules = Rules(**query.model_dump(exclude={"history", "k"}))
            work = functools.partial(recommender.recommend, [query.history], query.k, rules=rules)
            [answer] = await asyncio.get_running_loop().run_in_executor(model_thread, work)
        finally:
            waiting -= 1
        return AsciiJSON({**asdict(answer), **_digests(recommender)})


def _in_words(problem: Mapping[str, Any]) -> str:
    """Return where a request is wrong, why, and what was sent there if that is short."""
    text = f"{'.'.join(str(part) for part in problem['loc'][:4])[:200]}: {problem['msg']}"
    given = problem.get("input")
    short = given is None or isinstance(given, str | int | float)
    if problem["type"] in ("missing", "json_invalid", "extra_forbidden") or not short:
        return text
    return f"{text}, got {shortened(given)}"


def _digests(recommender: Recommender) -> dict[str, str]:
    return {
        "model_digest": recommender.model_digest,
        "index_digest": recommender.index_digest,
    }


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error with JSON that has a ``detail``."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [_in_words(problem) for problem in error.errors()[:10]]
        return AsciiJSON({"detail": f"{'; '.join(problems)}. {_EXAMPLE}"}, status_code=422)

    @app.exception_handler(HTTPException)
    async def unanswerable(request: Request, error: HTTPException) -> JSONResponse:
        asked = f"{request.method} {shortened(request.url.path)}"
        detail = {
            400: f"the body is no JSON that can be read: {error.detail}. {_EXAMPLE}",
            404: f"there is no {asked}; there are POST /v1/recommend, GET /healthz and GET /docs.",
            405: f"{asked} is not answered; send {(error.headers or {}).get('Allow')}.",
        }.get(error.status_code, error.detail)
        return AsciiJSON({"detail": detail}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        return AsciiJSON({"detail": str(error)}, status_code=422)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return AsciiJSON(
            {"detail": "the service failed on this request; its log says why."}, status_code=500
        )
