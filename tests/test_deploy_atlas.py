"""The model folder and the tool chain of Ascend, with an `atc` that writes down how it was called."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import CONFIGS, ROOT, run_tool
from settled import load

from evg.config import load_config
from evg.deploy import atlas
from evg.deploy.aipp import aipp_text
from evg.deploy.decode import check_codecs
from evg.deploy.describe import describe
from evg.deploy.folder import Options, deploy
from evg.deploy.model_file import InputSpec, ModelFile
from evg.deploy.onnx_export import Exported
from evg.engine.network import load_network
from evg.errors import UserError
from evg.geometry import InputFrame

SEED = 'configs/regression/resnet18_ethxgaze_224.py'
NANO = 'configs/regression/nano_synth_96.py'
FAKE_ATC = """#!/bin/sh
printf '%s\\n' "$@" > "$ATC_ARGUMENTS"
echo 'ATC start working now, please wait for a moment.'
mkdir kernel_meta
echo '{}' > fusion_result.json
test -f model.onnx || exit 3
case "$ATC_DOES" in
    works) cp model.onnx model.om; echo 'ATC run success, welcome to the next use.';;
    names) cp model.onnx model_linux_aarch64.om;;
    nothing) ;;
    *) echo "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
       echo "$ATC_DOES: [PID: 7] 2026-01-01-00:00:00 Something is wrong."; exit 255;;
esac
"""


@pytest.fixture
def atc(tmp_path, monkeypatch):
    """Puts an `atc` on the PATH; `atc.does('works')` says what it shall do, `atc.arguments()` what it was given."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'atc').write_text(FAKE_ATC)
    (folder / 'atc').chmod(0o755)
    monkeypatch.setenv('ATC_ARGUMENTS', str(tmp_path / 'arguments'))
    old = subprocess.os.environ['PATH']
    monkeypatch.setenv('PATH', f'{folder}:{old}')

    class Atc:
        def does(self, what):
            monkeypatch.setenv('ATC_DOES', what)

        def arguments(self):
            return (tmp_path / 'arguments').read_text().split('\n')[:-1]

        def leaves(self):
            monkeypatch.setenv('PATH', old)

    made = Atc()
    made.does('works')
    return made


@pytest.fixture(scope='module')
def nano():
    cfg = load(NANO)
    return cfg, *load_network(cfg, 'none')


def _deploy(nano, out, said=None, dry_run=False, **options):
    cfg, model, source = nano
    return deploy(cfg, model, out, Options(**options), source, (said if said is not None else []).append, dry_run)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_seeds_command_and_a_complete_folder(atc, tmp_path):
    run_tool('deploy_atlas', SEED, 'none', '--out', tmp_path / 'out')
    # atc --framework=5 --model=resnet18.onnx --output=resnet18_batch1 --input_format=NCHW
    #     --input_shape="input:1,3,224,224" --log=debug --soc_version=Ascend310, but for names and the log's level.
    assert atc.arguments() == [
        '--framework=5',
        '--model=model.onnx',
        '--output=model',
        '--input_format=NCHW',
        '--input_shape=input:1,3,224,224',
        '--log=error',
        '--soc_version=Ascend310',
    ]
    folder = tmp_path / 'out'
    assert _names(folder) == ['aipp.cfg', 'atc.log', 'atc.sh', 'model.json', 'model.om', 'model.onnx']
    assert _names(tmp_path) == ['arguments', 'bin', 'out']
    assert 'ATC run success' in (folder / 'atc.log').read_text()
    file = ModelFile.load(folder)
    assert file.path('model.onnx').name == 'model.onnx'
    assert file.path('model.om').name == 'model.om'
    facts = file.files['model.om']
    assert (facts['input_dtype'], facts['input_layout'], facts['soc_version']) == ('float32', 'NCHW', 'Ascend310')
    assert (file.task, file.gaze_frame, file.input.channel_order) == ('gaze', 'normalised_r', 'rgb')
    # ETH-XGaze's normalisation, as RT-GazeEstimation's client does it too.
    assert (file.patch.part, file.patch.normaliser.focal_px, file.patch.normaliser.distance_mm) == ('face', 960, 600)
    assert (file.opset, file.precision, file.source['checkpoint']) == (11, 'fp32', None)


@pytest.mark.parametrize(
    ('options', 'shape', 'added'),
    [
        (dict(), '1,3,96,96', []),
        (dict(precision='fp16'), '1,3,96,96', []),
        (dict(precision='fp32'), '1,3,96,96', ['--precision_mode=force_fp32']),
        (dict(batch=4), '4,3,96,96', []),
        (dict(batch=2, dynamic_batch=True), '2,3,96,96', []),
        (dict(aipp=True), '1,3,96,96', ['--insert_op_conf=aipp.cfg', '--enable_small_channel=1']),
    ],
)
def test_options_reach_atc(options, shape, added, nano, atc, tmp_path):
    file = _deploy(nano, tmp_path / 'out', soc_version='Ascend310P3', **options)
    arguments = atc.arguments()
    assert arguments[4] == f'--input_shape=input:{shape}'
    assert arguments[6:] == ['--soc_version=Ascend310P3', *added]
    assert file.input.batch == (None if options.get('dynamic_batch') else options.get('batch', 1))
    facts = file.files['model.om']
    pixels = 'aipp' in options
    assert (facts['input_dtype'], facts['input_layout']) == (('uint8', 'NHWC') if pixels else ('float32', 'NCHW'))
    # The last line of the script is the same command.
    assert (tmp_path / 'out' / 'atc.sh').read_text().splitlines()[-1] == ' '.join(['atc', *arguments])


def test_aipp_computes_the_preprocessors_formula():
    frame = InputFrame((6, 4), 0)
    spec = InputSpec((6, 4), frame, 'bgr', (0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    text = aipp_text(spec)
    assert text.startswith('aipp_op {\n    aipp_mode: static\n    input_format: RGB888_U8\n')
    assert text.isascii()
    values = dict(line.strip().split(': ') for line in text.splitlines()[1:-1])
    assert (values['src_image_size_w'], values['src_image_size_h']) == ('6', '4')
    assert {values[name] for name in ('csc_switch', 'rbuv_swap_switch', 'crop', 'padding')} == {'false'}
    # The published constants of ImageNet, here in BGR order.
    assert [float(values[f'min_chn_{i}']) for i in range(3)] == pytest.approx([103.53, 116.28, 123.675])
    for i in range(3):
        pixel = np.arange(256)
        chip = (pixel - float(values[f'min_chn_{i}'])) * float(values[f'var_reci_chn_{i}'])
        np.testing.assert_allclose(chip, (pixel / 255 - spec.mean[i]) / spec.std[i], atol=1e-7)
    with pytest.raises(UserError, match=r'2\.\.4096 x 1\.\.4096 px, not 5000 x 4'):
        aipp_text(InputSpec((5000, 4), InputFrame((5000, 4), 0), 'bgr', spec.mean, spec.std))


@pytest.mark.parametrize(
    ('does', 'message'),
    [
        ('E10001', r'atc ended with 255\. E10001: an option has a value that this CANN does not know; soc_version'),
        ('E16002', 'ATC cannot read this operator at this opset'),
        ('EZ9010', 'ATC cannot read this operator at this opset'),
        ('E16005', 'more than one opset_import'),
        ('EZ3003', 'no kernel for this operator'),
        ('E19999', 'plog'),
        ('E77777', r'atc ended with 255\. It printed: .*Something is wrong'),
        ('nothing', r'atc ended with 0 but wrote no model\.om'),
    ],
)
def test_a_failure_is_explained_and_leaves_the_log_alone(does, message, nano, atc, tmp_path):
    atc.does(does)
    with pytest.raises(UserError, match=message) as caught:
        _deploy(nano, tmp_path / 'out')
    assert _names(tmp_path) == ['arguments', 'bin', 'out.atc.log']
    log = tmp_path / 'out.atc.log'
    assert str(log) in str(caught.value)
    assert 'ATC start working now' in log.read_text()
    assert 'atc --framework=5' in str(caught.value)


def test_an_older_folder_stays_when_atc_fails(nano, atc, tmp_path):
    _deploy(nano, tmp_path / 'out')
    before = {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
    atc.does('E19999')
    with pytest.raises(UserError):
        _deploy(nano, tmp_path / 'out', batch=3)
    assert {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == before
    atc.does('works')
    _deploy(nano, tmp_path / 'out', batch=3)
    assert ModelFile.load(tmp_path / 'out').input.batch == 3
    assert _names(tmp_path) == ['arguments', 'bin', 'out', 'out.atc.log']


def test_an_om_named_by_its_platform_is_taken(nano, atc, tmp_path):
    atc.does('names')
    _deploy(nano, tmp_path / 'out')
    assert ModelFile.load(tmp_path / 'out').path('model.om').is_file()
    assert 'model_linux_aarch64.om' not in _names(tmp_path / 'out')


def test_without_atc_it_says_what_to_run_and_the_folder_goes_on_elsewhere(nano, atc, tmp_path):
    atc.leaves()
    said = []
    _deploy(nano, tmp_path / 'out', said, soc_version='Ascend310B4', aipp=True)
    folder = tmp_path / 'out'
    assert _names(folder) == ['aipp.cfg', 'atc.sh', 'model.json', 'model.onnx']
    assert 'no atc on this machine' in said[-1]
    assert 'set_env.sh' in said[-1]
    assert 'sh out/atc.sh' in said[-1]
    # On a machine without it either:
    done = subprocess.run(['sh', folder / 'atc.sh'], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'no atc on the PATH' in done.stderr
    with pytest.raises(UserError, match='no atc on the PATH'):
        atlas.convert(folder)


@pytest.mark.parametrize('by_script', [True, False])
def test_the_folder_is_converted_on_another_machine(by_script, nano, atc, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv('PATH', '/usr/bin:/bin')
        _deploy(nano, tmp_path / 'out', soc_version='Ascend310B4', aipp=True)
    folder = tmp_path / 'out'
    if by_script:
        subprocess.run(['sh', folder / 'atc.sh'], check=True, capture_output=True)
        assert atc.arguments()[-2:] == ['--insert_op_conf=aipp.cfg', '--enable_small_channel=1']
        assert 'model.om' not in ModelFile.load(folder).files
    command = [sys.executable, '-m', 'evg.deploy.atlas', str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'for Ascend310B4, takes uint8' in done.stdout
    facts = ModelFile.load(folder).files['model.om']
    assert (facts['input_dtype'], facts['input_layout'], facts['soc_version']) == ('uint8', 'NHWC', 'Ascend310B4')
    assert ModelFile.load(folder).path('model.om').is_file()


def test_conversion_needs_no_torch():
    code = 'import sys, evg.deploy.atlas; print([n for n in ("torch", "onnx", "mmengine", "cv2") if n in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_what_was_changed_is_not_converted(nano, atc, tmp_path):
    atc.leaves()
    _deploy(nano, tmp_path / 'out')
    script = tmp_path / 'out' / 'atc.sh'
    text = script.read_text()
    script.write_text(text + 'rm -rf /\n')
    with pytest.raises(UserError, match='is no atc command'):
        atlas.convert(tmp_path / 'out')
    script.write_text(text)
    network = tmp_path / 'out' / 'model.onnx'
    data = network.read_bytes()
    network.write_bytes(data[:-1] + b'x')
    with pytest.raises(UserError, match=r'model\.onnx is not the file'):
        atlas.convert(tmp_path / 'out')
    network.write_bytes(data)
    content = (tmp_path / 'out' / 'model.json').read_text()
    (tmp_path / 'out' / 'model.json').write_text(content.replace('"rgb"', '"bgr"'))
    with pytest.raises(UserError, match='was changed after it was written'):
        atlas.convert(tmp_path / 'out')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(precision='int8'), 'AMCT'),
        (dict(soc_version='310'), r"'Ascend' and the chip's Name in npu-smi info, such as Ascend310"),
        (dict(soc_version='Ascend310; rm'), 'npu-smi'),
        (dict(batch=0), 'at least 1, not 0'),
        (dict(opset=19), r'backbone\.stages\.0 .*Reshape is registered for opset 8\.\.18, not 19'),
        (dict(opset=21), '9 to 20, not 21'),
        (dict(target='onnxruntime', aipp=True), '--aipp is for the Ascend chip'),
        (dict(target='onnxruntime', dcn='ascend'), 'has no DeformableConv2D'),
        (dict(target='onnxruntime', precision='int8', opset=11), 'needs opset 13'),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message, nano, tmp_path):
    with pytest.raises(UserError, match=message):
        _deploy(nano, tmp_path / 'out', **options)
    assert _names(tmp_path) == []


def test_only_an_older_model_folder_is_replaced(nano, tmp_path):
    out = tmp_path / 'out'
    _deploy(nano, out, target='onnxruntime')
    assert _names(out) == ['model.json', 'model.onnx']
    (out / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match=r'holds notes\.txt, no part of a model folder'):
        _deploy(nano, out, target='onnxruntime')
    assert (out / 'notes.txt').read_text() == 'mine'
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(UserError, match='is a file'):
        _deploy(nano, tmp_path / 'file')


def test_a_dry_run_shows_everything_and_writes_nothing(nano, atc, tmp_path):
    said = []
    _deploy(nano, tmp_path / 'out', said, dry_run=True)
    text = '\n'.join(said)
    assert 'atc --framework=5 --model=model.onnx' in text
    assert 'min_chn_0: 123.675' in text
    assert 'Conv' in text
    assert json.loads(said[-1])['name'] == 'nano_synth_96'
    assert _names(tmp_path) == ['bin']


def test_the_same_network_gives_the_same_folder(nano, tmp_path):
    for name in 'ab':
        _deploy(nano, tmp_path / name, target='onnxruntime')
    assert (tmp_path / 'a/model.json').read_bytes() == (tmp_path / 'b/model.json').read_bytes()
    text = (tmp_path / 'a/model.json').read_text()
    assert str(tmp_path) not in text
    assert str(ROOT) not in text


def test_deformable_convolutions_by_target(tmp_path):
    """Ascend gets its own node, ONNX Runtime ONNX's, whose opset is said; what ATC does not know names its layer."""
    cfg = load('configs/ctdet_gaze/nano_synth_160.py', ['model.neck.refine=dcn'])
    network = (cfg, *load_network(cfg, 'none'))
    said = []
    assert _deploy(network, tmp_path / 'o', said, True).dcn == 'ascend'
    assert any('DeformableConv2D' in line for line in said)
    assert any('run on Ascend only' in line for line in said)
    said = []
    file = _deploy(network, tmp_path / 'o', said, True, target='onnxruntime')
    assert (file.dcn, file.opset) == ('native', 19)
    assert said[0].startswith('opset 19 instead of 11')
    said = []
    file = _deploy(network, tmp_path / 'o', said, True, dcn='lower')
    assert (file.dcn, file.opset) == ('lower', 11)
    assert said[1].startswith('3 deformable convolutions in primitives')
    layer = r'neck\.steps\.0\.conv \(neck\.steps\.0\.conv/DeformConv\)'
    with pytest.raises(UserError, match=rf'{layer}, .*: CANN registers no DeformConv; --dcn ascend'):
        _deploy(network, tmp_path / 'o', dcn='native')


def test_the_tool_ends_with_2_and_one_line_where_atc_fails(atc, tmp_path):
    atc.does('E10001')
    done = run_tool('deploy_atlas', NANO, 'none', '--out', tmp_path / 'out', code=2)
    assert done.stderr.startswith('error: atc ended with 255. E10001: ')
    assert done.stderr.count('\n') == 1
    assert _names(tmp_path) == ['arguments', 'bin', 'out.atc.log']


@pytest.mark.parametrize('path', CONFIGS)
def test_every_config_is_described(path, tmp_path):
    cfg = load_config(ROOT / path)
    file = describe(cfg, Exported(11, 'none', (('a', (1, 1)),), 1), 1, 'fp32', {'config': path})
    file.save(tmp_path)
    loaded = ModelFile.load(tmp_path)
    check_codecs(loaded.codecs, path)
    tasks = {'VPHeatmapCodec': 'plane', 'VPPointCodec': 'plane', 'LandmarkHeatmapCodec': 'landmarks'}
    assert loaded.task == tasks.get(cfg.codec['type'], 'gaze')
    frame = cfg.input_frame
    assert loaded.input.frame == InputFrame(**frame)
    assert loaded.input.channel_order == cfg.preprocessor['channel_order']
    np.testing.assert_allclose(loaded.input.mean, cfg.preprocessor['mean'])
    np.testing.assert_allclose(loaded.input.std, cfg.preprocessor['std'])
    assert list(loaded.codecs) == list(cfg.codecs)
    if loaded.task == 'plane':
        assert (loaded.virtual_plane.size_px, loaded.virtual_plane.ppm) == (tuple(cfg.vp_size_px), cfg.ppm)
        assert (loaded.plane_rule, loaded.gaze_frame, loaded.patch) == ('offset', None, None)
    else:
        assert loaded.plane_rule is None
    if loaded.task == 'gaze':
        assert loaded.gaze_frame == cfg.gaze_frame
    made = [step for step in cfg.test_pipeline if step['type'] == 'NormaliseFace']
    if made:
        normaliser = made[0]['normaliser']
        assert (loaded.patch.part, loaded.patch.normaliser.focal_px) == (made[0]['part'], normaliser['focal_px'])


def test_a_plain_sampling_and_the_calibrated_plane_are_described():
    cfg = load('configs/ctdet_gaze/nano_synth_160.py', ['plane_rule=pose', '+test_pipeline.2.antialias=False'])
    file = describe(cfg, Exported(11, 'none', (('a', (1, 1)),), 1), None, 'fp32', {})
    assert (file.plane_rule, file.input.antialias, file.input.batch) == ('ray', False, None)
    assert describe(load(NANO), Exported(11, 'none', (('a', (1, 1)),), 1), 1, 'fp32', {}).input.antialias


def test_half_precision_for_onnx_runtime_is_in_the_file(nano, tmp_path):
    file = _deploy(nano, tmp_path / 'out', target='onnxruntime', precision='fp16')
    assert file.precision == 'fp16'
    proto = onnx.load(tmp_path / 'out' / 'model.onnx')
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in proto.graph.initializer)
    # For Ascend it stays as it is: ATC rounds.
    assert _deploy(nano, tmp_path / 'atlas', precision='fp16').precision == 'fp32'
    proto = onnx.load(tmp_path / 'atlas' / 'model.onnx')
    assert not any(t.data_type == onnx.TensorProto.FLOAT16 for t in proto.graph.initializer)
