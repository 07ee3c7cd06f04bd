"""Who is trained on and tested, the pooled table, and the guard against leaks."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool
from test_prepare_gazecapture import frame, write_session
from test_prepare_mpiifacegaze import CORNER_MM, FACE_MM, GAZE, ROTATION, line, write_patches, write_person
from test_submission import checkpoint_of

from evg.config import load_config
from evg.datasets.gazecapture import GazeCaptureConverter
from evg.datasets.index import INDEX_NAME, IndexFileError, read_index, write_index
from evg.datasets.mpiifacegaze import MPIIFaceGazeConverter
from evg.datasets.mpiifacegaze_normalized import MPIIFaceGazeNormalizedConverter
from evg.datasets.prepare import prepare
from evg.engine.leak_guard import META_KEY, persons_of, provenance, provenance_lines
from evg.errors import UserError
from evg.evaluation.protocols import fold_overrides, labelled_persons, pool, render_pooled
from evg.geometry import angle_between_deg
from evg.registry import DATASETS, EVALUATOR

PERSONS = ['p00', 'p01', 'p02', 'p03', 'p04']
CONFIG = ROOT / 'configs/ctdet_gaze/nano_synth_160.py'


def build(**arguments):
    return EVALUATOR.build(arguments)


def index(folder, persons, dataset='toy', **info):
    """An index whose persons are given as {split: names}."""
    rows = [
        dict(sample_id=f'{name}/{split}', image='x.jpg', split=split, subject=name, gaze=[0, 0, -1])
        for split, names in persons.items()
        for name in names
    ]
    write_index(folder / 'index.parquet', rows, {}, dataset, info=info)
    return folder


def config(folder, **loaders):
    """The part of a config that the guard reads; loaders as train=(splits, subjects)."""
    return {
        f'{name}_dataloader': {'dataset': {'data_root': str(folder), 'splits': splits, 'subjects': subjects}}
        for name, (splits, subjects) in loaders.items()
    }


# Folds.
def test_leave_one_out():
    folds = build(type='LeaveOneOut').folds(PERSONS)
    assert [fold.name for fold in folds] == PERSONS
    assert folds[1].train == ('p00', 'p02', 'p03', 'p04')
    assert (folds[1].val, folds[1].test) == ((), ('p01',))


def test_leave_one_out_with_persons_who_choose():
    folds = build(type='LeaveOneOut', subjects=['p03', 'p01', 'p00'], val_subjects=['p04']).folds(PERSONS)
    assert [fold.test for fold in folds] == [('p03',), ('p01',), ('p00',)]
    assert [fold.train for fold in folds] == [('p01', 'p00'), ('p03', 'p00'), ('p03', 'p01')]
    assert {fold.val for fold in folds} == {('p04',)}
    # All but the validation person, if no persons are named.
    assert len(build(type='LeaveOneOut', val_subjects=['p04']).folds(PERSONS)) == 4


def test_groups_leave_out_who_is_in_none():
    folds = build(type='Folds', folds=[['p00', 'p01'], ['p03']], val_subjects=['p04']).folds(PERSONS)
    assert [(fold.name, fold.train, fold.test) for fold in folds] == [
        ('fold1', ('p03',), ('p00', 'p01')),
        ('fold2', ('p00', 'p01'), ('p03',)),
    ]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(type='LeaveOneOut', subjects=['p00', 'p0l']), "no person 'p0l' in the index; did you mean"),
        (dict(type='LeaveOneOut', subjects=['p00', 'p01'], val_subjects=['p01']), 'p01 would be tested or validated'),
        (dict(type='Folds', folds=[['p00'], ['p00', 'p01']]), 'p00 would be tested or validated twice'),
        (dict(type='Folds', folds=[['p00', 'p01']]), 'nobody to train on'),
    ],
)
def test_impossible_protocols(arguments, message):
    with pytest.raises(UserError, match=message):
        build(**arguments).folds(PERSONS)


def test_persons_without_labels_take_no_part(tmp_path):
    labels = {'a': (0, 0, -1), 'b': (0, 0, -1), 'c': None}
    rows = [
        dict(sample_id=f'{name}{n}', image='x.jpg', split=split, subject=name, gaze=labels[name] if n else None)
        for name, split in (('b', 'val'), ('a', 'train'), ('c', 'test'))
        for n in range(2)
    ]
    write_index(tmp_path / 'index.parquet', rows, {}, 'toy')
    whole = read_index(tmp_path)
    # One label makes a person; GazeDataset names rows that lack theirs.
    assert labelled_persons(whole, 'gaze') == (['a', 'b'], ['train', 'val'])
    assert labelled_persons(whole, None) == (['a', 'b', 'c'], ['test', 'train', 'val'])
    assert labelled_persons(whole, 'pog_plane_offset_mm') == ([], [])


def test_a_fold_as_overrides_of_a_real_config():
    options = ['val_dataloader.num_workers=0', 'train_cfg.max_epochs=3', '+val_cfg.fp16=True']
    cfg = load_config(CONFIG, options)
    fold = build(type='LeaveOneOut').folds(PERSONS)[2]
    loaded = load_config(CONFIG, fold_overrides(cfg, options, fold, ['train', 'val']))
    train, test = loaded.train_dataloader.dataset, loaded.test_dataloader.dataset
    assert (train.subjects, train.splits) == (['p00', 'p01', 'p03', 'p04'], ['train', 'val'])
    assert (test.subjects, test.splits) == (['p02'], ['train', 'val'])
    # Nobody validates, and the metrics of the test, which refer to those of the validation, are still there.
    assert (loaded.val_dataloader, loaded.val_cfg, loaded.val_evaluator) == (None, None, None)
    assert loaded.default_hooks.checkpoint.save_best is None
    assert [metric.type for metric in loaded.test_evaluator] == ['PoGError', 'AngularError']
    assert loaded.train_cfg.max_epochs == 3
    fold = build(type='LeaveOneOut', val_subjects=['p04']).folds(PERSONS)[0]
    options = options[:2]
    loaded = load_config(CONFIG, fold_overrides(load_config(CONFIG, options), options, fold, ['train']))
    assert loaded.val_dataloader.dataset.subjects == ['p04']
    assert loaded.val_dataloader.num_workers == 0
    assert loaded.default_hooks.checkpoint.save_best == 'pog/mean_mm'


def test_a_config_without_persons_cannot_be_folded():
    fold = build(type='LeaveOneOut').folds(PERSONS)[0]
    with pytest.raises(UserError, match='needs splits = dict'):
        fold_overrides({'subjects': dict(train=None, val=None, test=None)}, [], fold, ['train'])


# The table of persons.
def result(name, **persons):
    """One fold's report of `pog`; persons as name=(n, mean, sd)."""
    rows = [{'subject': p, 'n': n, 'n_missing': 0, 'mean': mean, 'sd': sd} for p, (n, mean, sd) in persons.items()]
    report = {'metric': 'pog', 'title': 'Point of gaze', 'unit': 'mm', 'subjects': rows}
    return {'fold': {'name': name}, 'reports': [report]}


def test_pooled_by_hand():
    metrics = pool([result('fold1', c=(4, 6.0, 1.5)), result('fold2', a=(2, 1.0, 0.5), b=(1, 2.0, None))])
    pog = metrics['pog']
    # 1, 2, 6: mean 3, sum of squares 14, sd sqrt(7); t with 2 degrees is 4.302653.
    assert pog['mean'] == pytest.approx(3)
    assert pog['sd'] == pytest.approx(math.sqrt(7))
    assert pog['ci95'] == pytest.approx(4.302652729911275 * math.sqrt(7 / 3))
    assert (pog['n_persons'], pog['n']) == (3, 7)
    assert [(p['subject'], p['fold']) for p in pog['persons']] == [('a', 'fold2'), ('b', 'fold2'), ('c', 'fold1')]
    assert [line.rstrip() for line in render_pooled(metrics).splitlines()] == [
        'Point of gaze: 3 persons, 7 samples',
        '  person        mean mm  sd mm  n   fold',
        '  a                1.00   0.50  2  fold2',
        '  b                2.00      -  1  fold2',
        '  c                6.00   1.50  4  fold1',
        '  over persons     3.00   2.65',
        '  mean over persons 3.00 mm, 95 % CI +- 6.57',
    ]


# The guard.
def test_persons_of_a_loader(tmp_path):
    index(tmp_path, {'train': ['a', 'b'], 'val': ['b', 'c']}, 'toy')
    cfg = config(tmp_path, train=('train', None), val=(['train', 'val'], ['b']))
    assert persons_of(cfg['train_dataloader']) == {('toy', 'train', 'a'), ('toy', 'train', 'b')}
    assert persons_of(cfg['val_dataloader']) == {('toy', 'train', 'b'), ('toy', 'val', 'b')}
    # Wrapped and put together; data that are not there yet say nothing.
    parts = [cfg['val_dataloader']['dataset'], {'data_root': str(tmp_path / 'none')}]
    wrapped = {'dataset': {'type': 'RepeatDataset', 'dataset': {'type': 'ConcatDataset', 'datasets': parts}}}
    assert persons_of(wrapped) == persons_of(cfg['val_dataloader'])
    assert persons_of(None) == set()
    (tmp_path / INDEX_NAME).write_bytes(b'')
    with pytest.raises(IndexFileError, match='not a whole Parquet file'):
        persons_of(cfg['train_dataloader'])


def test_another_synthetic_world_has_other_persons(tmp_path):
    one = index(tmp_path / 'one', {'train': ['p0']}, 'synth', settings={'seed': 1})
    two = index(tmp_path / 'two', {'train': ['p0']}, 'synth', settings={'seed': 2})
    loaders = [config(folder, train=('train', None))['train_dataloader'] for folder in (one, two)]
    assert not persons_of(loaders[0]) & persons_of(loaders[1])


CHECKPOINT = {
    'train': {'toy': {'train': ['a', 'b']}},
    'val': {'toy': {'val': ['c']}},
    'best': None,
    'early_stop': True,
}


def judge(cfg, path='model_3.pth', allow_leak=False, **facts):
    meta = {'epoch': 3} if facts.get('none') else {'epoch': 3, META_KEY: CHECKPOINT | facts}
    return provenance({**cfg, 'allow_leak': allow_leak}, {'meta': meta}, path)


def test_a_sound_test_says_how_the_checkpoint_was_chosen(tmp_path):
    index(tmp_path, {'train': ['a', 'b'], 'val': ['c'], 'test': ['d']})
    cfg = config(tmp_path, test=('test', None))
    facts = judge(cfg)
    assert facts == {
        'checkpoint': 'model_3.pth',
        'choice': 'epoch 3, not chosen by a figure',
        'leaks': [],
        'allow_leak': False,
    }
    assert provenance_lines(facts) == ['checkpoint: epoch 3, not chosen by a figure']
    assert judge(cfg, best='pog/mean_mm')['choice'] == 'epoch 3, chosen by the best pog/mean_mm on 1 person (c)'
    assert provenance_lines(judge(cfg, allow_leak=True))[1] == 'allow_leak=True: no leak found'


def test_a_test_on_trained_persons_is_refused_by_name(tmp_path):
    # Another preparation of the same data set, with another split, does not hide them.
    index(tmp_path, {'test': ['a', 'd']})
    cfg = config(tmp_path, test=('test', None))
    with pytest.raises(UserError, match=r'trained on 1 person \(a\) of this test.*allow_leak=True'):
        judge(cfg)
    facts = judge(cfg, allow_leak=True)
    assert facts['leaks'] == ['the model was trained on 1 person (a) of this test']
    assert provenance_lines(facts)[1] == 'allow_leak=True: the model was trained on 1 person (a) of this test'
    # The same names in another data set are other persons.
    index(tmp_path, {'test': ['a', 'd']}, 'other')
    assert judge(cfg)['leaks'] == []


def test_a_checkpoint_chosen_on_the_test_is_refused_the_last_one_is_not(tmp_path):
    """EVE: the test labels are withheld, so the validation persons are tested."""
    index(tmp_path, {'train': ['a', 'b'], 'val': ['c']})
    cfg = config(tmp_path, test=('val', None))
    with pytest.raises(UserError, match=r'chosen by pog/mean_mm on 1 person \(c\).*model_N\.pth'):
        judge(cfg, 'renamed.pth', best='pog/mean_mm')
    assert judge(cfg)['choice'].endswith('not chosen by a figure; early stop watched persons of this test')
    assert judge(cfg, early_stop=False)['choice'] == 'epoch 3, not chosen by a figure'


def test_a_checkpoint_without_facts_is_judged_by_config_and_name(tmp_path):
    index(tmp_path, {'train': ['a'], 'val': ['c'], 'test': ['d']})
    sound = config(tmp_path, train=('train', None), val=('val', None), test=('test', None))
    assert judge(sound, none=True)['leaks'] == []
    on_val = config(tmp_path, train=('train', None), val=('val', None), test=('val', None))
    assert judge(on_val, none=True)['leaks'] == []
    with pytest.raises(UserError, match=r'on 1 person \(c\)'):
        judge(on_val, '/runs/best_pog_mean_mm_model_3.pth', none=True)
    with pytest.raises(UserError, match='was trained on'):
        judge(config(tmp_path, train=('train', None), test=('train', None)), none=True)


SMALL = ['train_dataloader.batch_size=8', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
         'test_dataloader.num_workers=0', 'model.backbone.channels=(8,8,16,16,16)', 'model.neck.channels=(16,8,8)',
         'train_cfg.max_epochs=1']  # fmt: skip


def results_of_eves_model(data, folder, *more):
    """What tools/test.py writes about a model of EVE that always answers (30, 20) mm, see test_submission.py."""
    cfg = ROOT / 'configs/ctdet_gaze/mobv2_eve_480.py'
    options = [f'data_root={data}', 'splits.train=train', 'splits.test=train', 'subjects.test=None']
    options += ['test_dataloader.num_workers=0', 'model.backbone.pretrained=None', 'vp_size_px=(3840,2160)', 'ppm=3.3']
    heads = {'heads.heatmap.branch.2': (0.0,), 'heads.offset.branch.2': (67.3, 38.2)}
    facts = {'train': {'eve': {'train': ['train01']}}, 'val': {}, 'best': None, 'early_stop': False}
    checkpoint = checkpoint_of(load_config(cfg, options), folder, facts, **heads)
    run_tool('test', cfg, checkpoint, '--out', folder / 'm.json', *more, '--cfg-options', *options)
    return json.loads((folder / 'm.json').read_text())


def test_mpiifacegaze_is_tested_by_a_model_of_eve(tmp_path):
    """Its label is (96, 60) mm of the plane."""
    write_person(tmp_path / 'src', [line()])
    prepare(MPIIFaceGazeConverter(str(tmp_path / 'src'), (64, 36), 95, False), tmp_path / 'data', jobs=1)
    figures = results_of_eves_model(tmp_path / 'data', tmp_path, '--report', tmp_path / 'report')['figures']
    assert figures['pog/mean_mm'] == pytest.approx(np.hypot(96 - 30, 60 - 20), abs=0.01)
    assert figures['pog/n'] == figures['angle/n'] == 1
    # (30, 20) mm of the plane is (174, 20) mm of the screen, whose pose is known; the face looks from FACE_MM.
    there = CORNER_MM + ROTATION @ (174, 20, 0) - FACE_MM
    assert figures['angle/mean_deg'] == pytest.approx(angle_between_deg(there, GAZE), abs=0.01)
    # The page has a cumulative curve of each metric and a map of the screen, light and dark, and the sample.
    page = (tmp_path / 'report/index.html').read_text()
    assert f'{figures["pog/mean_mm"]:.2f}' in page and f'{figures["angle/mean_deg"]:.2f}' in page
    assert page.count('data:image/png') >= 6 and page.count('data:image/jpeg') == 1


def test_phones_and_tablets_are_told_apart_in_cm(tmp_path):
    """The dots are at (19.3875, 94.67451) mm and (20, 80) mm of the plane."""
    write_session(tmp_path / 'src', [frame()])
    # 768 x 1024 points of 121.3 x 161.2 mm; the camera stands 60.7 mm from the left edge and 8.7 mm above the top.
    points = {'XPts': 80.7 / 121.3 * 768, 'YPts': 71.3 / 161.2 * 1024}
    write_session(
        tmp_path / 'src', [frame(W=768, H=1024, XCam=2.0, YCam=-8.0, **points)], '00003', 'iPad Mini'
    )  # fmt: skip
    prepare(GazeCaptureConverter(str(tmp_path / 'src'), 'first', 'camera'), tmp_path / 'data', jobs=1)
    (report,) = [r for r in results_of_eves_model(tmp_path / 'data', tmp_path)['reports'] if r['metric'] == 'pog']
    table = next(group for group in report['groups'] if group['title'] == 'phones and tablets')
    errors = {'phone': np.hypot(19.3875 - 30, 94.67451 - 20) / 10, 'tablet': np.hypot(20 - 30, 80 - 20) / 10}
    assert table['unit'] == 'cm'
    assert {row['group']: row['mean'] for row in table['rows']} == pytest.approx(errors, abs=1e-3)


def test_gaze_vectors_of_another_frame_are_refused(tmp_path):
    write_patches(tmp_path / 'src/p00.mat', [(-0.2, 0.1)])
    prepare(MPIIFaceGazeNormalizedConverter(str(tmp_path / 'src'), 'normalised_sr', 'up-right'), tmp_path / 'data', 1)
    options = [f'data_root={tmp_path / "data"}', 'splits.test=train']
    cfg = load_config(ROOT / 'configs/regression/resnet18_ethxgaze_224.py', options)
    data = DATASETS.build(cfg.test_dataloader.dataset)
    with pytest.raises(UserError, match="labelled in the frame 'normalised_sr', the model answers in 'normalised_r'"):
        data[0]


def test_the_guard_in_the_tools(synth_close, tmp_path):
    """Persons 0..9 are train, 10 is val, 11 is test; the test reads the validation person as EVE's configs do."""
    options = ['--cfg-options', f'data_root={synth_close}', *SMALL]
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'x', *options, 'splits.test=train', code=2)
    assert '10 persons (p0000' in done.stderr
    assert 'allow_leak=True' in done.stderr
    done = run_tool('train', CONFIG, '--work-dir', tmp_path, *options, 'splits.test=val')
    assert 'tools/test.py refuses the best_*' in done.stdout + done.stderr
    last, best = tmp_path / 'model_1.pth', next(tmp_path.glob('best_*.pth'))
    kept = {path: torch.load(path, weights_only=True)['meta'][META_KEY] for path in (last, best)}
    assert (kept[last]['best'], kept[best]['best']) == (None, 'pog/mean_mm')
    assert kept[best]['val'] == {'synth (seed 0)': {'val': ['p0010']}}
    best = best.rename(tmp_path / 'renamed.pth')
    test = ['--metric', 'pog', '--out', tmp_path / 'm.json', *options]
    assert 'p0010' in run_tool('test', CONFIG, best, *test, 'splits.test=val', code=2).stderr
    assert 'early stop watched' in run_tool('test', CONFIG, last, *test, 'splits.test=val').stdout
    assert 'by the best pog/mean_mm on 1 person (p0010)' in run_tool('test', CONFIG, best, *test).stdout
    done = run_tool('test', CONFIG, best, *test, 'splits.test=val', 'allow_leak=True')
    assert 'allow_leak=True: the checkpoint was chosen by pog/mean_mm on 1 person (p0010)' in done.stdout
    assert '"allow_leak": true' in (tmp_path / 'm.json').read_text()
