"""Limits that hold before any work is done: what a picture's header says, and how often a client may come."""

import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from evg.serve.refusal import Refusal

# Markers of a JPEG's frame header that OpenCV's decoder knows: baseline, extended, progressive.
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
_JPEG_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length
_JPEG_SEGMENTS = 500
# Every scan of a progressive JPEG passes over the whole picture; real ones have about ten.
_JPEG_SCANS = 100
_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND\xae\x42\x60\x82'


def picture_size(data: bytes) -> tuple[int, int]:
    """(width, height) that a picture's header declares, in px.

    Raises:
        Refusal: no JPEG, PNG or WebP (415); broken, cut off, or of a kind that is not decoded here (422).
    """
    try:
        if data[:2] == b'\xff\xd8':
            size = _jpeg_size(data)
        elif data[:8] == _PNG:
            size = _png_size(data)
        elif data[:4] == b'RIFF' and data[8:12] == b'WEBP':
            size = _webp_size(data)
        else:
            raise Refusal(415, 'the picture is neither JPEG nor PNG nor WebP')
    except (struct.error, IndexError):
        raise Refusal(422, 'the picture is cut off within its header') from None
    if min(size) < 1:
        raise Refusal(422, 'the picture has no pixels')
    return size


def check_picture(data: bytes, max_pixels: int) -> None:
    """Refuse what is no picture, or one with too many pixels (413), from the header alone."""
    width, height = picture_size(data)
    if width * height > max_pixels:
        raise Refusal(413, f'the picture has {width} x {height} pixels; {max_pixels:,} are allowed')


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at, size = 2, (0, 0)
    for _ in range(_JPEG_SEGMENTS):
        if data[at] != 0xFF:
            raise Refusal(422, 'the JPEG has a broken header')
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from('>H', data, at + 2)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from('>HH', data, at + 5)
            size = width, height
        elif 0xC0 < marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            raise Refusal(422, 'JPEGs of this kind (lossless, hierarchical or arithmetic coding) are not read')
        elif marker == 0xDA:
            # Within the coded pixels 0xFF is never followed by one of these, so they are markers.
            if data.rfind(b'\xff\xd9') < at:
                raise Refusal(422, 'the JPEG is cut off')
            if data.count(b'\xff\xda', at) > _JPEG_SCANS:
                raise Refusal(422, f'the JPEG has more than {_JPEG_SCANS} scans')
            return size
        at += 2 + max(length, 2)
    raise Refusal(422, 'the JPEG has no pixels, or too many segments before them')


def _png_size(data: bytes) -> tuple[int, int]:
    length, kind, width, height = struct.unpack_from('>I4sII', data, 8)
    if (length, kind) != (13, b'IHDR'):
        raise Refusal(422, 'the PNG has a broken header')
    if data.rfind(_PNG_END) < 0:
        raise Refusal(422, 'the PNG is cut off')
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    (length,) = struct.unpack_from('<I', data, 4)
    if length + 8 > len(data):
        raise Refusal(422, 'the WebP is cut off')
    kind = data[12:16]
    if kind == b'VP8 ':
        if data[23:26] != b'\x9d\x01\x2a':
            raise Refusal(422, 'the WebP has a broken header')
        width, height = struct.unpack_from('<HH', data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b'VP8L':
        if data[20] != 0x2F:
            raise Refusal(422, 'the WebP has a broken header')
        (bits,) = struct.unpack_from('<I', data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b'VP8X':
        if data[20] & 2:
            raise Refusal(422, 'animated WebP is not read')
        return int.from_bytes(data[24:27], 'little') + 1, int.from_bytes(data[27:30], 'little') + 1
    raise Refusal(422, 'the WebP has a broken header')


def address_of(scope: Mapping[str, Any]) -> str:
    """A client's address, without its port; '' where it has none."""
    return scope['client'][0] if scope.get('client') else ''


class RateLimit:
    """A bucket of permits per client: it fills steadily, and a request takes one or more.

    Args:
        per_s: permits that come back per second.
        burst: what a full bucket holds.
        clients: how many are remembered; the one that was away for the longest time is forgotten.
        clock: seconds.
    """

    def __init__(self, per_s: float, burst: float, clients: int = 4096, clock: Callable[[], float] = time.monotonic):
        self.per_s, self.burst, self.clients, self.clock = per_s, burst, clients, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, cost: float = 1.0) -> float:
        """Take permits; 0 if there were enough, else how many seconds until there are, and none is taken."""
        now = self.clock()
        level, since = self._buckets.pop(client, (self.burst, now))
        level = min(self.burst, level + (now - since) * self.per_s)
        cost = min(cost, self.burst)
        missing = cost - level
        self._buckets[client] = (level if missing > 0 else level - cost, now)
        if len(self._buckets) > self.clients:
            self._buckets.popitem(last=False)
        return max(0.0, missing / self.per_s)
