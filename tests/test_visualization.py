"""Pictures: where things are drawn, by pixel."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evg import visualization as viz
from evg.errors import UserError
from evg.evaluation.charts import error_curve, error_map
from evg.geometry import InputFrame, Rig, VirtualPlane
from evg.structures import GazeDataSample

CAMERA = np.array([[500.0, 0, 240], [0, 500, 135], [0, 0, 1]])
# The screen faces the user: its upper edge at the camera's height, its middle 10 mm to the user's left, 20 mm behind.
POSE = np.array([[-1.0, 0, 0, 110], [0, 1, 0, 0], [0, 0, -1, -20], [0, 0, 0, 1]])
RIG = Rig((480, 270), (1000, 500), (200.0, 100.0), (0.0, 50.0), CAMERA, POSE)
# One VP px is 1 mm and one px of a plane view of the tiles' size.
PLANE = VirtualPlane((480, 270), 1.0)
MIDDLE = np.array([239.5, 134.5])  # of a view of that size
SAMPLE = GazeDataSample(
    'p1/r2/0003',
    '',
    'p1',
    rig=RIG,
    affine=InputFrame((480, 270), pad=0).matrix((480, 270)),
    gt_plane_mm=np.array([60.5, 30.5]),
    gt_vp_px=np.array([300.5, 165.5]),
    gt_screen_px=np.array([802.5, 152.5]),
    gt_target_mm=np.array([-60.5, 30.5, -20.0]),
    gt_origin_mm=np.array([60.0, -30.0, 600.0]),
    gt_face_box_px=np.array([200.0, 60.0, 320.0, 200.0]),
    pred_plane_mm=np.array([-59.5, 80.5]),
    pred_vp_px=np.array([180.5, 215.5]),
    pred_score=0.7,
)
BLANK = np.full((270, 480, 3), 90, np.uint8)


def at(image, x, y):
    return tuple(image[y, x].tolist())


def shows(image, x, y, color):
    """Whether a pixel has a colour but for what antialiasing takes off it."""
    return np.abs(np.subtract(at(image, x, y), color)).max() <= 20


def off_middle(x, y):
    return MIDDLE + np.array([x, y])


def centre(image, color):
    """Mean (x, y) of the pixels of exactly one colour."""
    y, x = np.nonzero((image == color).all(axis=-1))
    assert x.size, f'no pixel has the colour {color}'
    return x.mean(), y.mean()


def test_dot_is_centred_and_the_picture_is_not_changed():
    before = BLANK.copy()
    image = viz.draw_point(BLANK, (100.0, 50.0), viz.GT)
    assert_array_equal(BLANK, before)
    assert_allclose(centre(image, viz.GT), (100, 50), atol=0.3)
    assert at(image, 100, 50) == viz.GT
    assert at(image, 104, 50) == viz.GT
    assert at(image, 108, 50) == (90, 90, 90)
    # Between pixels, too.
    assert_allclose(centre(viz.draw_point(BLANK, (100.5, 50.5), viz.GT), viz.GT), (100.5, 50.5), atol=0.3)


@pytest.mark.parametrize('point', [(np.nan, 50.0), (1e12, 50.0), (-481.0, 50.0)])
def test_points_that_cannot_be_drawn_are_left_out(point):
    assert_array_equal(viz.draw_point(BLANK, point, viz.GT), BLANK)
    assert_array_equal(viz.draw_arrow(BLANK, (10.0, 10.0), point, viz.GT), BLANK)


def test_pair_is_red_and_yellow_with_a_line_between():
    image = viz.draw_pair(BLANK, (100.0, 50.0), (160.0, 50.0))
    assert at(image, 100, 50) == viz.GT
    assert at(image, 160, 50) == viz.PRED
    assert shows(image, 130, 50, viz.TEXT)
    assert at(viz.draw_pair(BLANK, (100.0, 50.0), None), 130, 50) == (90, 90, 90)
    for (blue, green, red), name in ((viz.GT, 'red'), (viz.PRED, 'yellow')):
        assert blue < 100
        assert red > 200
        assert green > 200 if name == 'yellow' else green < 100


def test_face_box_and_landmarks():
    image = viz.draw_face(BLANK, (200.0, 60.0, 320.0, 200.0), [[240.0, 100.0], [np.nan, 0.0]])
    for x, y in ((200, 130), (320, 130), (260, 60), (260, 200), (240, 100)):
        assert shows(image, x, y, viz.FACE)
    assert at(image, 260, 130) == (90, 90, 90)


def test_heatmap_lies_over_the_picture():
    heatmap = np.zeros((27, 48), np.float32)
    assert_array_equal(viz.overlay_heatmap(BLANK, heatmap), BLANK)
    heatmap[10, 20] = 1  # covers x 200..209, y 100..109
    image = viz.overlay_heatmap(BLANK, heatmap[None])
    changed = np.nonzero((image != BLANK).any(axis=-1))
    assert_allclose((changed[1].mean(), changed[0].mean()), (204.5, 104.5), atol=0.01)
    assert at(image, 300, 200) == (90, 90, 90)
    heatmap[10, 20] = np.nan
    assert_array_equal(viz.overlay_heatmap(BLANK, heatmap), BLANK)


def test_plane_view_is_in_mm_and_as_the_user_sees_it():
    view = viz.draw_plane(PLANE, SAMPLE)
    assert view.shape == (270, 480, 3)
    # One px per mm, the camera in the middle, u to the right, v down.
    assert_allclose(centre(view, viz.GT), off_middle(60.5, 30.5), atol=0.3)
    assert_allclose(centre(view, viz.PRED), off_middle(-59.5, 80.5), atol=0.3)
    # Outline of the 200 x 100 mm screen under the camera.
    assert shows(view, 140, 185, viz.FRAME)
    assert shows(view, 339, 150, viz.FRAME)
    assert shows(view, 200, 234, viz.FRAME)
    # The camera's cross.
    assert shows(view, 240, 134, viz.TEXT)
    # Half the scale: half as far from the middle.
    half = viz.draw_plane(VirtualPlane((1920, 1080), 2.0), SAMPLE)
    assert_allclose(centre(half, viz.GT), off_middle(30.25, 15.25), atol=0.3)


def test_screen_outline_by_rule_and_mirrored():
    assert_allclose(viz.screen_outline_mm(SAMPLE), [[-100, 0], [100, 0], [100, 100], [-100, 100]])
    mirrored = replace(SAMPLE, flipped=True, rig=replace(RIG, screen_center_plane_mm=(30.0, 50.0)))
    assert_allclose(viz.screen_outline_mm(mirrored), [[70, 0], [-130, 0], [-130, 100], [70, 100]])
    # Calibrated, seen along the ray from 600 mm: a point at depth -20 moves to 600 / 620 of the way from the origin.
    share = 600 / 620
    corners = np.array([[-110, 0], [90, 0], [90, 100], [-110, 100]], np.float64)  # depth dropped
    eye = np.array([-60.0, -30.0])  # the origin as a plane point
    by_ray = replace(SAMPLE, plane_rule='ray')
    assert_allclose(viz.screen_outline_mm(by_ray), eye + share * (corners - eye))
    assert_allclose(viz.screen_outline_mm(replace(by_ray, gt_origin_mm=None)), corners)
    flipped = replace(by_ray, flipped=True, gt_origin_mm=SAMPLE.gt_origin_mm * (-1, 1, 1))
    assert_allclose(viz.screen_outline_mm(flipped), (eye + share * (corners - eye)) * (-1, 1))
    assert viz.screen_outline_mm(replace(SAMPLE, rig=None)) is None
    assert viz.screen_outline_mm(replace(SAMPLE, rig=replace(RIG, screen_center_plane_mm=None))) is None


@pytest.mark.parametrize(('grid', 'cells_per_px'), [((48, 27), None), ((48, 60), 0.1), ((96, 27), 0.1)])
def test_heatmap_on_the_plane_covers_its_point(grid, cells_per_px):
    """The codec's mapping: centres coincide, cell = (vp - size / 2) * k + grid / 2, cell j covers [j, j + 1)."""
    column, row = np.floor(np.array([60.0, 30.0]) * 0.1 + np.divide(grid, 2)).astype(int)
    heatmap = np.zeros((1, grid[1], grid[0]), np.float32)
    heatmap[0, row, column] = 1
    blank = replace(SAMPLE, gt_plane_mm=None, pred_plane_mm=None, rig=None)
    view = viz.draw_plane(PLANE, blank, heatmap=heatmap, cells_per_px=cells_per_px)
    y, x = np.nonzero((view != viz.draw_plane(PLANE, blank)).any(axis=-1))
    expected = MIDDLE + (np.array([column, row]) + 0.5 - np.divide(grid, 2)) * 10
    assert_allclose((x.mean(), y.mean()), expected, atol=0.5)
    # The cell that holds the point is at most half a cell from it.
    assert np.all(np.abs(expected - off_middle(60, 30)) <= 5)


def test_screen_view():
    view = viz.draw_screen(RIG, (0.0, 0.0), (750.0, 250.0))
    # 1000 x 500 px at 0.8 * 480 / 1000 around the middle.
    assert_allclose(centre(view, viz.GT), off_middle(-192, -96), atol=0.3)
    assert_allclose(centre(view, viz.PRED), off_middle(96, 0), atol=0.3)


def test_gaze_arrow_starts_at_the_face_and_follows_the_gaze():
    origin, target = np.array([60.0, -30.0, 600.0]), np.array([-240.0, -30.0, 600.0])  # sideways, to the picture's left
    image = viz.draw_gaze(BLANK, replace(SAMPLE, gt_origin_mm=origin), target, viz.GT)
    start_x, y = 240 + 500 * 60 / 600, 135 - 500 * 30 / 600
    tip_x = 240 + 500 * (60 - 0.3 * np.linalg.norm(origin)) / 600
    columns = np.flatnonzero((image[round(y)] == viz.GT).all(axis=-1))
    assert_allclose((columns.min(), columns.max()), (tip_x, start_x), atol=2)
    # Through the affine of an input of half the size.
    half = replace(SAMPLE, gt_origin_mm=origin, affine=InputFrame((240, 135), pad=0).matrix((480, 270)))
    columns = np.flatnonzero((viz.draw_gaze(BLANK, half, target, viz.GT)[55] == viz.GT).all(axis=-1))
    assert_allclose((columns.min(), columns.max()), (tip_x / 2, start_x / 2), atol=2)
    # No camera matrix, no arrow; nor behind the camera.
    no_camera = replace(SAMPLE, rig=replace(RIG, camera_matrix=None))
    assert viz.draw_gaze(BLANK, no_camera, target, viz.GT) is BLANK
    behind = replace(SAMPLE, gt_origin_mm=np.array([0.0, 0.0, -10.0]))
    assert viz.draw_gaze(BLANK, behind, target, viz.GT) is BLANK


def test_mirrored_sample_is_drawn_as_the_mirror_of_its_picture():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (270, 480, 3), dtype=np.uint8), (9, 9), 0)
    plain = replace(SAMPLE, pred_plane_mm=None)
    x1, y1, x2, y2 = plain.gt_face_box_px
    mirrored = replace(
        plain,
        flipped=True,
        gt_origin_mm=plain.gt_origin_mm * (-1, 1, 1),
        gt_target_mm=plain.gt_target_mm * (-1, 1, 1),
        gt_face_box_px=np.array([479 - x2, y1, 479 - x1, y2]),
    )
    drawn = viz.draw_input(image, plain)
    other = viz.draw_input(np.ascontiguousarray(image[:, ::-1]), mirrored)[:, ::-1]
    assert (drawn != image).any(axis=-1).sum() > 500
    # Antialiasing is not symmetric to the last bit.
    assert np.mean(np.abs(drawn.astype(int) - other)) < 0.05


def tile(sheet, number):
    """Tile of a sheet below its title bar."""
    width, height = viz.TILE_SIZE
    y, x = 8 + number // 3 * (height + 26 + 8) + 26, 8 + number % 3 * (width + 8)
    return sheet[y : y + height, x : x + width]


def test_sheet_has_every_tile_in_its_place():
    heatmap = np.zeros((1, 27, 48), np.float32)
    heatmap[0, 10, 20] = 1
    sheet = viz.sample_sheet(BLANK, SAMPLE, PLANE, heatmap, 0.1, heatmap, [[240.0, 100.0]])
    assert sheet.shape == (2 * (270 + 26 + 8) + 8, 3 * (480 + 8) + 8, 3)
    assert sheet.dtype == np.uint8
    assert_array_equal(tile(sheet, 0), viz.draw_input(BLANK, SAMPLE, [[240.0, 100.0]]))
    assert shows(tile(sheet, 0), 240, 100, viz.FACE)
    assert_array_equal(tile(sheet, 1), viz.overlay_heatmap(BLANK, heatmap))
    bare = replace(SAMPLE, gt_plane_mm=None, pred_plane_mm=None)
    assert_array_equal(tile(sheet, 2), viz.draw_plane(PLANE, bare, heatmap=heatmap, cells_per_px=0.1))
    assert_allclose(centre(tile(sheet, 3), viz.GT), off_middle(60.5, 30.5), atol=0.3)
    # The prediction on the screen: by the offset rule (-59.5, 80.5) mm is 40.5 mm from the left, 5 px per mm.
    assert_allclose(centre(tile(sheet, 4), viz.GT), off_middle(302.5 * 0.384, -97.5 * 0.384), atol=0.3)
    assert_allclose(centre(tile(sheet, 4), viz.PRED), off_middle(-297.5 * 0.384, 152.5 * 0.384), atol=0.3)
    assert at(tile(sheet, 5), 168, 20) == viz.GT
    assert at(tile(sheet, 5), 318, 20) == viz.PRED


def test_small_input_is_scaled_before_drawing():
    small = np.full((54, 96, 3), 90, np.uint8)
    sample = replace(SAMPLE, affine=InputFrame((96, 54), pad=0).matrix((480, 270)))
    sheet = viz.sample_sheet(small, sample, PLANE, None, None, None, [[240.0, 100.0]])
    # The tile has the size of the stored picture, so its px are the picture's again, and lines are as thin as there.
    assert_array_equal(tile(sheet, 0), tile(viz.sample_sheet(BLANK, SAMPLE, PLANE, landmarks_px=[[240.0, 100.0]]), 0))


def test_sheet_of_a_sample_that_knows_little():
    bare = GazeDataSample('x' * 200, '', 'p1', gt_plane_mm=np.array([0.0, 50.0]))
    sheet = viz.sample_sheet(np.zeros((96, 160, 3), np.uint8), bare, PLANE)
    assert sheet.shape == (270 + 26 + 16, 3 * 488 + 8, 3)  # input, plane, facts
    assert_allclose(centre(tile(sheet, 1), viz.GT), off_middle(0, 50), atol=0.3)
    # 160 x 96 px fitted by its height is 450 px wide, in the middle.
    row = tile(sheet, 0)[135]
    assert np.flatnonzero((row == 0).all(axis=-1)).tolist() == list(range(15, 465))
    assert at(tile(sheet, 0), 10, 135) == viz.BACK
    no_answer = replace(SAMPLE, pred_plane_mm=np.full(2, np.nan))
    assert not (viz.sample_sheet(BLANK, no_answer, PLANE)[:300] == viz.PRED).all(axis=-1).any()


def test_direction_of_a_patch_starts_in_the_middle():
    # 3-4-5: to the picture's left and up, 0.6 and 0.8 of half the shorter side; straight into the camera a dot.
    image = viz.draw_direction(BLANK, (-0.6, -0.8, 0.0), viz.GT)
    y, x = np.nonzero((image == viz.GT).all(axis=-1))
    assert_allclose((x.min(), y.min()), MIDDLE - (0.6 * 135, 0.8 * 135), atol=3)
    assert_allclose((x.max(), y.max()), MIDDLE, atol=3)
    dot = np.nonzero((viz.draw_direction(BLANK, (0.0, 0.0, -1.0), viz.GT) != BLANK).any(axis=-1))
    assert max(np.ptp(dot[0]), np.ptp(dot[1])) < 14
    with_dots = viz.draw_landmarks(BLANK, [[100.0, 50.0], [np.nan, 0.0]], viz.PRED)
    assert_allclose(centre(with_dots, viz.PRED), (100, 50), atol=0.3)


PATCH = GazeDataSample(
    'p1/r2/0004',
    '',
    'p1',
    rig=RIG,
    gaze_frame='normalised_r',
    affine=InputFrame((120, 80), pad=0).matrix((120, 80)),
    gt_gaze=np.array([-0.6, 0.0, -0.8]),
    pred_gaze=np.array([0.6, 0.0, -0.8]),
    gt_landmarks_px=np.array([[30.0, 20.0]]),
    pred_landmarks_px=np.array([[90.0, 20.0]]),
    gt_target_mm=np.array([-60.5, 30.5, -20.0]),
    gt_origin_mm=np.array([60.0, -30.0, 600.0]),
)


def test_sheet_of_a_patch_without_a_plane():
    heatmap = np.zeros((40, 60), np.float32)
    heatmap[10, 15] = 1
    eye = np.full((80, 120, 3), 90, np.uint8)
    sheet = viz.sample_sheet(eye, PATCH, None, landmark_heatmap=heatmap)
    assert sheet.shape == (270 + 26 + 16, 3 * 488 + 8, 3)  # input, heatmaps, facts
    # 120 x 80 px become 405 x 270, 37.5 px from the tile's left: px (30, 20) is at 30.5 * 3.375 - 0.5 of it.
    view = tile(sheet, 0)
    assert shows(view, round(37 + 30.5 * 3.375 - 0.5), round(20.5 * 3.375 - 0.5), viz.GT)
    assert shows(view, round(37 + 90.5 * 3.375 - 0.5), round(20.5 * 3.375 - 0.5), viz.PRED)
    # The arrows go by the vectors, truth to the left and prediction to the right, not by the rig's camera.
    columns = {name: np.flatnonzero((view[134:136] == color).all(axis=(0, 2))) for name, color in
               (('truth', viz.GT), ('prediction', viz.PRED))}  # fmt: skip
    assert columns['truth'].min() == pytest.approx(239.5 - 0.6 * 135, abs=4)
    assert columns['prediction'].max() == pytest.approx(239.5 + 0.6 * 135, abs=4)
    spot = np.nonzero(
        (tile(sheet, 1) != tile(viz.sample_sheet(eye, PATCH, None, landmark_heatmap=0 * heatmap), 1)).any(axis=-1)
    )
    assert_allclose((spot[1].mean(), spot[0].mean()), (37.5 + 15.5 * 6.75 - 0.5, 10.5 * 6.75 - 0.5), atol=1)
    # A frame that nobody can draw has no arrow.
    head = replace(PATCH, gaze_frame='head', gt_landmarks_px=None, pred_landmarks_px=None)
    assert not (tile(viz.sample_sheet(eye, head, None), 0) == viz.GT).all(axis=-1).any()


def test_grid():
    images = [np.full((20, 30, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = viz.grid(images, 2)
    assert sheet.shape == (2 * 28 + 8, 2 * 38 + 8, 3)
    assert [at(sheet, 8, 8), at(sheet, 8 + 38, 8), at(sheet, 8, 8 + 28)] == [(10,) * 3, (20,) * 3, (30,) * 3]
    assert at(sheet, 60, 50) == viz.BACK
    assert viz.grid(images, 5).shape == (36, 3 * 38 + 8, 3)
    with pytest.raises(ValueError, match=r'picture 1 has \(5, 20\)'):
        viz.grid([images[0], images[0][:, :5]], 2)
    with pytest.raises(ValueError, match='at least one'):
        viz.grid([], 2)


def test_save_image(tmp_path):
    path = tmp_path / 'new' / 'gaze.png'
    image = viz.draw_screen(RIG, (0.0, 0.0), None)
    viz.save_image(path, image)
    assert_array_equal(cv2.imread(str(path)), image)
    with pytest.raises(UserError, match=r'gaze\.xyz: not a format that OpenCV writes'):
        viz.save_image(tmp_path / 'gaze.xyz', image)
    with pytest.raises(UserError, match='cannot write the picture'):
        viz.save_image(path / 'below_a_file.png', image)
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(UserError, match='cannot write the picture'):
        viz.save_image(tmp_path / 'folder.png', image)


# Charts: what stands where, not how it looks.
def brightest(image):
    """Mean (x, y) of the brightest pixels inside the axes of an error map, as shares of the picture."""
    inside = image[:, : int(image.shape[1] * 0.85)].astype(int)
    mask = (inside[..., 2] > 245) & (inside[..., 1] > 245) & (inside[..., 0] < 200)  # the colour map's upper end
    y, x = np.nonzero(mask)
    return x.mean() / image.shape[1], y.mean() / image.shape[0]


def test_error_map_puts_the_error_where_the_point_is():
    points = np.array([[100.0, 100.0], [1800.0, 1000.0], [960.0, 540.0], [2500.0, 0.0]])
    left = error_map(points, [90.0, 10.0, np.nan, 500.0], (1920, 1080), 'mm')
    right = error_map(points, [10.0, 90.0, np.nan, 500.0], (1920, 1080), 'mm')
    assert left.shape == (460, 760, 3)
    assert left.dtype == np.uint8
    assert all(share < 0.3 for share in brightest(left))
    assert all(share > 0.7 for share in brightest(right))


def test_error_curve_of_the_better_model_lies_above():
    image = error_curve({'model': np.linspace(0, 50, 200), 'constant answer': np.linspace(0, 200, 200)}, 'mm')
    assert image.shape == (460, 760, 3)
    column = image[40:, 150].astype(int)  # about 25 mm, left of the legend
    yellow = np.flatnonzero((column[:, 2] > 230) & (column[:, 1] > 190) & (column[:, 0] < 90))
    blue = np.flatnonzero((column[:, 0] > 200) & (column[:, 2] < 150))
    assert yellow.size
    assert blue.size
    assert yellow.max() < blue.min()


def test_error_curve_without_a_value():
    assert error_curve({'model': [np.nan]}, 'mm').shape == (460, 760, 3)
