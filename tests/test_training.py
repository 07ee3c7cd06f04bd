"""Training as users run it: tools in processes of their own, killed and resumed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, run_tool

from evg.config import load_config
from evg.engine.launch import _settle_loaders, newest_checkpoint

CONFIG = 'configs/ctdet_gaze/nano_synth_160.py'
SMALL = ['train_dataloader.batch_size=8', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
         'test_dataloader.num_workers=0', 'default_hooks.logger.interval=1', 'log_processor.window_size=1',
         'model.backbone.channels=(8,8,16,16,16)', 'model.neck.channels=(16,8,8)']  # fmt: skip


def _options(data, *more):
    return ['--cfg-options', f'data_root={data}', *SMALL, *more]


def _losses(work_dir):
    """Training loss by iteration from every log of a work_dir, the newest run last."""
    found = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if 'loss_hm' in row:
                found[row['step']] = row['loss']
    return found


@pytest.fixture(scope='module')
def trained(synth_close, tmp_path_factory):
    """An uninterrupted run of three epochs."""
    work_dir = tmp_path_factory.mktemp('run') / 'whole'
    done = run_tool('train', CONFIG, '--work-dir', work_dir, *_options(synth_close, 'train_cfg.max_epochs=3'))
    return work_dir, done


def test_train_says_what_it_does_and_how_to_go_on(trained):
    work_dir, done = trained
    text = done.stdout + done.stderr
    assert 'on a grid of 40 x 24 cells' in text
    assert 'RuntimeInfoHook, EpochSeedHook, ' in text and 'before_train_iter' not in text  # the hooks in one line
    assert f'tools/test.py {CONFIG}' in text
    assert (work_dir / 'model_3.pth').is_file()
    assert list(work_dir.glob('best_pog_mean_mm*.pth'))
    assert list(work_dir.glob('*/vis_data/events.out.tfevents*'))


def test_checkpoint_holds_plain_values_and_the_config(trained):
    work_dir, _ = trained
    checkpoint = torch.load(work_dir / 'model_3.pth', weights_only=True)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(work_dir / 'model_3.pth') == []
    assert "'VPHeatmapCodec'" in checkpoint['meta']['cfg']
    assert checkpoint['meta']['dataset_meta']['plane_rule'] == 'offset'


def test_killed_in_mid_epoch_and_resumed_gives_the_same_curve(synth_close, trained, tmp_path):
    whole = _losses(trained[0])
    work_dir = tmp_path / 'killed'
    options = _options(synth_close, 'train_cfg.max_epochs=3')
    command = [sys.executable, 'tools/train.py', CONFIG, '--work-dir', str(work_dir), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    per_epoch = len(whole) // 3
    end = time.time() + 180
    # Two iterations into the second epoch.
    while max(_losses(work_dir), default=0) < per_epoch + 2:
        assert process.poll() is None
        assert time.time() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (work_dir / 'model_3.pth').exists()
    run_tool('train', CONFIG, '--work-dir', work_dir, '--resume', *options)
    resumed = _losses(work_dir)
    assert sorted(resumed) == sorted(whole)
    for step, loss in whole.items():
        assert resumed[step] == pytest.approx(loss, rel=1e-5), step
    final = torch.load(trained[0] / 'model_3.pth', weights_only=True)['state_dict']
    again = torch.load(work_dir / 'model_3.pth', weights_only=True)['state_dict']
    for name, value in final.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_test_prints_and_writes_the_same_figures(synth_close, trained, tmp_path):
    work_dir, _ = trained
    out, preds, show = tmp_path / 'm.json', tmp_path / 'p.parquet', tmp_path / 'show'
    done = run_tool(
        'test', CONFIG, work_dir / 'model_3.pth', '--metric', 'all', '--out', out, '--preds', preds, '--show-dir', show,
        '--show-count', 2, '--work-dir', tmp_path / 'log', *_options(synth_close),
    )  # fmt: skip
    figures = json.loads(out.read_text())['figures']
    table = pq.read_table(preds)
    # All samples of the test person, each once.
    assert figures['pog/n'] == len(table) == 8
    errors = [sum((a - b) ** 2 for a, b in zip(p, g, strict=True)) ** 0.5 for p, g in zip(
        table['pred_plane_mm'].to_pylist(), table['gt_plane_mm'].to_pylist(), strict=True)]  # fmt: skip
    assert figures['pog/mean_mm'] == pytest.approx(sum(errors) / 8, rel=1e-6)
    assert f'{figures["pog/mean_mm"]:.2f}' in done.stdout
    assert f'{figures["angle/mean_deg"]:.2f}' in done.stdout
    assert 'constant answer' in done.stdout
    assert len(list(show.glob('*.jpg'))) == 2


def test_what_is_tested_is_the_checkpoint_that_was_given(synth_close, trained, tmp_path):
    """Not what the training began with, nor what a resumed one, whose dumped config says so, went on from."""
    figures = []
    other = f'load_from={trained[0] / "model_1.pth"}'
    for more in ((), (other,), (other, 'resume=True')):
        options = ['--out', tmp_path / 'm.json', '--work-dir', tmp_path, *_options(synth_close, *more)]
        run_tool('test', CONFIG, trained[0] / 'model_3.pth', *options)
        figures.append(json.loads((tmp_path / 'm.json').read_text())['figures']['pog/mean_mm'])
    assert figures[0] == figures[1] == figures[2]


def test_metric_chooses_what_is_measured(synth_close, trained, tmp_path):
    options = ['--metric', 'angle', '--work-dir', tmp_path, *_options(synth_close)]
    done = run_tool('test', CONFIG, trained[0] / 'model_3.pth', *options)
    assert 'Gaze direction' in done.stdout
    assert 'Point of gaze' not in done.stdout


def test_a_checkpoint_of_another_config_is_refused(synth_close, trained, tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={synth_close}']
    done = run_tool('test', CONFIG, trained[0] / 'model_3.pth', *options, code=2)
    assert 'was not trained with this config' in done.stderr
    assert 'shape' in done.stderr
    (tmp_path / 'half.pth').write_bytes((trained[0] / 'model_3.pth').read_bytes()[:20000])
    done = run_tool('test', CONFIG, tmp_path / 'half.pth', '--work-dir', tmp_path, *_options(synth_close), code=2)
    assert 'not a whole checkpoint' in done.stderr
    done = run_tool('test', CONFIG, tmp_path / 'none.pth', code=2)
    assert 'no checkpoint' in done.stderr


def test_a_metric_that_the_config_does_not_have_names_those_it_has(tmp_path):
    torch.save({'state_dict': {}, 'meta': {}}, tmp_path / 'a.pth')
    options = ('--cfg-options', f'data_root={tmp_path}')
    done = run_tool('test', CONFIG, tmp_path / 'a.pth', '--metric', 'gaze', *options, code=2)
    assert done.stderr.endswith('has no GazeError; it has: pog, angle\n')


def test_a_checkpoint_of_another_plane_is_refused(synth_close, trained, tmp_path):
    # The weights fit; the millimetres would be wrong.
    args = [CONFIG, trained[0] / 'model_3.pth', '--work-dir', tmp_path]
    done = run_tool('test', *args, *_options(synth_close, 'ppm=1.5'), code=2)
    assert 'was trained with codecs.gaze.ppm=1.0, this config has codecs.gaze.ppm=1.5' in done.stderr


def test_a_broken_picture_in_a_worker_is_one_line(synth_close, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(synth_close, data)
    for picture in sorted(data.glob('images/*/*.jpg')):
        picture.write_bytes(picture.read_bytes()[:200])
    options = _options(data, 'train_dataloader.num_workers=1', 'early_stop=None')
    done = run_tool('train', CONFIG, '--work-dir', tmp_path / 'work', *options, code=2)
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(r'error: \S+index\.parquet: row \d+: the picture ', last), last
    assert 'cut short' in last
    assert 'Traceback' not in last


def test_newest_checkpoint_does_not_trust_the_pointer_file(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for name in ('model_2.pth', 'model_10.pth', 'best_pog_model_11.pth', '.model_12.pth.1.partial'):
        (tmp_path / name).touch()
    (tmp_path / 'last_checkpoint').write_text('')
    assert newest_checkpoint(tmp_path) == str(tmp_path / 'model_10.pth')


def test_a_pickle_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'evil'),)

    torch.save({'state_dict': {}, 'x': Evil()}, tmp_path / 'evil.pth')
    done = run_tool('test', CONFIG, tmp_path / 'evil.pth', code=2)
    assert 'plain tensors' in done.stderr
    assert not (tmp_path / 'evil').exists()


def test_without_data_one_message_says_what_to_do(tmp_path):
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={tmp_path}/none', 'model.backbone.pretrained=None']
    done = run_tool('train', 'configs/ctdet_gaze/resdcn18_eve_480.py', *options, code=2)
    lines = [line for line in done.stderr.splitlines() if line.startswith('error:')]
    assert len(lines) == 1
    assert 'prepare_data.py' in lines[0]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['codec.sigm=3'], 'sigma'),
        (['pog_wieght=1'], 'pog_weight'),
        (['train_dataloader.batch_sise=1'], 'batch_size'),
    ],
)
def test_typos_on_the_command_line(options, message):
    done = run_tool('train', CONFIG, '--cfg-options', *options, code=2)
    assert message in done.stderr


def test_a_typo_in_a_child_config(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = '{ROOT / CONFIG}'\nmodel = dict(hedas=dict())\n")
    assert 'heads' in run_tool('train', child, code=2).stderr


def test_amp_without_cuda_says_so(synth_close, tmp_path):
    if torch.cuda.is_available():
        return
    done = run_tool('train', CONFIG, '--amp', '--work-dir', tmp_path, *_options(synth_close), code=2)
    assert 'fp16 needs a CUDA device' in done.stderr


def test_browse_writes_pictures(synth_close, tmp_path):
    options = ['--out', tmp_path, '--count', 3, '--cfg-options', f'data_root={synth_close}']
    done = run_tool('browse_dataset', CONFIG, *options)
    assert 'cells' in done.stdout
    assert len(list(tmp_path.glob('*.jpg'))) == 3


def test_data_are_missed_before_weights_are_fetched(tmp_path):
    # This config begins with weights of ImageNet, which there is no way to get.
    offline = {'TORCH_HOME': str(tmp_path / 'none'), 'https_proxy': 'http://127.0.0.1:9'}
    options = ['--work-dir', tmp_path / 'run', '--cfg-options', f'data_root={tmp_path / "eve"}']
    done = run_tool('train', 'configs/ctdet_gaze/resdcn18_eve_480.py', *options, code=2, env=offline)
    assert done.stderr.strip().splitlines()[-1].startswith(f'error: no data at {tmp_path / "eve"}')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('cuda', [True, False])
def test_memory_is_pinned_for_a_gpu(monkeypatch, cuda):
    cfg = load_config(ROOT / CONFIG, ['+val_dataloader.pin_memory=False'])
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    _settle_loaders(cfg)
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    assert [loader.pin_memory for loader in loaders] == [cuda, False, cuda]
