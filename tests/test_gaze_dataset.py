"""The dataset over an index: what a sample carries, which rows it has, and the constant answer."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from evg.datasets.gaze_dataset import GazeDataset
from evg.datasets.index import read_index
from evg.datasets.transforms import LoadImage
from evg.errors import UserError


def _rows(synth_close):
    return pq.read_table(
        synth_close / 'index.parquet', columns=['sample_id', 'split', 'subject', 'pog_plane_offset_mm']
    ).to_pylist()


def test_rows_subjects_and_even_thinning(synth_close):
    rows = _rows(synth_close)
    train = [row for row in rows if row['split'] == 'train']
    assert len(GazeDataset(synth_close, [])) == len(train)
    both = GazeDataset(synth_close, [], splits=['train', 'test'])
    assert len(both) == len([row for row in rows if row['split'] != 'val'])
    one = GazeDataset(synth_close, [], subjects=[train[0]['subject']])
    assert {one[i]['subject'] for i in range(len(one))} == {train[0]['subject']}
    few = GazeDataset(synth_close, [], max_samples=3)
    assert [few[i]['sample_id'] for i in range(3)] == [
        train[i]['sample_id'] for i in (0, round((len(train) - 1) / 2), len(train) - 1)
    ]


def test_constant_answer_is_the_mean_of_the_training_rows_alone(synth_close):
    rows = _rows(synth_close)
    train = [row for row in rows if row['split'] == 'train']
    mean = np.mean([row['pog_plane_offset_mm'] for row in train], axis=0)
    assert GazeDataset(synth_close, [], splits='test').metainfo['train_mean_plane_mm'] == pytest.approx(mean.tolist())
    # Leave one out: the person who is tested takes no part in it.
    tested = train[0]['subject']
    others = sorted({row['subject'] for row in train} - {tested})
    left = GazeDataset(synth_close, [], subjects=[tested], baseline=dict(subjects=others)).metainfo[
        'train_mean_plane_mm'
    ]
    expected = np.mean([row['pog_plane_offset_mm'] for row in train if row['subject'] != tested], axis=0)
    assert left == pytest.approx(expected.tolist())


def test_random_numbers_depend_on_seed_epoch_and_position(synth_close):
    def draw(seed, epoch, position):
        dataset = GazeDataset(synth_close, [], seed=seed)
        dataset.set_epoch(epoch)
        return dataset[position]['rng'].random()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(*key) for key in [(1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0)]}) == 4


def test_labels_are_those_of_the_index(synth_close):
    index = read_index(synth_close, ['train'])
    sample = GazeDataset(synth_close, [])[5]
    np.testing.assert_array_equal(sample['gt_plane_mm'], index.columns['pog_plane_offset_mm'][5])
    np.testing.assert_array_equal(sample['gt_origin_mm'], index.columns['face_origin_mm'][5])
    by_pose = GazeDataset(synth_close, [], plane_rule='pose')[5]
    np.testing.assert_array_equal(by_pose['gt_plane_mm'], index.columns['pog_plane_pose_mm'][5])
    assert not np.allclose(sample['gt_plane_mm'], by_pose['gt_plane_mm'])


def test_a_missing_or_damaged_picture_is_named_with_its_row(synth_close, tmp_path):
    shutil.copytree(synth_close, tmp_path / 'data')
    index = read_index(tmp_path / 'data')
    victim = index.columns['split'].tolist().index('val') + 3
    picture = index.root / index.columns['image'][victim]
    name = index.columns.text('sample_id', victim)
    # Of a split that begins with other rows, the row of the file is named.
    picture.write_bytes(b'half')
    with pytest.raises(UserError, match=rf'index\.parquet: row {victim}: .*{picture.name} is not a picture'):
        GazeDataset(tmp_path / 'data', [LoadImage()], 'val')[3]
    picture.unlink()
    with pytest.raises(UserError, match=rf'row {victim} \({name}\): there is no picture .*{picture.name}'):
        GazeDataset(tmp_path / 'data', [], 'val')
    GazeDataset(tmp_path / 'data', [], 'train')


def test_mistakes_are_named(synth_close):
    with pytest.raises(UserError, match='offset'):
        GazeDataset(synth_close, [], plane_rule='x')
    with pytest.raises(UserError, match='nobody'):
        GazeDataset(synth_close, [], subjects=['nobody'])
