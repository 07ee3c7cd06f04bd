"""GazeHub's label files, written by hand from the format description, with labels worked out on paper."""

import cv2
import numpy as np
import pytest

from evg.datasets.gazehub import CHECK, GazeHubConverter
from evg.datasets.index import read_index
from evg.datasets.prepare import prepare
from evg.errors import UserError
from evg.geometry import pitchyaw_to_vector, vector_to_pitchyaw

# A gaze up and to the user's right: sin(pitch) = 3 / 5, tan(yaw) = 5 / 12; not equal, so that their order counts.
GAZE, PITCH, YAW = (-4 / 13, -0.6, -9.6 / 13), float(np.arcsin(0.6)), float(np.arctan2(5, 12))
HEAD_PITCH, HEAD_YAW = 0.1, -0.2
ROLL = (0, 0, float(np.pi / 2))  # Rodrigues vector of [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
ROLL_MATRIX = (0, -1, 0, 1, 0, 0, 0, 0, 1)
HEADERS = {
    'mpiifacegaze': 'Face Left Right Origin WhichEye 3DGaze 3DHead 2DGaze 2DHead Rmat Smat GazeOrigin',
    'eyediap': 'Face Left Right metapath 3DGaze 3DHead 2DGaze 2DHead Rvec Svec GazeOrigin',
    'gaze360': 'Face Left Right Origin 3DGaze 2DGaze',
    'rtgene': 'Face Left Right Origin 3DGaze 3DHead 2DGaze 2DHead',
    'ethxgaze': 'face gaze head origin cam_index frame_index normmat',
}


def joined(values):
    return ','.join(map(str, values))


def cells(kind, picture, **changes):
    """The columns of one row, by the name in the header."""
    values = {
        'Face': picture,
        'face': picture,
        'Left': f'left_{picture}',
        'Right': f'right_{picture}',
        'Origin': 'rec_022/head/000003/000131.jpg' if kind == 'gaze360' else 's001' if kind == 'rtgene' else 'x.jpg',
        'origin': 'x.jpg',
        'metapath': '1_A_DS_S',
        'WhichEye': 'left',
        '3DGaze': joined(GAZE),
        '3DHead': joined((0.1, 0.2, 0.3)),
        '2DGaze': joined((YAW, PITCH)),
        '2DHead': joined((HEAD_YAW, HEAD_PITCH)),
        'Rmat': joined(ROLL),
        'Rvec': joined(ROLL),
        'Smat': joined((1, 1, 1.25)),
        'Svec': joined((1, 1, 1.25)),
        'GazeOrigin': joined((0, 0, 600)),
        'gaze': joined((PITCH, YAW)),
        'head': joined((HEAD_PITCH, HEAD_YAW)),
        'cam_index': '3',
        'frame_index': '7',
        'normmat': joined(ROLL_MATRIX),
    }
    if kind == 'gaze360':
        # x to the left, y up.
        values['3DGaze'] = joined((4 / 13, 0.6, -9.6 / 13))
    return {**values, **changes}


def write(src, kind, files, header=None, folder='Label'):
    """Label files by name, each a list of rows (dicts), and a picture for every one."""
    names = (header or HEADERS[kind]).split()
    (src / folder).mkdir(parents=True, exist_ok=True)
    for file, rows in files.items():
        lines = [' '.join(names), *(' '.join(row[name] for name in names) for row in rows)]
        (src / folder / f'{file}.label').write_text('\n'.join(lines) + '\n')
        for row in rows:
            path = src / 'Image' / row['Face']
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((8, 8, 3), 90, np.uint8))


def convert(src, out, kind, patch='face', sign=None, frame=None, labels='Label'):
    summary = prepare(GazeHubConverter(str(src), kind, patch, labels, 'Image', sign, frame), out, jobs=1)
    return read_index(out), summary


PLAIN = {
    'mpiifacegaze': ('p00', 'p00/face/1.jpg', 'p00', 'train', 'normalised_sr'),
    'eyediap': ('p1', 'p1/face/1.jpg', 'p1', 'train', 'normalised_r'),
    'gaze360': ('val', 'val/Face/1.jpg', 'rec_022/000003', 'val', 'line_of_sight'),
    'rtgene': ('valid', 's014_glasses/original/face/face_000001_rgb.png', 's014', 'val', 'head'),
    'ethxgaze': ('train', 'train/subject0024/1.jpg', 'subject0024', 'val', 'normalised_r'),
}


@pytest.mark.parametrize('kind', list(PLAIN))
def test_up_and_to_the_right_through_every_kind(tmp_path, kind):
    file, picture, subject, split, frame = PLAIN[kind]
    write(tmp_path / 'hub', kind, {file: [cells(kind, picture)]})
    options = {'sign': 'subject', 'frame': 'head'} if kind == 'rtgene' else {}
    index, summary = convert(tmp_path / 'hub', tmp_path / 'out', kind, **options)
    c = index.columns
    assert (index.dataset, index.gaze_frame) == (kind, frame) and summary['dropped'] == {}
    assert (c['subject'][0], c['split'][0], c['sample_id'][0]) == (subject, split, f'{file}/000001')
    assert c['image'][0] == f'../hub/Image/{picture}' and (index.root / c['image'][0]).is_file()
    assert np.allclose(c['gaze'][0], GAZE, atol=1e-12)
    assert np.allclose(vector_to_pitchyaw(c['gaze'][0]), (PITCH, YAW)) and PITCH > 0 and YAW > 0
    if kind in ('mpiifacegaze', 'eyediap', 'ethxgaze'):
        assert np.allclose(c['head_pitchyaw_rad'][0], (HEAD_PITCH, HEAD_YAW))
        assert np.allclose(c['norm_rotation'][0], ROLL_MATRIX, atol=1e-9)
    else:
        assert np.isnan(c['head_pitchyaw_rad']).all() and np.isnan(c['norm_rotation']).all()
    if kind in ('mpiifacegaze', 'eyediap'):
        assert c['norm_scale'][0] == 1.25
    assert (CHECK in summary['checks']) == (kind != 'ethxgaze')


def test_published_row_of_gaze360(tmp_path):
    row = cells('gaze360', 'train/Face/1.jpg', **{'3DGaze': '0.62578,-0.38594,-0.67783', '2DGaze': '0.74549,-0.39622'})
    write(tmp_path / 'hub', 'gaze360', {'train': [row]})
    index, summary = convert(tmp_path / 'hub', tmp_path / 'out', 'gaze360')
    # To the user's right and down.
    assert np.allclose(vector_to_pitchyaw(index.columns['gaze'][0]), (-0.39622, 0.74549), atol=1e-5)
    assert summary['checks'][CHECK]['max'] < 0.01


def test_columns_are_found_by_name(tmp_path):
    header = '2DHead 3DGaze extra Face Left Right WhichEye 2DGaze Smat Rmat'
    write(tmp_path / 'hub', 'mpiifacegaze', {'p03': [cells('mpiifacegaze', 'p03/face/1.jpg', extra='7')]}, header)
    index, _ = convert(tmp_path / 'hub', tmp_path / 'out', 'mpiifacegaze')
    assert np.allclose(index.columns['gaze'][0], GAZE)
    assert np.allclose(index.columns['head_pitchyaw_rad'][0], (HEAD_PITCH, HEAD_YAW))


def test_rows_that_gazehub_mirrored_are_noted(tmp_path):
    rows = [cells('mpiifacegaze', f'p00/face/{i}.jpg', WhichEye=eye) for i, eye in enumerate(('left', 'right'))]
    write(tmp_path / 'hub', 'mpiifacegaze', {'p00': rows})
    index, summary = convert(tmp_path / 'hub', tmp_path / 'out', 'mpiifacegaze')
    assert sum(summary['notes'].values()) == 1 and 'mirrored' in next(iter(summary['notes']))
    # Its label is that of the mirrored picture, as stored; its R is that of the picture before.
    assert np.allclose(index.columns['gaze'][1], GAZE) and np.isnan(index.columns['norm_rotation'][1]).all()


@pytest.mark.parametrize(
    ('kind', 'changes'),
    [
        ('mpiifacegaze', {'2DGaze': joined((PITCH, YAW))}),  # order
        ('eyediap', {'2DGaze': joined((-YAW, PITCH))}),  # sign
        ('gaze360', {'3DGaze': joined(GAZE)}),  # axes
    ],
)
def test_vectors_and_angles_that_disagree_are_refused(tmp_path, kind, changes):
    file, picture = PLAIN[kind][:2]
    write(tmp_path / 'hub', kind, {file: [cells(kind, picture, **changes)]})
    with pytest.raises(UserError, match=rf'3DGaze and 2DGaze differ by \d+\.\d+ deg \(median\).*--kind {kind}'):
        convert(tmp_path / 'hub', tmp_path / 'out', kind)


def test_the_sign_of_rtgene_is_never_guessed(tmp_path):
    file, picture = PLAIN['rtgene'][:2]
    write(tmp_path / 'hub', 'rtgene', {file: [cells('rtgene', picture)]})
    for options in ({}, {'sign': 'subject'}, {'frame': 'head'}):
        with pytest.raises(UserError, match=r'states neither the sign nor the frame .*--sign subject .*--sign camera'):
            convert(tmp_path / 'hub', tmp_path / 'out', 'rtgene', **options)
    # A positive first angle that looks to the picture's right is the user's left.
    index, _ = convert(tmp_path / 'hub', tmp_path / 'out', 'rtgene', sign='camera', frame='camera')
    assert index.gaze_frame == 'camera'
    assert np.allclose(index.columns['gaze'][0], pitchyaw_to_vector((PITCH, -YAW)))
    with pytest.raises(UserError, match='the convention of eyediap is known'):
        convert(tmp_path / 'hub', tmp_path / 'out2', 'eyediap', sign='camera')


def test_splits_and_persons(tmp_path):
    names = ('train', 'val', 'test', 'unused')
    write(tmp_path / 'g', 'gaze360', {name: [cells('gaze360', f'{name}/Face/1.jpg')] for name in names})
    index, summary = convert(tmp_path / 'g', tmp_path / 'g_out', 'gaze360')
    assert sorted(index.columns['split']) == ['test', 'train', 'val']
    assert summary['dropped'] == {"frames of Gaze360's split unused": 1}
    files = {f'p{i}': [cells('eyediap', f'p{i}/face/1.jpg')] for i in (10, 9)}
    write(tmp_path / 'e', 'eyediap', files)
    index, _ = convert(tmp_path / 'e', tmp_path / 'e_out', 'eyediap')
    assert index.columns['subject'].tolist() == ['p9', 'p10'] and set(index.columns['split']) == {'train'}
    # A cluster's file names its persons in the pictures.
    cluster = [cells('eyediap', f'p{i}/face/1.jpg') for i in (1, 14)]
    write(tmp_path / 'e', 'eyediap', {'Cluster0': cluster}, folder='ClusterLabel')
    index, _ = convert(tmp_path / 'e', tmp_path / 'c_out', 'eyediap', labels='ClusterLabel')
    assert index.columns['subject'].tolist() == ['p1', 'p14']


def test_unlabelled_test_file_of_ethxgaze(tmp_path):
    header = 'face head origin cam_index frame_index normmat'
    write(tmp_path / 'hub', 'ethxgaze', {'test': [cells('ethxgaze', 'test/subject0001/1.jpg')]}, header)
    write(tmp_path / 'hub', 'ethxgaze', {'train': [cells('ethxgaze', 'train/subject0003/1.jpg')]})
    index, _ = convert(tmp_path / 'hub', tmp_path / 'out', 'ethxgaze')
    rows = {split: i for i, split in enumerate(index.columns['split'])}
    assert set(rows) == {'train', 'test'}
    assert np.isnan(index.columns['gaze'][rows['test']]).all()
    # Here head is the second column, not the third.
    assert np.allclose(index.columns['head_pitchyaw_rad'], (HEAD_PITCH, HEAD_YAW))


def test_eye_patches(tmp_path):
    row = cells('mpiifacegaze', 'p00/face/1.jpg', Left='p00/left/1.jpg')
    write(tmp_path / 'hub', 'mpiifacegaze', {'p00': [row]})
    (tmp_path / 'hub/Image/p00/left').mkdir()
    cv2.imwrite(str(tmp_path / 'hub/Image/p00/left/1.jpg'), np.zeros((36, 60, 3), np.uint8))
    index, _ = convert(tmp_path / 'hub', tmp_path / 'out', 'mpiifacegaze', patch='left')
    assert index.columns['image'][0].endswith('p00/left/1.jpg')
    write(tmp_path / 'eth', 'ethxgaze', {'train': [cells('ethxgaze', 'train/subject0003/1.jpg')]})
    with pytest.raises(UserError, match='has no column Left: its header is face gaze head'):
        convert(tmp_path / 'eth', tmp_path / 'out2', 'ethxgaze', patch='left')


def test_damaged_rows_and_files(tmp_path):
    src = tmp_path / 'hub'
    good = [cells('eyediap', f'p1/face/{i}.jpg') for i in range(4)]
    bad = [
        cells('eyediap', 'p1/face/7.jpg', **{'3DGaze': '0,nan,1'}),
        cells('eyediap', 'p1/face/8.jpg', **{'3DGaze': '0,0,0'}),
        cells('eyediap', 'p1/face/9.jpg', **{'2DGaze': '30,20'}),
        cells('eyediap', 'p1/face/10.jpg', Rvec='1,2'),
    ]
    write(src, 'eyediap', {'p1': good + bad, 'p2': [cells('eyediap', 'p2/face/1.jpg')], 'p3': good, 'p4': good})
    (src / 'Image/p1/face/0.jpg').unlink()
    (src / 'Label/p2.label').write_text('p2/face/1.jpg 1,2,3 4,5\n')
    (src / 'Label/p3.label').write_text((src / 'Label/p3.label').read_text() + 'p3/a face/1.jpg\n')
    (src / 'Label/p4.label').write_text(HEADERS['gaze360'].replace('Face', 'Gesicht') + '\na b c d 1,2,3 1,2\n')
    index, summary = convert(src, tmp_path / 'out', 'eyediap')
    assert index.columns['sample_id'].tolist() == ['p1/000002', 'p1/000003', 'p1/000004']
    assert summary['dropped'] == {'rows whose picture is missing': 1, 'rows with numbers that cannot be read': 4}
    for file, text in (('p2', 'no header line'), ('p3', 'row 5 has 2 fields, the header 11'), ('p4', 'column Face')):
        assert text in summary['failed'][file], file


def test_wrong_source(tmp_path):
    with pytest.raises(UserError, match=r'no \*\.label files in .*Label: GazeHub is at'):
        convert(tmp_path, tmp_path / 'out', 'eyediap')
