"""The route of the Atlas client (Ascend/samples, RT-GazeEstimation): unchanged, so that only its address changes."""

from typing import Annotated

from fastapi import FastAPI, File, UploadFile
from fastapi.responses import PlainTextResponse
from starlette.formparsers import MultiPartParser

from evg.serve.workers import WorkerPool

# What the sample's server answers to a GET; its client does not use it.
ALIVE = '24.3413 2.3532'


def add_atlas_routes(app: FastAPI, pool: WorkerPool, max_body_bytes: int) -> None:
    """Add `GET` and `POST /inferenceByom/`.

    Args:
        app: what they are added to.
        pool: the workers.
        max_body_bytes: of a request.
    """
    # Starlette writes a file of a form to disk from 1 MiB on, and can be told otherwise for the whole process only.
    MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, max_body_bytes)

    @app.get('/inferenceByom/', response_class=PlainTextResponse, summary='A constant: the server is there')
    async def alive() -> str:
        return ALIVE

    @app.post(
        '/inferenceByom/',
        response_class=PlainTextResponse,
        summary='Gaze of a normalised face: "pitch yaw", radians',
    )
    async def infer(face: Annotated[UploadFile, File(description='a JPEG of the normalised face')]) -> str:
        """Pitch (up positive) and yaw (the user's right positive) in the frame of the normalised picture."""
        pitch, yaw = await pool.run('patch', await face.read())
        return f'{pitch} {yaw}'
