"""tools/cross_validate.py as users run it: two folds trained and tested, finished folds not repeated."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_tool
from test_prepare_mpiifacegaze import CORNER_MM, ROTATION, line, write_person

CONFIG = ROOT / 'configs/ctdet_gaze/nano_synth_160.py'
SMALL = ['train_dataloader.batch_size=8', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
         'test_dataloader.num_workers=0', 'model.backbone.channels=(8,8,16,16,16)', 'model.neck.channels=(16,8,8)',
         'train_cfg.max_epochs=1']  # fmt: skip
FOLDS = "protocol={'type':'Folds','folds':[['p0000','p0011'],['p0001']]}"


def _run(synth_close, work_dir, *more, options=(), code=0):
    words = ['--cfg-options', f'data_root={synth_close}', *SMALL, *options]
    return run_tool('cross_validate', CONFIG, '--work-dir', work_dir, *more, *words, code=code)


@pytest.fixture(scope='module')
def finished(synth_close, tmp_path_factory):
    """Two folds, interrupted after the first one by asking for it alone."""
    work_dir = tmp_path_factory.mktemp('cv') / 'runs'
    _run(synth_close, work_dir, '--folds', 'fold2', options=[FOLDS])
    before = (work_dir / 'fold2/model_1.pth').stat().st_mtime_ns
    done = _run(synth_close, work_dir, '--jobs', 2, options=[FOLDS])
    assert (work_dir / 'fold2/model_1.pth').stat().st_mtime_ns == before
    return work_dir, done


def test_one_table_of_persons(finished):
    work_dir, done = finished
    figures = json.loads((work_dir / 'cross_validation.json').read_text())
    pog = figures['metrics']['pog']
    persons = {person['subject']: (person['fold'], person['n']) for person in pog['persons']}
    # Persons 0 and 11 are of different splits of the index; a protocol goes by persons.
    assert persons == {'p0000': ('fold1', 8), 'p0011': ('fold1', 8), 'p0001': ('fold2', 8)}
    means = [person['mean'] for person in pog['persons']]
    assert pog['mean'] == pytest.approx(sum(means) / 3)
    assert f'mean over persons {pog["mean"]:.2f} mm, 95 % CI +- {pog["ci95"]:.2f}' in done.stdout
    assert '[2/2] fold2: pog' in done.stdout
    assert 'the last one; nobody chose it' in done.stdout
    assert (figures['allow_leak'], figures['leaks'], figures['failed']) == (False, [], [])


def test_nobody_is_trained_on_and_tested_and_nobody_validates(finished):
    work_dir, _ = finished
    for name, train in (('fold1', ['p0001']), ('fold2', ['p0000', 'p0011'])):
        result = json.loads((work_dir / name / 'result.json').read_text())
        assert result['fold']['train'] == train
        assert result['fold']['val'] == []
        assert result['provenance']['choice'] == 'epoch 1, not chosen by a figure'
        assert not list(Path(work_dir / name).glob('best_*'))


def test_another_config_does_not_mix_with_finished_folds(finished, synth_close):
    work_dir, _ = finished
    done = _run(synth_close, work_dir, options=[FOLDS, 'codec.sigma=3'], code=2)
    assert 'was begun with other values of ' in done.stdout
    assert 'codec, codecs, model: give another --work-dir' in done.stdout
    assert '2 of 2 folds failed: fold1, fold2' in done.stderr


@pytest.mark.slow
def test_leave_one_person_out_of_mpiifacegaze(tmp_path):
    """The release's format, its config with a small network, every person once; an interrupted fold goes on."""
    for number, name in enumerate(('p00', 'p01', 'p02')):
        targets = [(200 + 300 * k, 100 + 250 * number + 40 * k) for k in range(4)]
        points = [CORNER_MM + ROTATION @ (0.2 * x, 0.2 * y, 0) for x, y in targets]
        lines = [line(f'day01/{k:04d}.jpg', targets[k], target=points[k]) for k in range(4)]
        write_person(tmp_path / 'src', lines, name)
    data, work = tmp_path / 'data', tmp_path / 'work'
    run_tool('prepare_data', 'mpiifacegaze', '--src', tmp_path / 'src', '--out', data, '--size', 64, 36, '--jobs', 1)
    (tmp_path / 'nano.py').write_text(
        f'_base_ = {str(ROOT / "configs/ctdet_gaze/resdcn18_mpiifacegaze_640.py")!r}\n'
        "model = dict(backbone=dict(_delete_=True, type='NanoNet', channels=(8, 8, 16, 16, 16)),\n"
        '             neck=dict(channels=(16, 8, 8), refine=None))\n'
        'input_frame = dict(size=(64, 36))\ntrain_cfg = dict(max_epochs=2)\n'
        'train_dataloader = dict(batch_size=4, num_workers=0)\ntest_dataloader = dict(num_workers=0)\n'
    )
    words = ['cross_validate', tmp_path / 'nano.py', '--work-dir', work, '--jobs', 2]
    words += ['--cfg-options', f'data_root={data}']
    done = run_tool(*words)
    first = json.loads((work / 'cross_validation.json').read_text())
    assert first['metrics'].keys() == {'pog', 'angle'} and first['failed'] == []
    for metric, unit in (('pog', 'mm'), ('angle', 'deg')):
        table = first['metrics'][metric]
        persons = [(p['subject'], p['fold'], p['n']) for p in table['persons']]
        assert persons == [('p00', 'p00', 4), ('p01', 'p01', 4), ('p02', 'p02', 4)]
        means = np.array([person['mean'] for person in table['persons']])
        # Student's t with 2 degrees of freedom: 4.302653.
        assert table['mean'] == pytest.approx(means.mean()) and table['sd'] == pytest.approx(means.std(ddof=1))
        assert table['ci95'] == pytest.approx(4.302653 * means.std(ddof=1) / np.sqrt(3), rel=1e-6)
        assert f'mean over persons {table["mean"]:.2f} {unit}, 95 % CI +- {table["ci95"]:.2f}' in done.stdout
        for person in table['persons']:
            assert re.search(rf'{person["subject"]} +{person["mean"]:.2f} +{person["sd"]:.2f} +4 +', done.stdout)
    assert [fold['fold']['train'] for fold in first['folds']] == [['p01', 'p02'], ['p00', 'p02'], ['p00', 'p01']]
    # As after a power cut in the second epoch of the second fold.
    for name in ('result.json', 'test.json', 'model_2.pth'):
        (work / 'p01' / name).unlink()
    kept = {name: (work / name / 'model_2.pth').stat().st_mtime_ns for name in ('p00', 'p02')}
    run_tool(*words)
    assert {name: (work / name / 'model_2.pth').stat().st_mtime_ns for name in kept} == kept
    log = (work / 'p01/train.log').read_text()
    assert 'Epoch(train) [2]' in log and 'Epoch(train) [1]' not in log
    second = json.loads((work / 'cross_validation.json').read_text())
    assert second['metrics']['pog']['mean'] == pytest.approx(first['metrics']['pog']['mean'], rel=1e-6)


def test_a_validation_person_chooses_the_checkpoint(synth_close, tmp_path):
    protocol = "protocol={'type':'LeaveOneOut','subjects':['p0000','p0001'],'val_subjects':['p0002']}"
    done = _run(synth_close, tmp_path, '--folds', 'p0001', options=[protocol])
    result = json.loads((tmp_path / 'p0001/result.json').read_text())
    assert result['provenance']['choice'] == 'epoch 1, chosen by the best pog/mean_mm on 1 person (p0002)'
    assert 'the best on the validation persons' in done.stdout


def test_mistakes_are_named(synth_close, tmp_path):
    done = _run(synth_close, tmp_path, '--folds', 'fold', options=[FOLDS], code=2)
    assert "there is no fold 'fold'; did you mean" in done.stderr
    bad = "protocol={'type':'LeaveOneOut','subjects':['p0000','p00ll']}"
    assert "no person 'p00ll'" in _run(synth_close, tmp_path, options=[bad], code=2).stderr
    # What a fold says before it ends is shown, and where the rest is.
    done = _run(synth_close, tmp_path, '--folds', 'fold1', options=[FOLDS, 'model.backbone.channels=(8,8)'], code=2)
    assert 'fold1: FAILED: tools/train.py ended with' in done.stdout
    assert 'train.log' in done.stdout
