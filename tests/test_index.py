"""The annotation index: what is written comes back, and what is wrong is named."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evg.datasets.index as index_module
from evg.datasets.index import (
    COLUMNS,
    INDEX_NAME,
    SCHEMA_VERSION,
    IndexFileError,
    read_column,
    read_index,
    read_persons,
    rig_from_json,
    rig_to_json,
    write_index,
    write_table,
)
from evg.geometry import Rig

RIG = Rig((160, 96), (1920, 1080), (553, 311), (0, 155.5), np.diag([250.0, 250, 1]), np.eye(4))
BARE_RIG = Rig((320, 240), (375, 667), (58.5, 104.05))


def row(number=0, **values):
    """The least that a row must have."""
    base = {'sample_id': f's{number}', 'image': f'images/{number}.jpg', 'split': 'train', 'subject': 'a', 'rig': 'desk'}
    return {**base, **values}


def full_row(number=0):
    """A row with a value in every column, each one different."""
    values = {'string': 'text', 'int32': 7, 'bool': False, 'float32': 1.5, 'float64': 0.1}
    cells = {}
    for place, column in enumerate(COLUMNS):
        if column.name not in row():
            value = values[column.type]
            cells[column.name] = np.arange(column.size) + place + 0.25 if column.size else value
    cells['face_box_px'] = [1, 2, 30, 40]
    return row(number, **cells)


def write(tmp_path, rows, **options):
    path = tmp_path / INDEX_NAME
    write_index(path, rows, {'desk': RIG, 'phone': BARE_RIG}, 'toy', **options)
    return path


def test_round_trip_of_every_column(tmp_path):
    path = tmp_path / 'a' / INDEX_NAME
    count = write_index(path, [full_row(0), row(1)], {'desk': RIG}, 'toy', info={'dropped': {'x': 3}})
    index = read_index(tmp_path / 'a')
    assert count == len(index) == 2
    assert (index.dataset, index.gaze_frame, index.pose_rule) == ('toy', 'camera', 'ray')
    assert index.info == {'dropped': {'x': 3}}
    assert index.root == tmp_path / 'a'
    expected = full_row(0)
    for column in COLUMNS:
        values = index.columns[column.name]
        assert values.shape == ((2, column.size) if column.size else (2,)), column.name
        if column.size:
            assert np.array_equal(values[0], np.asarray(expected[column.name], column.type)), column.name
            assert np.isnan(values[1]).all(), column.name
        else:
            assert values[0] == expected[column.name], column.name
    assert index.columns['frame'][1] == -1
    assert np.isnan(index.columns['time_s'][1])
    assert index.columns['sequence'][1] == ''
    # A data set that says nothing about blinks has open eyes.
    assert index.columns['eyes_open'].tolist() == [False, True]


def test_matrix_columns_are_flattened_row_by_row(tmp_path):
    matrix = np.arange(9.0).reshape(3, 3)
    path = write(tmp_path, [row(norm_rotation=matrix, eye_landmarks_px=np.arange(24).reshape(12, 2))])
    assert read_index(path).columns['norm_rotation'][0].tolist() == list(range(9))
    assert read_index(path).columns['eye_landmarks_px'][0].tolist() == list(range(24))


def test_schema_names_units_and_frames(tmp_path):
    schema = pq.read_schema(write(tmp_path, [row()]))
    assert schema.field('target_cam_mm').metadata == {b'unit': b'mm', b'frame': b'camera'}
    assert not schema.field('subject').nullable
    assert schema.metadata[b'evg.version'] == str(SCHEMA_VERSION).encode()


@pytest.mark.parametrize('rig', [RIG, BARE_RIG])
def test_rig_survives_json(rig):
    back = rig_from_json(json.loads(json.dumps(rig_to_json(rig))))
    for name in Rig.__dataclass_fields__:
        assert np.array_equal(getattr(back, name), getattr(rig, name)), name


def test_selection_by_split_and_subject(tmp_path):
    rows = [row(0), row(1, split='val', subject='b'), row(2, split='val', subject='c')]
    path = write(tmp_path, rows)
    assert read_index(path, splits=['val']).rows.tolist() == [1, 2]
    assert read_index(path, splits=['val']).columns['sample_id'].tolist() == ['s1', 's2']
    assert read_index(path, subjects=['a', 'c']).columns['sample_id'].tolist() == ['s0', 's2']
    with pytest.raises(IndexFileError, match=r"no rows with split=\['test'\]; it has splits \['train', 'val'\]"):
        read_index(path, splits=['test'])


def test_rows_of_many_groups_with_gaps(tmp_path, monkeypatch):
    """Groups of 4 rows: labels begin in the second group, one group has none, one is skipped."""
    monkeypatch.setattr(index_module, 'ROW_GROUP', 4)
    rows = [row(i, split='val' if 8 <= i < 12 else 'train', subject='ab'[i % 2]) for i in range(18)]
    for i in (5, 6, 9, 16):
        rows[i] |= {'gaze': [i, 0, -1], 'frame': i, 'sequence': f'clip{i}', 'eyes_open': False}
    path = write(tmp_path, rows)
    assert pq.ParquetFile(path).num_row_groups == 5
    for splits, kept in ((None, range(18)), (['train'], [*range(8), *range(12, 18)]), (['val'], range(8, 12))):
        index = read_index(path, splits)
        assert index.rows.tolist() == list(kept)
        c = index.columns
        labelled = [i in (5, 6, 9, 16) for i in kept]
        gaze = [i if known else np.nan for i, known in zip(kept, labelled, strict=True)]
        assert c['gaze'][:, 0].tolist() == pytest.approx(gaze, nan_ok=True)
        assert c['frame'].tolist() == [i if known else -1 for i, known in zip(kept, labelled, strict=True)]
        assert c['eyes_open'].tolist() == [not known for known in labelled]
        assert c['sequence'].tolist() == [f'clip{i}' if known else '' for i, known in zip(kept, labelled, strict=True)]
        assert c['subject'].tolist() == ['ab'[i % 2] for i in kept]
        assert [c.text('sample_id', i) for i in range(len(index))] == [f's{i}' for i in kept]
    assert read_index(path, ['val']).columns.rows_of(['s11', 's8']).tolist() == [3, 0]
    with pytest.raises(KeyError, match="no sample 's1'"):
        read_index(path, ['val']).columns.rows_of(['s8', 's1'])
    assert read_index(path).columns.distinct('sequence') == ['', 'clip16', 'clip5', 'clip6', 'clip9']
    assert read_column(path, 'gaze', ['train'], ['b'])[:, 0].tolist() == pytest.approx(
        [np.nan, np.nan, 5, np.nan, np.nan, np.nan, np.nan], nan_ok=True
    )
    assert read_column(path, 'gaze', ['test']).shape == (0, 3)
    assert read_persons(path) == ('toy', {}, {('train', 'a'), ('train', 'b'), ('val', 'a'), ('val', 'b')})
    assert read_persons(path, ['val'], ['b', 'z'])[2] == {('val', 'b')}


@pytest.mark.parametrize(
    ('bad', 'text'),
    [
        ({'gaze': [0, 0, np.nan]}, 'row 1: gaze .*nan.* is not finite; a missing value must be null'),
        ({'target_cam_mm': [0, np.inf, 0]}, 'row 1: target_cam_mm .*inf.* is not finite'),
        ({'time_s': float('nan')}, 'row 1: time_s nan is not finite'),
        ({'gaze': [0, 1]}, 'row 1: gaze has 2 values, 3 are needed'),
        ({'face_box_px': [30, 0, 10, 20]}, 'row 1: face_box_px .* is not x1 < x2, y1 < y2'),
        ({'face_box_px': [0, 20, 10, 20]}, 'row 1: face_box_px'),
        ({'rig': 'tv'}, r"row 1: rig 'tv' is not one of \['desk', 'phone'\]"),
        ({'split': 'dev'}, r"row 1: split 'dev' is not one of \['test', 'train', 'val'\]"),
        ({'subject': None}, 'row 1 has no subject'),
        ({'gase': [0, 0, 1]}, 'row 1 has unknown columns: gase'),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(tmp_path, bad, text):
    with pytest.raises(IndexFileError, match=text):
        write(tmp_path, [row(0), row(1, **bad)])
    assert not list(tmp_path.iterdir())


def test_writer_refuses_undeclared_conventions_and_no_rows(tmp_path):
    with pytest.raises(IndexFileError, match='not one row'):
        write(tmp_path, [])
    with pytest.raises(IndexFileError, match="gaze_frame as 'world'"):
        write(tmp_path, [row()], gaze_frame='world')
    with pytest.raises(IndexFileError, match="pose_rule as 'guess', which must be one of ray, projection"):
        write(tmp_path, [row()], pose_rule='guess')


def test_missing_index_names_the_command(tmp_path):
    with pytest.raises(IndexFileError, match=r'no data at .*index.parquet.*prepare_data.py NAME --out'):
        read_index(tmp_path)


def test_a_foreign_parquet_file_is_refused(tmp_path):
    path = tmp_path / INDEX_NAME
    write_table(pa.table({'a': [1]}), path)
    for read in (read_index, read_persons):
        with pytest.raises(IndexFileError, match='conventions are undeclared'):
            read(path)


@pytest.mark.parametrize(
    ('key', 'value', 'text'),
    [
        ('evg.version', '99', 'index version 99, this evg reads'),
        ('evg.version', 'one', 'index version one, this evg reads'),
        ('evg.gaze_frame', 'world', "declares evg.gaze_frame as 'world'"),
        ('evg.gaze_frame', None, 'does not declare evg.gaze_frame, which must be one of camera, normalised_r'),
        ('evg.pose_rule', None, 'does not declare evg.pose_rule, which must be one of ray, projection'),
        ('evg.dataset', None, 'does not declare evg.dataset'),
        ('evg.rigs', None, 'does not declare its cameras and screens'),
        ('evg.rigs', '{"desk": {"image_size": [160]', 'does not declare its cameras and screens'),
        ('evg.rigs', '{"desk": {"image_size": [160, 0]}}', 'does not declare its cameras and screens'),
        ('evg.rigs', '[' * 100_000, 'does not declare its cameras and screens'),
        ('evg.info', '{', 'evg.info is not JSON'),
        ('evg.info', '[' * 100_000, 'evg.info is not JSON'),
        ('evg.info', '[1]', 'evg.info is not a JSON object'),
        ('evg.info', b'\xff', 'its metadata are not UTF-8'),
        ('other', b'\xff', 'its metadata are not UTF-8'),
    ],
)
def test_other_declarations_are_refused(tmp_path, key, value, text):
    table = pq.read_table(write(tmp_path, [row()]))
    metadata = dict(table.schema.metadata)
    metadata.pop(key.encode(), None)
    metadata |= {} if value is None else {key.encode(): value if isinstance(value, bytes) else value.encode()}
    write_table(table.replace_schema_metadata(metadata), tmp_path / INDEX_NAME)
    for read in (read_index, read_persons):
        with pytest.raises(IndexFileError, match=text):
            read(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    table = pq.read_table(write(tmp_path, [row()])).drop_columns(['gaze'])
    write_table(table, tmp_path / INDEX_NAME)
    with pytest.raises(IndexFileError, match='lacks the columns gaze'):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ('name', 'value', 'text'),
    [
        ('gaze', [0.0, float('nan'), 1.0], r'row 3: gaze \[0.0, nan, 1.0\] is not finite'),
        ('norm_scale', float('inf'), 'row 3: norm_scale inf is not finite'),
        ('face_box_px', [10.0, 20, 10, 40], 'row 3: face_box_px .* is not x1 < x2, y1 < y2'),
        (
            'face_box_px',
            [10.0, 20, 161, 40],
            r'row 3: face_box_px \[10.0, .*40.0\] is not inside the picture',
        ),
        ('face_box_px', [-1.5, 20, 30, 40], 'row 3: face_box_px .* is not inside the picture'),
        ('rig', 'tv', "row 3: rig 'tv' is not one of"),
        ('split', 'dev', "row 3: split 'dev' is not one of"),
    ],
)
def test_reader_checks_rows_of_other_writers(tmp_path, name, value, text):
    """Row 3 of the file, also if only some rows are read."""
    rows = [row(i, subject='ab'[i % 2]) for i in range(5)]
    table = pq.read_table(write(tmp_path, rows))
    place = table.schema.get_field_index(name)
    cells = table[name].to_pylist()
    cells[3] = value
    bad = pa.array(cells, table.schema.field(name).type)
    write_table(table.set_column(place, table.schema.field(place), bad), tmp_path / INDEX_NAME)
    for subjects in (None, ['b']):
        with pytest.raises(IndexFileError, match=rf'index\.parquet: {text}'):
            read_index(tmp_path, subjects=subjects)
    assert read_index(tmp_path, subjects=['a']).rows.tolist() == [0, 2, 4]


def test_a_column_of_another_type_is_refused(tmp_path):
    table = pq.read_table(write(tmp_path, [row()]))
    place = table.schema.get_field_index('frame')
    column = pa.array([1.5])
    write_table(table.set_column(place, 'frame', column), tmp_path / INDEX_NAME)
    with pytest.raises(IndexFileError, match='frame is of type double, not int32'):
        read_index(tmp_path)


def test_truncated_and_damaged_files(tmp_path):
    path = write(tmp_path, [full_row(i) for i in range(500)])
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b''):
        path.write_bytes(content)
        for read in (read_index, read_persons):
            with pytest.raises(IndexFileError, match='not a whole Parquet file'):
                read(path)
    path.write_bytes(whole[:64] + bytes(256) + whole[320:])
    with pytest.raises(IndexFileError, match='is damaged'):
        read_index(path)


def test_rows_without_a_rig_and_boxes_outside_the_picture(tmp_path):
    # Without a rig the picture's size is unknown.
    patch = row(0, rig=None, face_box_px=[1, 2, 900, 800], head_pitchyaw_rad=[0.1, 0.2], norm_scale=0.5)
    path = write(tmp_path, [patch, row(1, rig='phone', face_box_px=[-0.5, -0.5, 320, 240])], gaze_frame='line_of_sight')
    index = read_index(path)
    assert index.columns['rig'].tolist() == ['', 'phone'] and index.gaze_frame == 'line_of_sight'
    assert index.columns['norm_scale'][0] == 0.5 and np.isnan(index.columns['norm_scale'][1])
    # A column that no row has takes no memory.
    assert index.columns['pupil_landmarks_px'].strides == (0, 0)
    for box in ([1, 2, 900, 80], [-40, 2, 30, 40]):
        with pytest.raises(IndexFileError, match=r'row 1: face_box_px .* is not inside the picture'):
            write(tmp_path, [row(0), row(1, face_box_px=box)])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write(tmp_path, [row(0)])
    before = path.read_bytes()
    with pytest.raises(IndexFileError):
        write(tmp_path, [row(split='dev')])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [INDEX_NAME]


def test_docs_name_every_column():
    text = (Path(__file__).parents[1] / 'docs' / 'datasets.md').read_text(encoding='utf-8')
    assert [column.name for column in COLUMNS if f'`{column.name}`' not in text] == []
