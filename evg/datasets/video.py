"""Some frames of a video, by number, and small: what nobody asked for is not converted nor, if possible, decoded."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from evg.datasets.converter import BadUnitError
from evg.datasets.pictures import Picture


class Shrinker:
    """Frames to small BGR pictures by area averaging, on the pixel grid of cv2.INTER_AREA: outer edges on outer edges.

    The averaging works on YUV and the colours are converted afterwards: a fraction of the work on large BGR pictures,
    and closer to their average than swscale's single pass to small BGR.

    Args:
        size: (width, height) of the pictures.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        # Each keeps its tables from frame to frame.
        self._scale, self._convert = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Picture:
        """The picture (H, W, 3) uint8 BGR."""
        small = self._scale.reformat(frame, *self.size, interpolation=Interpolation.AREA, threads=1)
        picture = self._convert.reformat(small, format='bgr24', interpolation=Interpolation.AREA, threads=1)
        return picture.to_ndarray().astype(np.uint8, copy=False)


def kept_frames(video: Any, keep: NDArray[np.bool_]) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """(number, frame) of the frames to keep, in order; the frame is None where the video lacks it.

    A frame's number is the rank of its time among those of all frames in the file, so that one which the decoder loses
    does not shift the others. Frames to which no other refers are not decoded unless they are kept, and none after the
    last one that is.

    Args:
        video: an opened container.
        keep: (N,) by number.

    Raises:
        BadUnitError: the video cannot be decoded, or its frames have no times.
    """
    wanted = deque(np.flatnonzero(keep).tolist())
    stream = video.streams.video[0]
    context = stream.codec_context
    # One recording per process: more threads would only fight for the cores.
    context.thread_type, context.thread_count = 'NONE', 1
    try:
        packets = [packet for packet in video.demux(stream) if packet.size]
        times = sorted(packet.pts for packet in packets if packet.pts is not None and not packet.is_discard)
        number = {time: i for i, time in enumerate(times)}
        if len(number) < sum(not packet.is_discard for packet in packets):
            raise BadUnitError(f'{video.name}: some frames have no time of their own')
        kept = {times[i] for i in wanted if i < len(times)}
        for packet in [*packets, None]:
            if not wanted:
                return
            context.skip_frame = 'DEFAULT' if packet is None or packet.pts in kept else 'NONREF'
            for frame in context.decode(packet):
                if frame.pts not in kept:
                    continue
                while wanted[0] < number[frame.pts]:
                    yield wanted.popleft(), None
                yield wanted.popleft(), frame
    except av.FFmpegError as error:
        raise BadUnitError(f'{video.name} cannot be decoded ({error})') from error
    for missing in wanted:
        yield missing, None
