"""The OpenAPI description: bodies that the workers read, common errors, the token."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from evg.serve.pictures import JSON, PICTURES
from evg.serve.schemas import CalibrationFile, CalibrationRequest, GazeRequest, Problem, ReportRequest

_REF = '#/components/schemas/{model}'
_BODIES: list[type[BaseModel]] = [GazeRequest, CalibrationRequest, CalibrationFile, ReportRequest, Problem]
_ANYWHERE = {
    '400': 'a malformed request',
    '401': 'the token is missing or wrong',
    '403': 'a page of another site, or another name of this host',
    '409': 'the calibration is for another screen, model or camera',
    '408': 'the body came too slowly',
    '404': 'there is no such calibration, or file of the page',
    '413': 'the body or the picture is too large',
    '415': 'another type of body or picture',
    '422': 'the request cannot be processed; `detail` says why',
    '429': 'too many requests, or the server is busy; try again after `Retry-After` seconds',
    '503': 'the server is stopping or starting',
}


def _link(operation: str) -> dict[str, Any]:
    return {'operationId': operation, 'parameters': {'calibration': '$response.body#/id'}}


# What can be done with a calibration that was made.
CALIBRATION_LINKS = {name: _link(name) for name in ('calibration_of', 'calibration_file', 'forget')}


def json_body(model: type[BaseModel], pictures: bool = False) -> dict[str, Any]:
    """What a route takes whose body is read by a worker.

    Args:
        model: of the JSON.
        pictures: whether a picture file can be sent instead.
    """
    content: dict[str, Any] = {JSON: {'schema': {'$ref': _REF.format(model=model.__name__)}}}
    if pictures:
        content = {kind: {'schema': {'type': 'string', 'format': 'binary'}} for kind in PICTURES} | content
    return {'requestBody': {'required': True, 'content': content}}


def describe(app: FastAPI, secured: bool) -> Callable[[], dict[str, Any]]:
    """What replaces `app.openapi`.

    Args:
        app: the application.
        secured: whether a token is needed.
    """

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            whole = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, bodies = models_json_schema([(model, 'validation') for model in _BODIES], ref_template=_REF)
            components = whole.setdefault('components', {})
            components['schemas'] = {**components.get('schemas', {}), **bodies['$defs']}
            for name in ('HTTPValidationError', 'ValidationError'):
                components['schemas'].pop(name, None)
            for methods in whole['paths'].values():
                for route in methods.values():
                    own = route['responses']
                    own.pop('422', None)  # FastAPI's own form of it is not used
                    own |= {status: _problem(why) for status, why in _ANYWHERE.items() if status not in own}
            if secured:
                components['securitySchemes'] = {'token': {'type': 'http', 'scheme': 'bearer'}}
                whole['security'] = [{'token': []}]
            app.openapi_schema = whole
        return app.openapi_schema

    return openapi


def _problem(description: str) -> dict[str, Any]:
    return {'description': description, 'content': {JSON: {'schema': {'$ref': _REF.format(model='Problem')}}}}
