"""The server's routes. What is heavy is done by the workers; the event loop only carries it."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import anyio
from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

import evg
from evg.inference.filters import FILTERS
from evg.serve import schemas
from evg.serve.atlas_contract import add_atlas_routes
from evg.serve.calibration_routes import add_calibration_routes
from evg.serve.calibrations import Calibrations
from evg.serve.docs_page import docs_page
from evg.serve.guard import Guard, problem
from evg.serve.limits import RateLimit
from evg.serve.metrics import CONTENT_TYPE, Metrics
from evg.serve.openapi import describe, json_body
from evg.serve.pictures import gaze_request, json_text
from evg.serve.refusal import Refusal
from evg.serve.settings import Settings
from evg.serve.static import page_file
from evg.serve.stream import Streams
from evg.serve.workers import WorkerPool


def create_app(predictor_factory: Callable[[], Any], settings: Settings) -> FastAPI:
    """The whole server as an ASGI application.

    Args:
        predictor_factory: makes an `evg.inference.GazePredictor`; called once in each worker process, so it must be
            picklable: a function of a module, or `functools.partial` of one.
        settings: limits and access.
    """
    pool = WorkerPool(
        predictor_factory, settings.workers, settings.queue, settings.request_s, settings.max_pixels, settings.min_score
    )
    calibrations = Calibrations(settings.calibrations, settings.calibration_s)
    metrics = Metrics(pool, calibrations)
    rate = RateLimit(settings.requests_per_s, 2 * settings.requests_per_s)
    streams = Streams(pool, calibrations, settings, metrics, rate)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not pool.about:
            await anyio.to_thread.run_sync(pool.start)
        yield
        await anyio.to_thread.run_sync(pool.stop)

    app = FastAPI(
        title='evg',
        version=evg.__version__,
        description='Pictures in, gaze out. The stream `/v1/stream` is described in docs/server.md.',
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.pool = pool
    app.add_middleware(Guard, settings=settings, metrics=metrics, rate=rate)
    app.openapi = describe(app, secured=settings.token is not None)  # type: ignore[method-assign]

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return problem(error.status, error.detail)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return problem(422, schemas.first_mistake(error.errors()))

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # a route knows only its own methods, not those of others at its path
            routes = [r for r in app.routes if isinstance(r, APIRoute) and r.path_regex.match(request.url.path)]
            headers['Allow'] = ', '.join(sorted(method for route in routes for method in route.methods or ()))
        return problem(error.status_code, str(error.detail), headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return problem(500, 'an internal error; the log says more')

    def about() -> dict[str, Any]:
        return {**pool.about, 'version': evg.__version__, 'filters': list(FILTERS), 'limits': settings.limits()}

    @app.get('/', include_in_schema=False)
    async def page() -> Response:
        return page_file('index.html')

    @app.get('/static/{name}', include_in_schema=False)
    async def static(name: str) -> Response:
        return page_file(name)

    @app.get('/docs', include_in_schema=False)
    async def docs() -> HTMLResponse:
        return docs_page(app.openapi())

    @app.get('/healthz', summary='Whether a worker can answer', responses={503: {'model': schemas.Health}})
    async def healthz(response: Response) -> schemas.Health:
        response.status_code = 200 if pool.alive else 503
        return schemas.Health(status='ok' if pool.alive else 'starting', workers=pool.alive)

    @app.get('/metrics', summary='Figures for Prometheus', response_class=Response)
    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get('/v1/info', summary='The model, its screen and camera, and the limits')
    async def info() -> schemas.Info:
        return schemas.Info.model_validate(about())

    @app.post(
        '/v1/gaze',
        summary='The gaze of the faces in a picture',
        responses={200: {'model': schemas.GazeAnswer}},
        openapi_extra=json_body(schemas.GazeRequest, pictures=True),
    )
    async def gaze(request: Request) -> Response:
        """A picture file as it is, or JSON with a screen and a calibration."""
        wanted = await gaze_request(request, pool)
        stored = None if wanted.calibration is None else calibrations.get(wanted.calibration).file
        seen = await pool.run('gaze', wanted.picture, wanted.screen, stored, None)
        head = json.dumps({'model': pool.about['model'], 'times_ms': seen.times_ms})
        return Response(f'{head[:-1]}, "faces": {seen.faces}}}', media_type='application/json')

    @app.post(
        '/v1/report',
        summary='The report of an accuracy test, as an HTML page or as JSON',
        response_class=HTMLResponse,
        responses={200: {'content': {'application/json': {'schema': {'type': 'object'}}}}},
        openapi_extra=json_body(schemas.ReportRequest),
    )
    async def report(request: Request, format: Literal['html', 'json'] = 'html') -> Response:
        """The figures and their definitions are those of docs/calibration.md."""
        text = await pool.run('report', await json_text(request), format)
        media = 'text/html' if format == 'html' else 'application/json'
        headers = {'Content-Disposition': f'attachment; filename="report.{format}"'}
        return Response(text, media_type=media, headers=headers)

    @app.websocket('/v1/stream')
    async def stream(socket: WebSocket) -> None:
        await streams.serve(socket, about())

    add_calibration_routes(app, pool, calibrations)
    add_atlas_routes(app, pool, settings.max_body_bytes)
    return app
