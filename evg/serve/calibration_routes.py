"""The routes of calibrations: fit one, bring one back, look at it, keep its file, forget it."""

from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from evg.serve import schemas
from evg.serve.calibrations import Calibrations
from evg.serve.openapi import CALIBRATION_LINKS, json_body
from evg.serve.pictures import json_text
from evg.serve.workers import WorkerPool

Id = Annotated[schemas.CalibrationId, Path(description='of a calibration')]


def add_calibration_routes(app: FastAPI, pool: WorkerPool, calibrations: Calibrations) -> None:
    """Add `/v1/calibration`.

    Args:
        app: what they are added to.
        pool: the workers.
        calibrations: where they are kept.
    """

    @app.post(
        '/v1/calibration',
        status_code=201,
        summary='Fit a calibration to what was seen at known points',
        response_model=schemas.CalibrationAnswer,
        responses={201: {'links': CALIBRATION_LINKS}},
        openapi_extra=json_body(schemas.CalibrationRequest),
    )
    async def calibrate(request: Request) -> Response:
        """The results must be raw: no calibration, no filter. Send `landmarks_px` as null, they are not needed."""
        return keep(*await pool.run('calibrate', await json_text(request)))

    @app.put(
        '/v1/calibration',
        status_code=201,
        summary='Bring back the file of a calibration',
        response_model=schemas.CalibrationAnswer,
        responses={201: {'links': CALIBRATION_LINKS}},
        openapi_extra=json_body(schemas.CalibrationFile),
    )
    async def upload(request: Request) -> Response:
        """Refused with 409 where it is for another model or camera; the screen is compared when it is used."""
        return keep(*await pool.run('read_calibration', await json_text(request)))

    def keep(file: str, told: str) -> Response:
        return Response(calibrations.add(file, told).summary, 201, media_type='application/json')

    @app.get(
        '/v1/calibration/{calibration}',
        operation_id='calibration_of',
        summary='What is known of a calibration',
        response_model=schemas.CalibrationAnswer,
    )
    async def calibration_of(calibration: Id) -> Response:
        return Response(calibrations.get(calibration).summary, media_type='application/json')

    @app.get(
        '/v1/calibration/{calibration}/file',
        operation_id='calibration_file',
        summary='The file of a calibration, to keep',
        response_model=schemas.CalibrationFile,
    )
    async def calibration_file(calibration: Id) -> Response:
        headers = {'Content-Disposition': 'attachment; filename="calibration.json"'}
        return Response(calibrations.get(calibration).file, media_type='application/json', headers=headers)

    @app.delete('/v1/calibration/{calibration}', status_code=204, operation_id='forget', summary='Forget a calibration')
    async def forget(calibration: Id) -> None:
        calibrations.remove(calibration)
