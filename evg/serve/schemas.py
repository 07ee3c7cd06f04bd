"""The JSON that clients send and get; what stands here is the OpenAPI description.

Units and frames are those of docs/conventions.md: px of the picture or of the screen, mm in the camera frame or on the
camera's plane, radians.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evg.inference.calibration_samples import MAX_POINTS
from evg.serve.refusal import Refusal

MAX_TEST_POINTS = 64  # of an accuracy test
MAX_RESULTS = 600  # of one point: 20 s at 30 frames a second
MAX_FILE_BYTES = 2 * 2**20  # of a calibration; one of 32 points with 600 results, all left out, has half of it

Number = Annotated[float, Field(allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0, le=1e9)]
Time = Annotated[float, Field(ge=-1e15, le=1e15)]
Share = Annotated[float, Field(ge=0, le=1)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Triple = Annotated[list[Number], Field(min_length=3, max_length=3)]
Size = Annotated[list[Annotated[float, Field(ge=1, le=1e5)]], Field(min_length=2, max_length=2)]
Place = Annotated[list[Annotated[float, Field(ge=-1e5, le=1e5)]], Field(min_length=3, max_length=3)]
Open = Annotated[list[Number | None], Field(min_length=2, max_length=2)]
Fact = Annotated[str, Field(max_length=200)]
CalibrationId = Annotated[str, Field(pattern=r'^[A-Za-z0-9_-]{22}$')]
Method = Literal['translation', 'affine', 'ridge', 'kappa', 'features']


class Strict(BaseModel):
    """A number is no text, a text no number, and an unknown name is an error."""

    model_config = ConfigDict(strict=True, extra='forbid', allow_inf_nan=False, ser_json_inf_nan='null')


class Problem(Strict):
    """Why a request was not answered."""

    detail: str


class ScreenFile(Strict):
    """A screen (screen.json). Screen frame: origin in the upper left corner, x right, y down, z away from the user."""

    format: Literal['evg-screen'] = 'evg-screen'
    version: Literal[1] = 1
    size_px: Size = Field(description='(width, height)')
    size_mm: Size = Field(description='(width, height) of the picture area')
    camera_mm: Place = Field(description="the camera's lens in the screen frame; above the screen: a negative y")
    tilt_deg: float = Field(0.0, gt=-90, lt=90, description="how far the camera looks up from the screen's normal")


class Result(Strict):
    """One face in one frame; a frame without a face has one result with `found` false."""

    found: bool
    reason: str = Field('', max_length=200, description="why there is no gaze: 'no face', 'eyes closed', ...")
    plane_mm: Open | None = Field(None, description="where the gaze meets the camera's plane")
    plane_cm: Open | None = None
    screen_px: Open | None = Field(None, description='point of gaze on the screen; may lie outside')
    on_screen: bool = False
    gaze: Triple | None = Field(None, description='unit vector, eye to target, camera frame')
    pitchyaw_rad: Pair | None = Field(None, description="of `gaze`: up and the user's right positive")
    gaze_normalised: Triple | None = None
    gaze_frame: str = ''
    origin_mm: list[Number | None] | None = Field(None, description='where the gaze starts, camera frame')
    head_rotation: list[list[Number]] | None = Field(None, description='3 x 3, head to camera')
    score: Share = 0.0
    eyes_open: Share | None = None
    face_center_px: Open | None = None
    face_box_px: list[Number | None] | None = Field(None, description='x1 y1 x2 y2')
    landmarks_px: list[list[Number]] | None = Field(None, description='answered in hundredths of a px')
    features: list[Number | None] | None = Field(None, description='inputs of the calibration by features')
    calibrated: bool = False
    times_ms: dict[str, Milliseconds] = {}
    timestamp_ms: Time | None = None


class GazeRequest(Strict):
    """A picture with a screen and a calibration."""

    image: str = Field(description='a JPEG, PNG or WebP file, base64')
    screen: ScreenFile | None = Field(
        None, description="what the person looks at; the server's own where it is missing"
    )
    calibration: CalibrationId | None = None


class GazeAnswer(Strict):
    """The gaze of each face, the largest first, and of no more than the server was told to look for."""

    model: str
    faces: list[Result] = Field(min_length=1)
    times_ms: dict[str, Milliseconds]


class PointSamples(Strict):
    """What the model saw while the person looked at a point."""

    target_px: Pair
    results: list[Result] = Field(min_length=1, max_length=MAX_RESULTS, description='in the order of time')


_SEEN_AT = [([192, 108], [210, 150]), ([1728, 108], [1700, 140]), ([192, 972], [200, 900]), ([1728, 972], [1690, 905])]
_EXAMPLE: dict[str, Any] = {
    'method': 'affine',
    'points': [
        {'target_px': target, 'results': [{'found': True, 'score': 1.0, 'screen_px': seen}]}
        for target, seen in _SEEN_AT
    ],
}


class CalibrationRequest(Strict):
    """Points with what the model saw there, not calibrated and not filtered."""

    model_config = ConfigDict(json_schema_extra={'example': _EXAMPLE})

    screen: ScreenFile | None = None
    method: Method = 'affine'
    points: list[PointSamples] = Field(min_length=1, max_length=MAX_POINTS)


class Rejected(Strict):
    """A sample that was left out."""

    sample: int = Field(description='its number, counted over all points')
    reason: str


class CalibrationAnswer(Strict):
    """A calibration that the server keeps."""

    id: CalibrationId
    method: Method = Field(description="the fitted one; 'translation' where 'affine' was asked for with too few points")
    n_points: int
    n_samples: int
    message: str = Field(description='what the person should know')
    leave_one_out: dict[str, Any] | None = Field(
        description='errors at points left out of the fit: mean_px, mean_mm, mean_deg, before_mean_*, per_point'
    )
    rejected: list[Rejected]


class CalibrationFile(BaseModel):
    """The file of a calibration. It is for one screen, model and camera."""

    format: Literal['evg-calibration']
    version: Literal[1]
    method: Method
    parameters: dict[str, Any]
    screen: ScreenFile
    model: str
    camera: str
    n_points: int = Field(0, ge=0, le=MAX_POINTS)
    n_samples: int = Field(0, ge=0, le=10**9)
    rejected: list[Annotated[list[int | str], Field(min_length=2, max_length=2)]] = Field(
        [], max_length=MAX_POINTS * MAX_RESULTS
    )
    leave_one_out: dict[str, Any] | None = None
    message: str = Field('', max_length=10_000)


class ReportRequest(Strict):
    """The samples of an accuracy test."""

    screen: ScreenFile | None = None
    facts: dict[Fact, Fact] = Field({}, max_length=20, description='what the report should say about itself')
    points: list[PointSamples] = Field(min_length=1, max_length=MAX_TEST_POINTS)


class Info(Strict):
    """What this server is."""

    version: str
    model: str
    identity: str = Field(description='model name and hash: a calibration belongs to one')
    camera: str = Field(description='short hash of the camera')
    screen: ScreenFile = Field(description="the server's own, where a request declares none")
    methods: list[str] = Field(description='of calibration')
    filters: list[str] = Field(description='of the stream')
    limits: dict[str, int | Number]


class Health(Strict):
    """Whether it can answer."""

    status: Literal['ok', 'starting']
    workers: int


class Configure(Strict):
    """The stream's text message from the client."""

    type: Literal['configure']
    screen: ScreenFile | None = None
    calibration: CalibrationId | None = None
    filter: Literal['none', 'average', 'one_euro', 'kalman'] = 'none'


M = TypeVar('M', bound=BaseModel)


def parse(model: type[M], body: bytes | str) -> M:
    """JSON as a model.

    Raises:
        Refusal: 422, with the place of the first mistake.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(
            422, first_mistake(error.errors(include_url=False, include_context=False, include_input=False))
        ) from None


def first_mistake(errors: Sequence[Any]) -> str:
    """The first of pydantic's errors in words."""
    place = '.'.join(str(part) for part in errors[0]['loc'])[:200]
    return f'{place}: {errors[0]["msg"]}' if place else str(errors[0]['msg'])
