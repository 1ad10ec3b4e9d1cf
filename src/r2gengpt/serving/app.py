"""The application: routes, what stands around them, errors in one shape. Listens nowhere and loads nothing."""

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from r2gengpt.serving.card import card_routes
from r2gengpt.serving.chat import chat_routes
from r2gengpt.serving.edited import document_routes
from r2gengpt.serving.evidence import evidence_routes
from r2gengpt.serving.failures import ApiError, ClientGone, unavailable
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.guard import TOLD, Guard, answer
from r2gengpt.serving.identity import Identity
from r2gengpt.serving.metrics import Metrics
from r2gengpt.serving.page import page_routes, preview_routes, reference_routes
from r2gengpt.serving.pdf import pdf_routes
from r2gengpt.serving.reports import report_routes
from r2gengpt.serving.served import runtimes_of
from r2gengpt.serving.standing import TICKET, queue_routes
from r2gengpt.serving.trail import Trail
from r2gengpt.serving.verdicts import verdict_routes
from r2gengpt.serving.waiting import ServerContext
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE
from r2gengpt.version import __version__

if TYPE_CHECKING:
    from r2gengpt.verdicts.store import VerdictStore

CLIENT_GONE = 499
"""What stands in the log for a request whose client left; nobody reads it."""

POSTS = "POST /v1/chat/completions, /v1/reports, /v1/evidence, /v1/preview, /v1/documents, /v1/pdf and /v1/verdicts"
SERVED = f"{POSTS}, GET /v1/models, /v1/card and /v1/queue"
HTTP_WORDS = {
    404: (f"no such address: this server has {SERVED}", "unknown_url"),
    405: (f"this address takes another method: this server has {SERVED}", "method_not_allowed"),
}
"""Status of a request that met no route → words and OpenAI's code."""


def create_app(
    generator: Generator,
    settings: ServeConfig,
    verdicts: "VerdictStore | None" = None,
    trail: Trail | None = None,
) -> FastAPI:
    """The application around a generator, which may still be loading.

    Args:
        generator: writes drafts.
        settings: who may ask from where, for how much.
        verdicts: where readers' verdicts are kept.
        trail: records requests.

    Raises:
        InputError: API keys that cannot be read.
    """
    identity, metrics = Identity(settings), Metrics(generator)
    if trail is not None and identity.keys is not None:
        identity.keys.on_change = trail.keys_changed
    server = ServerContext(generator, settings, metrics, verdicts)
    app = FastAPI(
        title="r2gengpt",
        version=__version__,
        description=f"Reports of chest X-rays. {NOTICE}.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.server, app.state.identity = server, identity
    app.include_router(chat_routes(server))
    app.include_router(report_routes(server))
    app.include_router(evidence_routes(server))
    app.include_router(preview_routes(server))
    app.include_router(card_routes(server))
    app.include_router(queue_routes(server))
    app.include_router(document_routes(server))
    app.include_router(pdf_routes(server))
    app.include_router(verdict_routes(server))
    app.include_router(page_routes())
    app.include_router(reference_routes(app, server))
    add_state_routes(app, server, trail)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(ClientGone, _nobody)
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origin),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", TICKET],
            expose_headers=TOLD,
        )
    app.add_middleware(Guard, settings=settings, identity=identity, metrics=metrics, words=HTTP_WORDS, trail=trail)
    return app


def add_state_routes(app: FastAPI, server: ServerContext, trail: Trail | None) -> None:
    """`/health`, `/ready` and `/metrics`: for machines, without a key, without anything of a request."""
    generator, metrics = server.generator, server.metrics

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        """Whether requests are taken: 503 while the model is loaded, the server stops, or nothing can be recorded."""
        if trail is not None:
            await trail.check()
        if generator.ready:
            return {"status": "ready", "runtimes": runtimes_of(server.reporter())}
        raise unavailable("the server is shutting down" if generator.draining else "the model is being loaded")

    @app.get("/metrics")
    async def numbers() -> Response:
        """Counts and times for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _refuse(request: Request, error: Any) -> JSONResponse:
    return answer(error)


async def _refuse_http(request: Request, error: Any) -> JSONResponse:
    words, code = HTTP_WORDS.get(error.status_code, (str(error.detail), None))
    return answer(ApiError(error.status_code, words, code, error.headers))


async def _nobody(request: Request, error: Any) -> Response:
    return Response(status_code=CLIENT_GONE)
