"""Curves of trainings: logs written by hand, restarts among them, and the picture that the tool draws."""

import json
import math

import cv2
import pytest
from conftest import run_tool

from evg.engine.curves import choose_keys, draw_curves, read_curves, smoothed
from evg.errors import UserError


def _train(step, epoch, **values):
    return json.dumps({'lr': 0.1, **values, 'epoch': epoch, 'iter': step, 'step': step})


def _val(epoch, **values):
    return json.dumps({**values, 'data_time': 0.5, 'time': 1.0, 'step': epoch})


def _log(folder, start, lines):
    path = folder / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(f'{line}\n' for line in lines).removesuffix('\n'))


@pytest.fixture
def run(tmp_path):
    """Three iterations an epoch; killed in the third epoch while a line was written, resumed from its beginning."""
    folder = tmp_path / 'one'
    lines = [_train(step, (step + 2) // 3, loss=float(step)) for step in range(1, 4)]
    lines += [_val(1, **{'pog/mean_mm': 90.0})]
    lines += [_train(step, 2, loss=float(step)) for step in range(4, 7)]
    lines += [_val(2, **{'pog/mean_mm': 80.0}), _train(7, 3, loss=700.0), _train(8, 3, loss=800.0)[:-5]]
    _log(folder, '20260101_090000', lines)
    lines = [_train(step, 3, loss=float(step)) for step in range(7, 10)]
    _log(folder, '20260101_100000', [*lines, _val(3, **{'pog/mean_mm': math.nan})])
    return folder


def test_a_resumed_run_is_one_curve(run):
    curves = read_curves(run)
    assert curves.train['loss'] == {step: float(step) for step in range(1, 10)}
    assert curves.train['lr'] == dict.fromkeys(range(1, 10), 0.1)
    assert {step: value for step, value in curves.val['pog/mean_mm'].items() if step < 3} == {1: 90.0, 2: 80.0}
    assert math.isnan(curves.val['pog/mean_mm'][3])
    assert curves.keys == {'loss', 'lr', 'pog/mean_mm', 'data_time', 'time'}


def test_a_run_that_began_anew_forgets_the_old_one(run):
    _log(run, '20260101_110000', [_train(1, 1, loss=5.0)])
    curves = read_curves(run)
    assert curves.train['loss'] == {1: 5.0}
    assert curves.val['pog/mean_mm'] == {}
    # One that was killed before its first line says nothing.
    _log(run, '20260101_120000', ['{"lr": 0.'])
    assert read_curves(run).train['loss'] == {1: 5.0}


@pytest.mark.parametrize('line', ['{"loss": 1', '[1]', '{"loss": 1}', '{"step": "1"}'])
def test_a_broken_line_in_the_middle_is_refused(tmp_path, line):
    _log(tmp_path, '20260101_090000', [_train(1, 1, loss=1.0), line, _train(2, 1, loss=1.0)])
    with pytest.raises(UserError, match=r'scalars\.json, line 2 is no record of a training'):
        read_curves(tmp_path)


def test_smoothed_by_hand():
    # Weights 1, 1/2, 1/4 from the newest back.
    assert smoothed([1.0, 0.0, 0.0], 0.5) == pytest.approx([1, 0.5 / 1.5, 0.25 / 1.75])
    assert smoothed([3.0, 1.0, 2.0], 0) == [3, 1, 2]
    assert smoothed([4.0] * 50, 0.9) == pytest.approx([4] * 50)
    first, gap, last = smoothed([1.0, math.nan, 2.0], 0.5)
    assert math.isnan(gap)
    assert (first, last) == pytest.approx((1, 2.5 / 1.5))


def test_keys_are_chosen_or_listed(run, tmp_path):
    runs = [read_curves(run)]
    assert choose_keys(runs) == ['loss', 'pog/mean_mm']
    assert choose_keys(runs, ['lr']) == ['lr']
    with pytest.raises(UserError, match='data_time, loss, lr, pog/mean_mm, time'):
        choose_keys(runs, ['zzz'])
    with pytest.raises(UserError, match=r"did you mean 'pog/mean_mm'.*; there are data_time, loss"):
        choose_keys(runs, ['pog/mean_cm'])
    _log(tmp_path / 'other', '20260101_090000', [_train(1, 1, grad_norm=2.0)])
    assert choose_keys([read_curves(tmp_path / 'other')]) == ['grad_norm']


def test_what_is_drawn(run, tmp_path):
    _log(tmp_path / 'b' / 'one', '20260101_090000', [_train(2, 1, loss=8.0), _train(4, 1, loss=2.0)])
    runs = [read_curves(run), read_curves(tmp_path / 'b' / 'one')]
    top, bottom = draw_curves(runs, ['loss', 'pog/mean_mm'], 0.5).axes
    # Of each run the raw curve and the smoothed one, which alone is in the legend; folders of one name by their paths.
    raw, _, other, smooth = top.lines
    assert raw.get_xydata()[:2].tolist() == [[1, 1], [2, 2]]
    assert other.get_xydata().tolist() == [[2, 8], [4, 2]]
    assert smooth.get_ydata() == pytest.approx([8, 6 / 1.5])
    assert [text.get_text() for text in top.get_legend().get_texts()] == [str(run), str(tmp_path / 'b' / 'one')]
    assert (top.get_xlabel(), bottom.get_xlabel()) == ('iteration', 'epoch')
    # The validation is not smoothed, and the second run has none.
    (line,) = bottom.lines
    assert line.get_xydata()[:2].tolist() == [[1, 90], [2, 80]]


def test_the_tool(run, tmp_path):
    _log(tmp_path / 'two', '20260101_090000', [_train(step, 1, loss=10.0 / step) for step in range(1, 10)])
    done = run_tool('analysis/plot_log', run, tmp_path / 'two', '--smooth', 0.6)
    assert done.stdout == f'curves: {run / "curves.png"}\n'
    picture = cv2.imread(str(run / 'curves.png'))
    assert picture.shape == (648, 960, 3)  # two charts of 8 x 2.7 inches at 120 per inch
    run_tool('analysis/plot_log', run, '--keys', 'lr', '--out', tmp_path / 'new' / 'lr.pdf')
    assert (tmp_path / 'new' / 'lr.pdf').read_bytes().startswith(b'%PDF')
    for words, message in [
        ([tmp_path], 'holds no log of a training'),
        ([run, '--out', 'x.bmp'], '--out x.bmp does not end in .png, .pdf, .svg'),
        ([run, '--smooth', 1], '--smooth is a weight from 0 to below 1, not 1'),
    ]:
        assert message in run_tool('analysis/plot_log', *words, code=2).stderr
