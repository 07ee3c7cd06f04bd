"""What a tool says where its extra of setup.py is not installed, and that nobody is sent to a stranger's package."""

import re

import pytest
from conftest import ROOT, run_tool, without

from evg.errors import needs

TOOLS = sorted((ROOT / 'tools').rglob('*.py'))
FACE, SERVE, NOTHING = {'demo', 'accuracy_test'}, {'serve'}, {'make_screen'}
ONLY_TRAIN = (
    'torch', 'torchvision', 'mmengine', 'mmcv', 'pyarrow', 'h5py', 'scipy', 'av', 'calflops', 'transformers', 'onnx',
    'onnxscript', 'tensorboard', 'matplotlib', 'tqdm', 'yaml',
)  # fmt: skip
OTHERS = ('cv2', 'mediapipe', 'fastapi', 'uvicorn', 'multipart', 'prometheus_client', 'onnxruntime')


@pytest.fixture(scope='module')
def other_extras(tmp_path_factory):
    return without(tmp_path_factory.mktemp('others'), ONLY_TRAIN)


@pytest.fixture(scope='module')
def numpy_alone(tmp_path_factory):
    return without(tmp_path_factory.mktemp('numpy'), ONLY_TRAIN + OTHERS)


def _name(path):
    return path.relative_to(ROOT / 'tools').with_suffix('').as_posix()


def _says(done, extra):
    said = (
        f"error: this tool needs the extra {extra} \\(no module \\w+\\): pip install -e '\\.\\[{extra}\\]' in the clone"
    )
    return re.match(said, done.stderr) and done.stderr.count('\n') == 1


@pytest.mark.parametrize('path', TOOLS, ids=_name)
def test_a_tool_names_the_extra_that_it_needs(path, other_extras, numpy_alone):
    name = _name(path)
    if name in FACE | SERVE | NOTHING:
        assert 'usage' in run_tool(name, '--help', env=other_extras).stdout
    else:
        assert _says(run_tool(name, '--help', env=other_extras, code=2), 'train')
    if name in FACE:
        assert _says(run_tool(name, '--help', env=numpy_alone, code=2), 'face')
    if name in SERVE:
        assert _says(run_tool(name, env=numpy_alone, code=2), 'serve')
    if name in SERVE | NOTHING:
        assert 'usage' in run_tool(name, '--help', env=numpy_alone).stdout


def test_a_missing_module_of_evg_is_no_matter_of_extras():
    with pytest.raises(ModuleNotFoundError, match='nowhere'), needs('train'):
        import evg.nowhere  # noqa: F401, PLC0415


def test_nobody_is_sent_to_the_evg_of_pypi():
    """It is a stranger's package; setup.py's own references are resolved within one installation."""
    rooms = ('benchmarks', 'configs', 'docs', 'evg', 'tests', 'tools')
    files = [*ROOT.glob('*'), *(path for room in rooms for path in (ROOT / room).rglob('*'))]
    assert len(files) > 300
    found = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.is_file() and path.suffix in {'.py', '.md', '.sh', '.toml', '.yml', '.html', '.js', ''}
        if re.search(r'install (?:-\S+ )*[\'"]?ev[g]\b', path.read_text(encoding='utf-8', errors='ignore'))
    ]
    assert found == []
