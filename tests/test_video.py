"""Frames by number, whatever is skipped on the way, and small pictures, on videos written here."""

import av
import cv2
import numpy as np
import pytest
from av.video.frame import PictureType

from evg.datasets.converter import BadUnitError
from evg.datasets.video import Shrinker, kept_frames

COUNT, SIZE = 40, (128, 64)
CODES = 2 ** np.arange(6)


def write_video(path, frames, size=SIZE, **options):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=30, options={'crf': '10', **options})
        stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='bgr24')))
        container.mux(stream.encode(None))


def coded(number):
    """A picture that shows its number in six columns, black or white."""
    bits = np.where(number & CODES, 255, 0).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(np.repeat(bits, 20)[None, :, None], (64, 120, 3))).copy()


def read(picture):
    return int(CODES @ (picture[:, :120].reshape(64, 6, 20, 3).mean(axis=(0, 2, 3)) > 128))


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Frames that show their numbers; two of three are referred to by no other."""
    path = tmp_path_factory.mktemp('video') / 'v.mp4'
    blank = np.zeros((64, 8, 3), np.uint8)
    frames = [np.concatenate([coded(i), blank], axis=1) for i in range(COUNT)]
    write_video(path, frames, bf='2', **{'x264-params': 'b-adapt=0:b-pyramid=none:keyint=25:scenecut=0'})
    with av.open(str(path)) as container:
        assert sum(frame.pict_type == PictureType.B for frame in container.decode(video=0)) > COUNT / 2
    return path


@pytest.mark.parametrize('kept', [range(COUNT), range(0, COUNT, 3), range(1, COUNT, 3), [0], [39], [7, 8, 31], []])
def test_the_frames_asked_for_and_no_others(video, kept):
    keep = np.isin(np.arange(COUNT), list(kept))
    with av.open(str(video)) as container:
        found = [(number, read(frame.to_ndarray(format='bgr24'))) for number, frame in kept_frames(container, keep)]
    assert found == [(number, number) for number in kept]


def test_a_video_that_is_shorter_than_its_labels(video):
    keep = np.zeros(COUNT + 3, bool)
    keep[[38, 40, 42]] = True
    with av.open(str(video)) as container:
        assert [(number, frame is None) for number, frame in kept_frames(container, keep)] == [
            (38, False), (40, True), (42, True),
        ]  # fmt: skip


def test_a_frame_that_the_decoder_loses_does_not_shift_the_others(video, tmp_path):
    """The stored bytes of one B frame are overwritten: it is None or corrupt, the others keep their numbers."""
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        order = sorted(packet.pts for packet in packets)
        victim = next(p for p in packets if order.index(p.pts) == 20)
        assert victim.pts is not None and not victim.is_keyframe
        start, size = victim.pos, victim.size
    data = bytearray(video.read_bytes())
    data[start + 4 : start + size] = bytes(size - 4)
    (tmp_path / 'v.mp4').write_bytes(data)
    with av.open(str(tmp_path / 'v.mp4')) as container:
        try:
            found = list(kept_frames(container, np.ones(COUNT, bool)))
        except BadUnitError as error:
            assert 'cannot be decoded' in str(error)
            return
        assert [number for number, _ in found] == list(range(COUNT))
        assert all(read(frame.to_ndarray(format='bgr24')) == n for n, frame in found[:18] if frame is not None)


@pytest.mark.parametrize(('size', 'small'), [((192, 108), (48, 27)), ((192, 108), (64, 36)), ((128, 64), (128, 64))])
def test_small_pictures_are_area_averages(tmp_path, size, small):
    """Brightness pixel by pixel; colours vary slowly, as half of their samples are stored."""
    rng = np.random.default_rng(3)
    grey = cv2.resize(rng.integers(20, 200, (27, 48), np.uint8), size, interpolation=cv2.INTER_CUBIC)
    ramp = np.linspace(-20, 20, size[0])
    texture = np.stack([grey + ramp, grey.astype(float), grey - ramp], axis=2).clip(0, 255).astype(np.uint8)
    write_video(tmp_path / 'v.mp4', [texture], size)
    with av.open(str(tmp_path / 'v.mp4')) as container:
        ((_, frame),) = kept_frames(container, np.ones(1, bool))
        large = frame.to_ndarray(format='bgr24').astype(np.float64)
        picture = Shrinker(small)(frame)
    fy, fx = size[1] // small[1], size[0] // small[0]
    mean = large.reshape(small[1], fy, small[0], fx, 3).mean(axis=(1, 3))
    assert picture.shape == mean.shape and picture.dtype == np.uint8
    assert np.abs((picture - mean).mean(axis=(0, 1))).max() < 0.5
    assert np.abs(picture - mean).mean() < 1


def test_a_file_without_times(tmp_path):
    write_video(tmp_path / 'v.h264', [np.zeros((64, 128, 3), np.uint8)] * 3)
    with av.open(str(tmp_path / 'v.h264')) as container, pytest.raises(BadUnitError, match='no time of their own'):
        list(kept_frames(container, np.ones(3, bool)))
