"""What a worker can be asked for."""

import base64
import binascii
import functools
import json
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from evg.errors import UserError
from evg.inference.accuracy import AccuracyTest
from evg.inference.accuracy_html import accuracy_html
from evg.inference.calibration import METHODS, Calibration, CalibrationSample, fit_calibration
from evg.inference.filters import Gate
from evg.inference.result import GazeResult
from evg.inference.screen import Screen
from evg.serve.limits import check_picture
from evg.serve.refusal import Refusal
from evg.serve.schemas import (
    MAX_FILE_BYTES,
    CalibrationFile,
    CalibrationRequest,
    GazeRequest,
    PointSamples,
    ReportRequest,
    ScreenFile,
    parse,
)
from evg.serve.worker import Seen, Wanted


class Tasks:
    """What a worker can be asked for. It holds no state of any client.

    Args:
        predictor: an `evg.inference.GazePredictor`.
        max_pixels: of a picture.
        min_score: smallest score, 0..1, of a point to be shown and of a sample.
    """

    def __init__(self, predictor: Any, max_pixels: int, min_score: float):
        self.predictor, self.max_pixels, self.min_score = predictor, max_pixels, min_score
        self.gate = Gate(min_score)

    def about(self) -> dict[str, Any]:
        """What `GET /v1/info` says about the predictor."""
        return {
            'model': self.predictor.name,
            'identity': self.predictor.identity,
            'camera': self.predictor.camera_identity,
            'screen': self.predictor.screen.to_json(),
            'methods': list(METHODS),
        }

    def wanted(self, body: bytes) -> Wanted:
        """What a request for a gaze wants.

        Args:
            body: `GazeRequest` as JSON.
        """
        request = parse(GazeRequest, body)
        try:
            picture = base64.b64decode(request.image, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(422, 'image: is not base64') from None
        screen = None if request.screen is None else request.screen.model_dump_json()
        return Wanted(picture, screen, request.calibration)

    def gaze(self, data: bytes, screen: str | None, calibration: str | None, timestamp_ms: float | None) -> Seen:
        """The gaze of all faces of a picture.

        Args:
            data: a picture file.
            screen: screen.json as text; None is the server's own.
            calibration: a calibration's file as text, or None.
            timestamp_ms: goes into the results.
        """
        start = time.perf_counter()
        place, correct = self._screen(screen), self._calibration(calibration, screen)
        image = self._decode(data)
        decoded = time.perf_counter()
        results = self.predictor.predict(image, timestamp_ms, place)
        if correct is not None:
            results = [correct.apply(result) for result in results]
        predicted = time.perf_counter()
        first = results[0]
        reason = self.gate.reason(first)
        point = first.screen_px
        known = point is not None and bool(np.isfinite(point).all())
        faces = json.dumps([_short(result).to_json() for result in results], allow_nan=False, separators=(',', ':'))
        times = {
            'decode': (decoded - start) * 1000,
            'predict': (predicted - decoded) * 1000,
            'worker': (time.perf_counter() - start) * 1000,
        }
        return Seen(faces, (float(point[0]), float(point[1])) if known else None, reason, times)

    def patch(self, data: bytes) -> tuple[float, float]:
        """(pitch, yaw), radians, of a normalised face, in its own frame: what the Atlas client asks for."""
        pitch, yaw = self.predictor.predict_patch(self._decode(data))
        if not np.isfinite([pitch, yaw]).all():
            raise Refusal(422, 'the model gives no finite answer for this picture')
        return float(pitch), float(yaw)

    def check(self, screen: str | None, calibration: str | None) -> None:
        """Refuse a screen that is none, and a calibration that is for another set-up."""
        self._screen(screen)
        self._calibration(calibration, screen)

    def calibrate(self, body: bytes) -> tuple[str, str]:
        """Fit a calibration.

        Args:
            body: `CalibrationRequest` as JSON.

        Returns:
            Its file, and what the client is told, both JSON objects as text.
        """
        request = parse(CalibrationRequest, body)
        samples = [
            CalibrationSample(target, result) for target, results in _points(request.points) for result in results
        ]
        if any(sample.result.calibrated for sample in samples):
            raise Refusal(422, 'these results are calibrated already: a calibration is fitted to results without one')
        screen = self._declared(request.screen)
        fitted = fit_calibration(
            samples,
            screen,
            request.method,
            self.predictor.identity,
            self.predictor.camera_identity,
            min_score=self.min_score,
        )
        return _stored(fitted)

    def read_calibration(self, body: bytes) -> tuple[str, str]:
        """As `calibrate`, from the file of a calibration; refused with 409 where it is for another model or camera."""
        read = Calibration.from_json(parse(CalibrationFile, body).model_dump(), 'the file')
        self._check(read, read.screen)
        return _stored(read)

    def report(self, body: bytes, form: str) -> str:
        """The report of an accuracy test.

        Args:
            body: `ReportRequest` as JSON.
            form: 'html' or 'json'.
        """
        request = parse(ReportRequest, body)
        test = AccuracyTest(self._declared(request.screen), self.min_score)
        for target, results in _points(request.points):
            test.add(target, results)
        report = test.report({**request.facts, 'model': self.predictor.identity})
        return accuracy_html(report) if form == 'html' else json.dumps(report, allow_nan=False)

    def _decode(self, data: bytes) -> np.ndarray:
        check_picture(data, self.max_pixels)
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
        if image is None:
            raise Refusal(422, 'the picture cannot be decoded')
        return image

    def _declared(self, screen: ScreenFile | None) -> Screen:
        return self._screen(None if screen is None else screen.model_dump_json())

    def _screen(self, text: str | None) -> Screen:
        return self.predictor.screen if text is None else _screen_of(text)

    def _calibration(self, text: str | None, screen: str | None) -> Calibration | None:
        if text is None:
            return None
        read = _calibration_of(text)
        self._check(read, self._screen(screen))
        return read

    def _check(self, calibration: Calibration, screen: Screen) -> None:
        try:
            calibration.check(screen, self.predictor.identity, self.predictor.camera_identity)
        except UserError as error:
            raise Refusal(409, str(error)) from None


def _short(result: GazeResult) -> GazeResult:
    """Landmarks in hundredths of a px: with all their digits they would be nine tenths of the answer."""
    return result if result.landmarks_px is None else replace(result, landmarks_px=np.round(result.landmarks_px, 2))


@functools.lru_cache(maxsize=64)
def _screen_of(text: str) -> Screen:
    return Screen.from_json(json.loads(text))


@functools.lru_cache(maxsize=64)
def _calibration_of(text: str) -> Calibration:
    return Calibration.from_json(json.loads(text))


def _stored(calibration: Calibration) -> tuple[str, str]:
    values = calibration.to_json()
    told = {name: values[name] for name in ('method', 'n_points', 'n_samples', 'message', 'leave_one_out')}
    told['rejected'] = [{'sample': number, 'reason': reason} for number, reason in calibration.rejected]
    file = json.dumps(values, allow_nan=False)
    if len(file) > MAX_FILE_BYTES:
        raise Refusal(413, f'the file of a calibration may have {MAX_FILE_BYTES:,} bytes; this one has {len(file):,}')
    return file, json.dumps(told, allow_nan=False)


def _points(points: list[PointSamples]) -> list[tuple[np.ndarray, list[GazeResult]]]:
    return [(np.array(p.target_px), [GazeResult.from_json(r.model_dump()) for r in p.results]) for p in points]
