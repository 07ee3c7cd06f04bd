"""load_config: inheritance, references, overrides, unknown keys, checks of types."""

import argparse
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner

from evg import registry
from evg._config_rules import _UNTYPED, RUNNER_KEYS
from evg.config import (
    ConfigError,
    Override,
    add_config_arguments,
    config_from_args,
    load_config,
    parse_override,
)


class TinyCodec:
    def __init__(self, sigma=2.0, size=(8, 8)):
        self.sigma, self.size = sigma, size


class TinyHead:
    def __init__(self, codec=None, loss_weight=1.0, parts=None):
        self.codec, self.loss_weight, self.parts = codec, loss_weight, parts


class DeepNet:
    def __init__(self, depth=18, frozen=False):
        self.depth, self.frozen = depth, frozen


class WideNet:
    def __init__(self, width=1.0, frozen=False):
        self.width, self.frozen = width, frozen


class TinyModel:
    def __init__(self, backbone=None, heads=None, codec=None):
        self.backbone, self.heads, self.codec = backbone, heads, codec


class TinyTransform:
    def __init__(self, prob=1.0, codec=None):
        self.prob, self.codec = prob, codec


class OpenTransform:
    def __init__(self, **options):
        self.options = options


PARTS = {
    'CODECS': [TinyCodec],
    'HEADS': [TinyHead],
    'BACKBONES': [DeepNet, WideNet],
    'MODELS': [TinyModel],
    'TRANSFORMS': [TinyTransform, OpenTransform],
}
BASE = """
codec = dict(type='TinyCodec', sigma=2.0)
train_pipeline = [dict(type='TinyTransform', prob=1.0), dict(type='TinyTransform', codec='@codec')]
model = dict(
    type='TinyModel',
    codec='@codec',
    backbone=dict(type='DeepNet', depth=18),
    heads=dict(heatmap=dict(type='TinyHead', codec='@codec', loss_weight=1.0)))
options = dict(note='a', table=dict(one=1))
data_root = 'data/a'
"""


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    """Our registries hold the classes above only; mmengine's stay as they are."""
    for name, value in vars(registry).items():
        if isinstance(value, registry.Registry):
            monkeypatch.setattr(value, '_module_dict', {cls.__name__: cls for cls in PARTS.get(name, ())})
            monkeypatch.setattr(value, '_locations', [loc for loc in value._locations if not loc.startswith('evg.')])
            monkeypatch.setattr(value, '_imported', False)


@pytest.fixture
def write(tmp_path):
    """Write a config file and return its path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def base(write):
    return write('base.py', BASE)


@pytest.fixture
def load(write, base):
    """Load a child of ``base``."""

    def load_child(text: str = '', overrides=None):
        return load_config(write('child.py', f"_base_ = 'base.py'\n{text}"), overrides)

    return load_child


def fails(function, *args) -> str:
    with pytest.raises(ConfigError) as error:
        function(*args)
    return str(error.value)


# --- files and inheritance


def test_child_changes_what_it_names_and_keeps_the_rest(load):
    cfg = load("model = dict(backbone=dict(depth=34))\noptions = dict(note='b')\ntrain_pipeline = []\n")
    assert cfg.model.backbone.to_dict() == {'type': 'DeepNet', 'depth': 34}
    assert cfg.options.to_dict() == {'note': 'b', 'table': {'one': 1}}
    assert cfg.train_pipeline == []
    assert cfg.data_root == 'data/a'


def test_same_result_as_mmengine(write):
    write('a.py', 'x = dict(p=1, q=dict(r=2, s=[1, dict(t=3)]))\nkeep = (1, 2)\n')
    write('b.py', "y = dict(type='DeepNet', depth=50)\n")
    path = write(
        'sub/child.py',
        "_base_ = ['../a.py', '../b.py']\nx = dict(q=dict(s=[dict(u=1)]), p=None)\n"
        "y = dict(_delete_=True, type='WideNet', width=2.0)\n",
    )
    assert load_config(path).to_dict() == Config.fromfile(path).to_dict()


def test_delete_replaces_a_dict_and_leaves_no_trace(load):
    cfg = load(
        'options = dict(_delete_=True, fresh=dict(_delete_=True, a=1))\n'
        'model = dict(heads=dict(heatmap=None))\n'
        "train_pipeline = [dict(_delete_=True, type='TinyTransform')]"
    )
    assert cfg.options.to_dict() == {'fresh': {'a': 1}}
    assert cfg.model.heads.to_dict() == {'heatmap': None}
    assert cfg.train_pipeline[0].to_dict() == {'type': 'TinyTransform'}


def test_none_can_become_a_dict(write):
    write('base.py', 'frame = None\n')
    assert load_config(write('child.py', "_base_ = 'base.py'\nframe = dict(size=(4, 3))\n")).frame.size == (4, 3)


def test_private_names_modules_and_functions_are_dropped(write):
    path = write('c.py', 'import math\nfrom math import sqrt\n_two = 2\ndef f():\n    pass\nfour = _two * 2\n')
    assert load_config(path).to_dict() == {'four': 4}


def test_two_bases_with_one_key(write, base):
    other = write('other.py', 'codec = dict(sigma=1)\n')
    path = write('child.py', "_base_ = ['base.py', 'other.py']\n")
    assert fails(load_config, path) == f"'codec' is defined by two bases of {path}: {base} and {other}"


def test_missing_file_lists_near_names(write, base, tmp_path):
    write('sub/basic.py', '')
    assert fails(load_config, tmp_path / 'bse.py') == (
        f'config file {tmp_path}/bse.py does not exist; near it: {base}, {tmp_path}/sub/basic.py'
    )
    assert fails(load_config, tmp_path / 'no' / 'x.py').endswith(
        f'x.py does not exist; neither does the folder {tmp_path}/no'
    )
    assert fails(load_config, tmp_path).endswith('does not exist; it is a folder')
    child = write('child.py', "_base_ = 'bas.py'\n")
    assert fails(load_config, child).startswith(
        f'config file {tmp_path}/bas.py (a _base_ of {child}) does not exist; near'
    )


def test_broken_files_are_named_with_the_line(write, base):
    path = write('child.py', "_base_ = 'base.py'\ncodec = dict(\n")
    assert fails(load_config, path).startswith(f'{path}:2: syntax error: ')
    path = write('child.py', 'def f():\n    return nothing\n\n\nx = f()\n')
    assert fails(load_config, path) == f"{path}:2: NameError: name 'nothing' is not defined"
    assert fails(load_config, write('c.yaml', 'a: 1')).endswith('c.yaml is not a Python file; configs are .py files')
    path = write('child.py', '_base_ = 3\n')
    assert fails(load_config, path) == f'_base_ of {path} is a file name or a list of them, not 3'


def test_cyclic_bases(write):
    a, b = write('a.py', "_base_ = 'b.py'\n"), write('b.py', "_base_ = ['a.py']\n")
    assert fails(load_config, a) == f'cyclic _base_: {a} -> {b} -> {a}'


def test_values_are_plain(write):
    path = write('c.py', 'from pathlib import Path\nx = dict(root=[Path("a")])\n')
    assert fails(load_config, path) == (
        f"'x' in {path} holds a value of type PosixPath; "
        'a config holds only None, bool, int, float, str, list, tuple and dict'
    )
    assert fails(load_config, write('c.py', "x = dict(y={'lambda': 1})")) == (
        "x.y: 'lambda' cannot be the name of a config key"
    )
    assert fails(load_config, write('c.py', 'text = 1')) == "'text' cannot be the name of a config key"


def test_custom_imports_come_before_the_checks(write, monkeypatch, tmp_path):
    write('my_parts_evg.py', 'from evg.registry import HEADS\n@HEADS.register_module()\nclass MyHead:\n    pass\n')
    monkeypatch.syspath_prepend(tmp_path)
    path = write('c.py', "custom_imports = dict(imports=['my_parts_evg'])\nhead = dict(type='MyHead')\n")
    assert load_config(path).head.type == 'MyHead'
    path = write('c.py', "custom_imports = dict(imports=['no_such_parts'])\n")
    assert fails(load_config, path) == f"custom_imports in {path}: No module named 'no_such_parts'"


# --- references


def test_an_override_reaches_every_place_by_reference(load):
    cfg = load('', ['codec.sigma=3'])
    assert cfg.train_pipeline[1].codec.sigma == cfg.model.heads.heatmap.codec.sigma == cfg.codec.sigma == 3
    assert cfg.model.codec is not cfg.codec


def test_a_child_reaches_every_place_by_reference(load):
    cfg = load('codec = dict(sigma=5.0)')
    assert cfg.model.codec.to_dict() == {'type': 'TinyCodec', 'sigma': 5.0}


def test_references_to_references_into_lists_and_through_references(write):
    cfg = load_config(
        write(
            'c.py',
            "a = dict(b='@list.1', text='user@host')\nlist = ['@a.c', '@d']\nd = (1, dict(e='@f'))\nf = 7\n"
            "a['c'] = 'c'\nthrough = '@a.b.1.e'\n"
            "codec = dict(n='@model.codec.k', k=5)\nmodel = dict(codec='@codec')\n",
        )
    )
    assert cfg.list == ['c', (1, {'e': 7})]
    assert cfg.a.b == (1, {'e': 7})
    assert cfg.a.text == 'user@host'
    assert cfg.through == 7
    assert cfg.model.codec.n == 5


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("a = '@b'\nb = ['@c']\nc = dict(d='@a')", "cyclic reference in 'a': @b -> @c -> @a -> @b"),
        ("a = dict(x='@a')", "cyclic reference in 'a': @a -> @a"),
        ("a = '@b'\nb = '@a'\nc = '@a.k'", "cyclic reference in 'a': @b -> @a -> @b"),
        ("c = '@a.k'\na = '@b'\nb = '@a'", "cyclic reference in 'c': @a.k -> @b -> @a -> @b"),
        ("codec = 1\na = ['@codc']", "'a' refers to @codc, but there is no 'codc'; did you mean 'codec'?"),
        (
            "codec = dict(sigma=1)\na = '@b'\nb = '@codec.sigm'",
            "'a' refers to @b -> @codec.sigm, but there is no 'codec.sigm'; did you mean 'sigma'?",
        ),
        ("a = [1]\nb = '@a.1'", "'b' refers to @a.1, but there is no 'a.1'"),
        ("a = '@'", "'a' refers to @, but there is no ''; known: a"),
    ],
)
def test_bad_references(write, text, message):
    assert fails(load_config, write('c.py', text)) == message


def test_no_merge_into_a_reference(load, tmp_path):
    assert fails(load, 'model = dict(codec=dict(sigma=3))') == (
        f"'model.codec' is the reference '@codec', {tmp_path}/child.py cannot change keys below it; "
        "change 'codec.sigma' instead, or replace all of 'model.codec' by a dict with _delete_=True"
    )
    assert "change 'codec.sigma' instead" in fails(load, '', ['model.codec.sigma=3'])
    cfg = load("model = dict(codec=dict(_delete_=True, type='TinyCodec', sigma=9))")
    assert (cfg.model.codec.sigma, cfg.codec.sigma) == (9, 2.0)


# --- unknown keys


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'modle = dict()',
            "unknown key 'modle' in {child}: there is no such key; did you mean 'model'? "
            "(a new name needs a reference '@modle' in the same file)",
        ),
        (
            'train_dataloadr = dict()',
            "unknown key 'train_dataloadr' in {child}: there is no such key; did you mean 'train_dataloader'? "
            "(a new name needs a reference '@train_dataloadr' in the same file)",
        ),
        (
            'model = dict(backbone=dict(dept=34))',
            "unknown key 'model.backbone.dept' in {child}: DeepNet takes no 'dept'; did you mean 'depth'?",
        ),
        (
            'model = dict(bakbone=dict(depth=34))',
            "unknown key 'model.bakbone' in {child}: TinyModel takes no 'bakbone'; did you mean 'backbone'?",
        ),
        (
            'options = dict(table=dict(on=1))',
            "unknown key 'options.table.on' in {child}: there is no such key; did you mean 'one'?",
        ),
        (
            'model = dict(heads=dict(heatmp=dict(loss_weight=2)))',
            "unknown key 'model.heads.heatmp' in {child}: there is no such key; did you mean 'heatmap'?",
        ),
        (
            'options = 1\ndata_root = dict(a=1)',
            "'data_root' is of type str and has no keys, but {child} sets keys below it; "
            'a dict with _delete_=True replaces it',
        ),
        (
            'train_pipeline = {"0": dict(prob=0.5)}',
            "'train_pipeline' is of type list and has no keys, but {child} sets keys below it; "
            'a dict with _delete_=True replaces it',
        ),
    ],
)
def test_unknown_keys_in_a_child(load, tmp_path, text, message):
    assert fails(load, text) == message.format(child=tmp_path / 'child.py')


def test_new_keys_that_a_child_may_use(load):
    cfg = load(
        'train_dataloader = dict(batch_size=4)\n'  # the Runner knows it
        "head_codec = dict(type='TinyCodec', sigma=1)\nhead = dict(type='TinyHead')\n"  # this file refers to them
        'model = dict(\n'
        '    backbone=dict(frozen=True),\n'  # the class takes it
        "    heads=dict(face=dict(type='TinyHead', codec='@head_codec'), other='@head'))\n"  # a part among parts
    )
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.model.backbone.to_dict() == {'type': 'DeepNet', 'depth': 18, 'frozen': True}
    assert cfg.model.heads.face.codec.sigma == 1
    assert cfg.model.heads.other.type == 'TinyHead'


def test_dicts_of_the_runner_without_type(write):
    write('base.py', "train_dataloader = dict(batch_size=4)\nenv_cfg = dict(dist_cfg=dict(backend='nccl'))\n")
    path = write(
        'child.py',
        "_base_ = 'base.py'\n"
        'train_dataloader = dict(pin_memory=True, num_batch_per_epoch=3)\n'
        'train_cfg = dict(by_epoch=True, max_epochs=3)\n'
        'env_cfg = dict(cudnn_benchmark=True, dist_cfg=dict(timeout=1800))\n'
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(type='norm', max_norm=1),\n"
        "    paramwise_cfg=dict(custom_keys={'backbone.layer1': dict(lr_mult=0.1)}))\n",
    )
    assert load_config(path).train_dataloader.to_dict() == {
        'batch_size': 4,
        'pin_memory': True,
        'num_batch_per_epoch': 3,
    }
    write('base.py', 'train_dataloader = dict(batch_szie=4)\n')
    assert fails(load_config, write('child.py', "_base_ = 'base.py'\n")).startswith(
        "train_dataloader: train_dataloader takes no 'batch_szie'; did you mean 'batch_size'"
    )
    write('base.py', 'train_dataloader = dict(batch_size=4)\n')
    path = write('child.py', "_base_ = 'base.py'\ntrain_dataloader = dict(num_worker=4)\n")
    assert f"unknown key 'train_dataloader.num_worker' in {path}: train_dataloader takes no 'num_worker'" in fails(
        load_config, path
    )


def test_a_change_of_type_keeps_no_arguments_behind(load, tmp_path):
    assert fails(load, "model = dict(backbone=dict(type='WideNet', width=2.0))") == (
        f"{tmp_path}/child.py changes the type of 'model.backbone' from DeepNet to WideNet, which takes no 'depth' "
        'of the base; add _delete_=True to replace the whole dict'
    )
    cfg = load("model = dict(backbone=dict(type='WideNet', width=2.0, _delete_=True))")
    assert cfg.model.backbone.to_dict() == {'type': 'WideNet', 'width': 2.0}
    # all that remains of the base is accepted
    cfg = load("train_pipeline = '@one'\none = dict(type='OpenTransform', anything=1)")
    assert cfg.train_pipeline.anything == 1


# --- types


def test_every_typed_dict_is_checked(write, load, tmp_path):
    path = write('c.py', "a = [dict(b=dict(type='TinyHead', los_weight=1))]\n")
    assert fails(load_config, path) == "a.0.b: TinyHead takes no 'los_weight'; did you mean 'loss_weight'?"
    path = write('c.py', "a = dict(type='TinyHed')\n")
    assert fails(load_config, path).startswith("a: unknown type 'TinyHed'; did you mean 'TinyHead'")
    assert fails(load, 'head = dict(type="TinyHead", x=1)\nmodel = dict(heads="@head")').startswith(
        "head: TinyHead takes no 'x'"
    )
    path = write('c.py', "name = 'TinyHead'\nhead = dict(type='@name', x=1)\n")
    assert fails(load_config, path).startswith("head: TinyHead takes no 'x'")


def test_mmengine_types_pass(write):
    cfg = load_config(
        write(
            'c.py',
            "default_scope = 'evg'\n"
            "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)\n"
            "val_cfg = dict(type='ValLoop', fp16=True)\n"
            "optim_wrapper = dict(type='OptimWrapper', constructor='DefaultOptimWrapperConstructor',\n"
            "    optimizer=dict(type='Adam', lr=1e-3), paramwise_cfg=dict(norm_decay_mult=0.0),\n"
            "    clip_grad=dict(type='value', clip_value=1.0))\n"
            "param_scheduler = [dict(type='MultiStepLR', milestones=[1], convert_to_iter_based=True)]\n"
            "train_dataloader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True),\n"
            "    collate_fn=dict(type='pseudo_collate'), dataset=dict(type='ConcatDataset', datasets=[]))\n"
            "default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='auto'))\n"
            "custom_hooks = [dict(type='EMAHook', priority='LOW'), dict(type='IterTimerHook', priority=1),\n"
            "    dict(type='ProfilerHook', on_trace_ready=dict(type='tb_trace'))]\n"
            "visualizer = dict(type='Visualizer', name='v', vis_backends=[\n"
            "    dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])\n"
            "log_processor = dict(type='mmengine.LogProcessor', window_size=10)\n"
            "backbone = dict(type='DeepNet', _scope_='evg')\n"
            "init_cfg = [dict(type='Kaiming', layer='Conv2d'), dict(type='Pretrained', checkpoint='x.pth')]\n",
        )
    )
    assert cfg.custom_hooks[0].priority == 'LOW'
    path = write('c.py', "param_scheduler = dict(type='MultiStepLR', milestones=[1], gama=0.1)\n")
    assert fails(load_config, path) == "param_scheduler: MultiStepLR takes no 'gama'; did you mean 'gamma'?"
    path = write('c.py', "custom_hooks = [dict(type='IterTimerHook', priorty=1)]\n")
    assert fails(load_config, path) == "custom_hooks.0: IterTimerHook takes no 'priorty'; did you mean 'priority'?"


def test_runner_keys_are_those_of_the_installed_mmengine():
    source = inspect.getsource(Runner)
    arguments = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    assert arguments | set(re.findall(r"self\.cfg\.get\('(\w+)'", source)) | {'custom_imports'} == RUNNER_KEYS
    env = set(re.findall(r"env_cfg\.get\('(\w+)'", source))
    assert set(_UNTYPED['env_cfg'][1]) == env


# --- overrides


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3', 3),
        ('1e-3', 1e-3),
        ('(1,2)', (1, 2)),
        ('[1, "a"]', [1, 'a']),
        ("{'type': 'X'}", {'type': 'X'}),
        ('true', True),
        ('False', False),
        ('none', None),
        ('data/a-b.x', 'data/a-b.x'),
        ("'3'", '3'),
        ('a=b', 'a=b'),
        ('', ''),
        ('2024/01', '2024/01'),
        ('__import__("os")', '__import__("os")'),
    ],
)
def test_parse_override(text, value):
    assert parse_override(f'a.b={text}') == Override(('a', 'b'), value, add=False)
    assert type(parse_override(f'+a={text}').value) is type(value)
    assert parse_override(f'+a={text}').add


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.b', "the override 'a.b' is not of the form key=value"),
        ('a..b=1', "the override 'a..b' has an empty name between its dots"),
        ('=1', "the override '' has an empty name between its dots"),
        (
            'a=[x,y]',
            "the value in 'a=[x,y]' is not a Python literal; quote the strings in it, as in key=['a','b']",
        ),
        (
            'a={1}',
            "the override 'a' holds a value of type set; "
            'a config holds only None, bool, int, float, str, list, tuple and dict',
        ),
    ],
)
def test_bad_overrides(text, message):
    assert fails(parse_override, text) == message


def test_overrides(load):
    cfg = load(
        'codec = dict(size=(4, 4))',
        [
            'model.backbone.depth=50',
            'train_pipeline.0.prob=0.5',
            'codec.size.1=6',
            'work_dir=w',
            'data_root=1',
            'data_root=x',
        ],
    )
    assert cfg.model.backbone.depth == 50
    assert [step.get('prob') for step in cfg.train_pipeline] == [0.5, None]
    assert cfg.codec.size == (4, 6)
    assert (cfg.work_dir, cfg.data_root) == ('w', 'x')


def test_overrides_as_a_dict(load):
    cfg = load('', {'model.backbone': {'depth': 50}, '+options.new': '7', 'codec': {'sigma': 3}, 'codec.size': (1, 2)})
    assert cfg.model.backbone.to_dict() == {'type': 'DeepNet', 'depth': 50}
    assert cfg.options.new == '7'
    assert cfg.model.codec.to_dict() == {'type': 'TinyCodec', 'sigma': 3, 'size': (1, 2)}
    assert fails(load, '', 'codec.sigma=3') == "overrides are a list of texts or a dict, not the text 'codec.sigma=3'"


def test_plus_adds_a_key(load):
    cfg = load('', ['+options.deep.er=1', '+extra=2'])
    assert cfg.options.deep.er == 1
    assert cfg.extra == 2
    assert (
        fails(load, '', ['+model.backbone.dept=1']) == "model.backbone: DeepNet takes no 'dept'; did you mean 'depth'?"
    )
    assert fails(load, '', ['+_x=1']) == "'_x' cannot be the name of a config key"


def test_the_order_of_overrides_does_not_matter(load):
    new = "model.backbone={'_delete_': True, 'type': 'WideNet'}"
    for overrides in ([new, 'model.backbone.width=3'], ['model.backbone.width=3', new]):
        assert load('', overrides).model.backbone.to_dict() == {'type': 'WideNet', 'width': 3}


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        (
            'modle.backbone.depth=3',
            "unknown key 'modle' in --cfg-options: there is no such key; did you mean 'model'? "
            "('+modle=' adds it on purpose)",
        ),
        (
            'codec.sigm=3',
            "unknown key 'codec.sigm' in --cfg-options: TinyCodec takes no 'sigm'; did you mean 'sigma'?",
        ),
        (
            'options.nte=3',
            "unknown key 'options.nte' in --cfg-options: there is no such key; did you mean 'note'? "
            "('+options.nte=' adds it on purpose)",
        ),
        (
            'train_pipeline.0.prb=3',
            "unknown key 'train_pipeline.0.prb' in --cfg-options: TinyTransform takes no 'prb'; did you mean 'prob'?",
        ),
        (
            'train_pipeline.2.prob=3',
            "'train_pipeline' is a list with indices 0 to 1, there is no train_pipeline.2",
        ),
        (
            'train_pipeline.prob=3',
            "'train_pipeline' is a list with indices 0 to 1, there is no train_pipeline.prob",
        ),
        (
            'codec.sigma.x=3',
            "'codec.sigma' is of type float and has no keys, but --cfg-options sets keys below it; "
            'a dict with _delete_=True replaces it',
        ),
        (
            'model.backbone.type=WideNet',
            "--cfg-options changes the type of 'model.backbone' from DeepNet to WideNet, which takes no 'depth' "
            'of the base; add _delete_=True to replace the whole dict',
        ),
    ],
)
def test_unknown_keys_in_overrides(load, override, message):
    assert fails(load, '', [override]) == message


def test_contradicting_overrides(load):
    assert fails(load, '', ['codec.sigma=3', 'codec=none']) == (
        "the overrides give 'codec' both a value and keys below it"
    )


def test_arguments_of_tools(base):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    args = parser.parse_args([str(base), '--cfg-options', 'codec.sigma=3', 'data_root=d'])
    cfg = config_from_args(args)
    assert (cfg.model.codec.sigma, cfg.data_root) == (3, 'd')
    assert config_from_args(parser.parse_args([str(base)])).codec.sigma == 2.0


# --- the result


def test_dump_and_reload_give_the_same_config(load, tmp_path):
    cfg = load(
        "options = dict(_delete_=True, one=(1,), none=(), deep=[(1, [dict(a=(2, 'x'))])], inf=float('inf'),\n"
        "    quote='it\\'s \"x\"', keys={'a.b': 1, 3: [dict({'c-d': None})]}, tiny=1e-12)\n",
        ['codec.sigma=3'],
    )
    cfg.dump(tmp_path / 'dumped.py')
    again = load_config(tmp_path / 'dumped.py')
    assert again.to_dict() == cfg.to_dict()
    assert '@' not in (tmp_path / 'dumped.py').read_text()
    again.dump(tmp_path / 'again.py')
    assert (tmp_path / 'again.py').read_text() == (tmp_path / 'dumped.py').read_text()


def test_the_result_is_an_ordinary_config(load, tmp_path):
    cfg = load()
    assert type(cfg) is Config
    assert cfg.filename == str(tmp_path / 'child.py')


def test_the_runner_builds_and_trains_from_it(write, tmp_path, capfd):
    @registry.DATASETS.register_module()
    class FourNumbers(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {'inputs': torch.tensor([float(index)])}

    @registry.MODELS.register_module()
    class Line(BaseModel):
        def __init__(self, slope):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(float(slope)))

        def forward(self, inputs, mode):
            return {'loss': ((2.0 - self.slope) * torch.stack(inputs)).mean()}

    path = write(
        'c.py',
        "default_scope = 'evg'\nmodel = dict(type='Line', slope=1.0)\n"
        "train_dataloader = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False),\n"
        "    dataset=dict(type='FourNumbers'))\n"
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"
        "param_scheduler = dict(type='MultiStepLR', milestones=[1])\n"
        'train_cfg = dict(by_epoch=True, max_epochs=1)\n'
        "visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])\n"
        "log_processor = dict(type='LogProcessor')\n",
    )
    runner = Runner.from_cfg(load_config(path, {'work_dir': str(tmp_path / 'work')}))
    runner.train()
    assert runner.model.slope.item() == pytest.approx(1.0 + 0.1 * (0.5 + 2.5))
    assert 'Failed to' not in ''.join(capfd.readouterr())


def test_importing_the_module_is_light():
    code = (
        'import sys, evg.config\nheavy = {"torch", "cv2", "numpy", "mmengine"} & set(sys.modules)\n'
        'sys.exit(f"imported {heavy}" if heavy else 0)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
