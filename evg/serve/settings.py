"""What a server allows."""

from dataclasses import dataclass, fields

from evg.errors import UserError
from evg.serve.security import check_token


@dataclass(frozen=True)
class Settings:
    """Limits and access. All of them stand in `GET /v1/info`, the token excepted.

    Attributes:
        token: what a client must know; None lets in everybody who reaches the loopback address.
        workers: processes with a model each.
        max_body_bytes: of a request, and of a message of the stream.
        min_score: a face with a lower score has no point to be shown, and is no sample of a calibration or an accuracy
            test; 0 to 1, and 0 keeps all.
        max_pixels: of a picture, read from its header before it is decoded.
        requests_per_s: of one client address, steadily; twice as many at once. Frames of a stream count as requests.
        request_s: how long a body may take to arrive, a request to wait for a worker, and a worker to answer it.
        queue: requests that wait for a worker; more are told to come back.
        streams: open streams.
        stall_s: a stream that takes no answer for so long is closed.
        calibrations: how many are kept; the one that was not used for the longest time goes first.
        calibration_s: how long one is kept after its last use.
    """

    token: str | None = None
    workers: int = 1
    min_score: float = 0.0
    max_body_bytes: int = 10 * 2**20
    max_pixels: int = 4096 * 3072
    requests_per_s: float = 1000.0
    request_s: float = 10.0
    queue: int = 64
    streams: int = 64
    stall_s: float = 10.0
    calibrations: int = 256
    calibration_s: float = 12 * 3600.0

    def __post_init__(self):
        check_token(self.token)
        if not 0 <= self.min_score <= 1:
            raise UserError(f'Settings.min_score must be from 0 to 1, not {self.min_score}')
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ('token', 'min_score') and not value > 0:
                raise UserError(f'Settings.{field.name} must be positive, not {value}')

    def limits(self) -> dict[str, float]:
        """What a client may know of them."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ('token', 'workers')
        }
