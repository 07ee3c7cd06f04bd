"""Registries, errors and the check of the mmengine distribution."""

import importlib
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import DefaultScope

from evg import registry
from evg.compat import require_mmengine
from evg.engine.config_text import remember_formatted_configs, yapf_api
from evg.errors import ConfigError, UserError, did_you_mean, run_tool, user_errors
from evg.registry import Registry, accepted_arguments, find_types


@pytest.fixture
def heads() -> Registry:
    """A registry of its own with two heads."""
    heads = Registry('head')

    @heads.register_module()
    class HeatmapHead:
        def __init__(self, in_channels, loss_weight=1.0):
            self.in_channels, self.loss_weight = in_channels, loss_weight

    @heads.register_module()
    class OffsetHead:
        def __init__(self, **options):
            self.options = options

    return heads


def test_build(heads):
    head = heads.build({'type': 'HeatmapHead', 'loss_weight': 2.0}, {'in_channels': 64, 'loss_weight': 9.0})
    assert (head.in_channels, head.loss_weight) == (64, 2.0)
    assert heads.build({'type': type(head), 'in_channels': 3}).in_channels == 3
    assert heads.build({'type': 'OffsetHead', 'anything': 1}).options == {'anything': 1}


def test_build_leaves_the_dict_alone(heads):
    cfg = {'type': 'HeatmapHead', 'in_channels': 64}
    heads.build(cfg)
    assert cfg == {'type': 'HeatmapHead', 'in_channels': 64}


def test_a_built_object_passes_through(heads):
    built = object()
    assert heads.build(built) is built


@pytest.mark.parametrize('value', [None, 'HeatmapHead', 3, ['HeatmapHead']])
def test_plain_data_is_not_a_built_object(heads, value):
    with pytest.raises(ConfigError, match="a head is a dict with 'type' or a built object, not"):
        heads.build(value)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        ({'type': 'HeatmapHed'}, "unknown head 'HeatmapHed'; did you mean 'HeatmapHead'?"),
        ({'type': 'heatmaphead'}, "unknown head 'heatmaphead'; did you mean 'HeatmapHead'?"),
        ({'type': 'Xyz'}, "unknown head 'Xyz'; known: HeatmapHead, OffsetHead"),
        ({'type': ''}, "unknown head ''; known: HeatmapHead, OffsetHead"),
        ({'type': 'no.such.thing'}, "unknown head 'no.such.thing'; known: HeatmapHead, OffsetHead"),
        ({'type': 'json'}, "unknown head 'json'; known: HeatmapHead, OffsetHead"),
        (
            {'type': 'HeatmapHead', 'in_channels': 1, 'los_weight': 2.0},
            "HeatmapHead takes no 'los_weight'; did you mean 'loss_weight'?",
        ),
        ({'type': 'HeatmapHead'}, "HeatmapHead needs 'in_channels'"),
        ({'in_channels': 1}, "the dict of a head needs a 'type', got the keys ['in_channels']"),
    ],
)
def test_build_errors(heads, cfg, message):
    with pytest.raises(ConfigError) as error:
        heads.build(cfg)
    assert str(error.value) == message
    assert isinstance(error.value, (UserError, ValueError))


def test_duplicate_registration_is_an_error(heads):
    with pytest.raises(KeyError, match='OffsetHead is already registered in head'):
        heads.register_module(name='OffsetHead', module=dict)


def test_modules_are_imported_at_the_first_look_up(tmp_path, monkeypatch):
    (tmp_path / 'lazy_parts.py').write_text(
        'from tests_lazy_registry import PARTS\n@PARTS.register_module()\nclass Part:\n    pass\n'
    )
    parts = Registry('part', locations=['lazy_parts'])
    holder = type(sys)('tests_lazy_registry')
    holder.PARTS = parts
    monkeypatch.setitem(sys.modules, 'tests_lazy_registry', holder)
    monkeypatch.syspath_prepend(tmp_path)
    assert 'lazy_parts' not in sys.modules
    assert type(parts.build({'type': 'Part'})).__name__ == 'Part'
    monkeypatch.delitem(sys.modules, 'lazy_parts')


def test_an_import_error_inside_a_location_surfaces(tmp_path, monkeypatch):
    (tmp_path / 'broken_parts.py').write_text('import no_such_dependency\n')
    monkeypatch.syspath_prepend(tmp_path)
    parts = Registry('part', locations=['broken_parts'])
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match='no_such_dependency'):
            parts.build({'type': 'Part'})


def test_the_runner_finds_our_children_and_falls_back_to_mmengine(monkeypatch):
    monkeypatch.setattr(registry.HOOKS, '_module_dict', {})
    monkeypatch.setattr(registry.HOOKS, '_locations', ['mmengine.hooks'])
    monkeypatch.setattr(registry.HOOKS, '_imported', False)

    @registry.HOOKS.register_module()
    class OurHook:
        pass

    with DefaultScope.overwrite_default_scope('evg'):
        assert isinstance(MMENGINE_HOOKS.build({'type': 'OurHook'}), OurHook)
        assert type(MMENGINE_HOOKS.build({'type': 'IterTimerHook'})).__name__ == 'IterTimerHook'
    # without a Runner, and whatever scope another library has left behind
    assert isinstance(registry.HOOKS.build({'type': 'OurHook'}), OurHook)
    with DefaultScope.overwrite_default_scope('mmengine'):
        assert isinstance(registry.HOOKS.build({'type': 'OurHook'}), OurHook)


def test_collate_functions_are_in_the_root_registry():
    # Runner.build_dataloader asks this registry without a scope
    assert registry.FUNCTIONS is MMENGINE_FUNCTIONS


@pytest.mark.parametrize(
    'name',
    [
        'EpochBasedTrainLoop',
        'Adam',
        'MultiStepLR',
        'DefaultSampler',
        'CheckpointHook',
        'LocalVisBackend',
        'OptimWrapper',
        'TensorboardVisBackend',
        'pseudo_collate',
        'LoadImageFromFile',
        'Visualizer',
        'LogProcessor',
        'EMAHook',
        'Pretrained',
        'mmengine.Adam',
        'torch.optim.AdamW',
        'torch.utils.data.DataLoader',
    ],
)
def test_find_types_knows_mmengine_torch_and_full_paths(name):
    assert find_types(name)


def test_find_types_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown type 'MultiStepLr1'; did you mean 'MultiStepLR'"):
        find_types('MultiStepLr1')


def test_accepted_arguments():
    def function(a, /, b, *, c=1):
        return a, b, c

    class Base:
        def __init__(self, x, y=1):
            self.x, self.y = x, y

    class HandsOn(Base):
        def __init__(self, z, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.z = z

    class TakesAnything(Base):
        def __init__(self, **options):
            super().__init__(0)
            self.options = options

    assert accepted_arguments(function) == {'b', 'c'}
    assert accepted_arguments(lambda *a, **more: a) is None
    assert accepted_arguments(type('Empty', (), {})) == frozenset()
    assert accepted_arguments(type('NoInit', (torch.nn.Module,), {})) == frozenset()
    assert accepted_arguments(HandsOn) == {'x', 'y', 'z'}
    assert accepted_arguments(TakesAnything) is None
    assert accepted_arguments(type('Mapping', (dict,), {'__init__': lambda self, *a, **more: None})) is None
    assert accepted_arguments(dict) is None


def test_import_is_light():
    code = (
        'import sys, evg.registry\nheavy = {"torch", "cv2", "evg.models", "evg.datasets"} & set(sys.modules)\n'
        'sys.exit(f"imported {heavy}" if heavy else 0)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_did_you_mean():
    assert did_you_mean('sigm', ['sigma', 'stride']) == "; did you mean 'sigma'?"
    assert did_you_mean('x', ['sigma', 'stride']) == '; known: sigma, stride'
    assert did_you_mean('x', [f'name{i}' for i in range(30)]) == ''
    assert did_you_mean('x', []) == ''


def test_user_errors_are_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stop, user_errors():
        raise ConfigError('no such key;\n   did you mean another?')
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: no such key; did you mean another?\n'


def test_run_tool(capsys):
    @run_tool
    def main(number: int) -> int:
        if number < 0:
            raise KeyboardInterrupt
        return number + 1

    assert main(1) == 2
    with pytest.raises(SystemExit) as stop:
        main(-1)
    assert stop.value.code == 130
    assert capsys.readouterr().err == 'interrupted\n'


def test_a_programming_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), user_errors():
        1 / 0  # noqa: B018


@pytest.mark.parametrize(
    ('installed', 'fix'),
    [
        (['mmengine', 'torch'], 'pip uninstall -y mmengine && pip install "onedl-mmengine>=0.10.12"'),
        (
            ['mmengine', 'onedl-mmengine'],
            'pip uninstall -y mmengine && pip install --force-reinstall --no-deps "onedl-mmengine>=0.10.12"',
        ),
        ([], 'pip install "onedl-mmengine>=0.10.12"'),
    ],
)
def test_wrong_mmengine(installed, fix):
    with pytest.raises(UserError) as error:
        require_mmengine(installed)
    assert str(error.value).endswith(f': {fix}')
    assert '\n' not in str(error.value)


def test_right_mmengine():
    require_mmengine(['onedl-mmengine'])
    require_mmengine()


def test_a_config_is_formatted_once_and_the_same():
    importlib.reload(yapf_api)  # another test of this process may have begun to remember
    cfg = Config(dict(model=dict(type='Any', depth=18), names=['a', 'b']))
    plain = cfg.pretty_text
    remember_formatted_configs()
    remember_formatted_configs()
    before = yapf_api.FormatCode.cache_info()
    assert cfg.pretty_text == cfg.pretty_text == plain
    after = yapf_api.FormatCode.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)
    cfg.model.depth = 34
    assert '34' in cfg.pretty_text


@pytest.mark.parametrize('module', ['evg.engine.launch', 'evg.engine.convert'])
def test_a_half_written_grammar_of_yapf_stops_nothing(module, tmp_path):
    env = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}
    subprocess.run([sys.executable, '-c', 'import yapf'], env=env, check=True, capture_output=True)
    grammars = list(tmp_path.rglob('*.pickle'))
    assert grammars
    for path in grammars:
        path.write_bytes(path.read_bytes()[:100])
    code = f'import {module}; from mmengine.config import Config; print(Config(dict(depth=18)).pretty_text)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, 'depth = 18\n\n'), done.stderr
