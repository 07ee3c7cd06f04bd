"""The rotation of Zhang et al. 2018 against numbers worked out by hand."""

import numpy as np
import pytest

from evg.geometry import normalisation_rotation


def test_face_straight_ahead_without_roll_needs_no_rotation():
    assert np.allclose(normalisation_rotation([0, 0, 600], np.eye(3)), np.eye(3))


def test_face_on_the_right_of_the_picture_by_hand():
    # Direction (0.6, 0, 0.8): the new z axis; y stays; x = y x z = (0.8, 0, -0.6).
    rotation = normalisation_rotation([360, 0, 480], np.eye(3))
    assert np.allclose(rotation, [[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])
    assert np.allclose(rotation @ [360, 0, 480], [0, 0, 600])


def test_roll_of_the_head_is_taken_out():
    # The head's x axis points along (0.8, 0.6, 0): the new x axis does, too.
    head = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    assert np.allclose(normalisation_rotation([0, 0, 500], head), head.T)


def test_batch_gives_rotations_that_level_the_head():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(50, 3)) * 100 + [0, 0, 600]
    heads = np.linalg.qr(rng.normal(size=(50, 3, 3)))[0]
    rotations = normalisation_rotation(centers, heads)
    assert np.allclose(rotations @ rotations.swapaxes(1, 2), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotations), 1)
    moved = np.einsum('nij,nj->ni', rotations, centers)
    assert np.allclose(moved, [[0, 0, np.linalg.norm(c)] for c in centers])
    head_x = np.einsum('nij,nj->ni', rotations, heads[:, :, 0])
    assert np.allclose(head_x[:, 1], 0, atol=1e-12)
    assert (head_x[:, 0] > 0).all()


@pytest.mark.parametrize(
    ('center', 'head', 'text'),
    [
        ([0, 0, 0], np.eye(3), 'lies in the camera'),
        ([600, 0, 0], np.eye(3), 'line of sight'),
        ([0, 600], np.eye(3), r'\(2,\)'),
    ],
)
def test_what_has_no_answer_is_refused(center, head, text):
    with pytest.raises(ValueError, match=text):
        normalisation_rotation(center, head)
