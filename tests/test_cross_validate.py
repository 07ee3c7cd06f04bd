"""tools/cross_validate.py as users run it: two folds trained and tested, finished folds not repeated."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, run_tool

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
