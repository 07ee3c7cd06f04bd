"""Damaged and arbitrary input: every reader answers with what it documents, or reads it; nothing else gets out."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import CONFIGS, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_folders import model_folder, network
from test_prepare_evg_json import eve, write
from test_prepare_gazehub import HEADERS, cells

from evg.config import load_config, parse_override
from evg.datasets.converter import BadUnitError, Unit
from evg.datasets.evg_json import EvgJsonConverter
from evg.datasets.gazehub import GazeHubConverter
from evg.datasets.index import INDEX_NAME, IndexFileError, read_index, write_table
from evg.deploy.model_file import ModelFile
from evg.engine.leak_guard import persons_of
from evg.engine.storage import load_checkpoint_file
from evg.errors import ConfigError, UserError

FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
# What takes the place of a piece of a file: bytes, and words that readers know.
WORDS = [
    b'',
    b'\0',
    b'-1',
    b'1e999',
    b'nan',
    b'null',
    b'[]',
    b'{}',
    b'"',
    b"'",
    b',',
    b'\n',
    b'\xff',
    b'[' * 3000,
    b'9' * 5000,
]
PIECES = st.one_of(st.sampled_from(WORDS), st.binary(max_size=6))
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES), min_size=1, max_size=4)


def edited(content: bytes, edits) -> bytes:
    """Replace some bytes at some places."""
    for place, length, piece in edits:
        start = int(place * len(content))
        content = content[:start] + piece + content[start + length :]
    return content


def outcome(allowed, function, *args):
    """Whether it succeeded; an error must be one of `allowed` and say something."""
    try:
        function(*args)
    except allowed as error:
        assert str(error)
        return False
    return True


@FUZZ
@given(edits=EDITS)
def test_index(synth_close, tmp_path, edits):
    content = edited((synth_close / INDEX_NAME).read_bytes(), edits)
    (tmp_path / INDEX_NAME).write_bytes(content)
    outcome(IndexFileError, read_index, tmp_path)


@FUZZ
@given(edits=EDITS)
def test_leak_guard(synth_close, tmp_path, edits):
    (tmp_path / INDEX_NAME).write_bytes(edited((synth_close / INDEX_NAME).read_bytes(), edits))
    outcome(IndexFileError, persons_of, {'dataset': {'data_root': str(tmp_path)}})


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(['[]', '[1, 2]'])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


def _with_metadata(table, name, value, folder):
    write_table(table.replace_schema_metadata({**table.schema.metadata, name: value}), folder / INDEX_NAME)
    outcome(IndexFileError, read_index, folder)
    outcome(IndexFileError, persons_of, {'dataset': {'data_root': str(folder)}})


@FUZZ
@given(data=st.data(), edits=EDITS)
def test_index_metadata_of_damaged_bytes(synth_close, tmp_path, data, edits):
    table = pq.read_table(synth_close / INDEX_NAME).slice(0, 2)
    name = data.draw(st.sampled_from(sorted(table.schema.metadata)))
    _with_metadata(table, name, edited(table.schema.metadata[name], edits), tmp_path)


@FUZZ
@given(data=st.data(), value=JSON)
def test_index_metadata_of_any_value(synth_close, tmp_path, data, value):
    table = pq.read_table(synth_close / INDEX_NAME).slice(0, 2)
    name = data.draw(st.sampled_from([b'evg.info', b'evg.rigs']))
    file = json.loads(table.schema.metadata[name])
    if data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(file)))
        if isinstance(file[key], dict) and file[key] and data.draw(st.booleans()):
            file[key][data.draw(st.sampled_from(sorted(file[key])))] = value
        else:
            file[key] = value
    else:
        file = value
    _with_metadata(table, name, json.dumps(file).encode(), tmp_path)


def _convert(converter, out):
    for unit in converter.units():
        converter.convert(unit, out)


@pytest.fixture(scope='module')
def evg_json(tmp_path_factory):
    root = tmp_path_factory.mktemp('evg_json')
    source, images = write(root, [eve()], ['1010010000001.jpg'])
    converter = EvgJsonConverter(
        'eve', (str(source),), (str(images),), ('train',), 'top-center', r'^\d(?P<subject>\d\d)', None, 90
    )
    return converter, Path(source), Path(source).read_bytes()


@FUZZ
@given(edits=EDITS)
def test_evg_json_of_damaged_bytes(evg_json, tmp_path, edits):
    converter, source, content = evg_json
    source.write_bytes(edited(content, edits))
    outcome((UserError, BadUnitError), _convert, converter, tmp_path)


@FUZZ
@given(name=st.sampled_from(sorted(eve())), value=JSON)
def test_evg_json_of_any_value(evg_json, tmp_path, name, value):
    converter, source, content = evg_json
    file = json.loads(content)
    file['annotations'][0][name] = value
    source.write_text(json.dumps(file))
    outcome((UserError, BadUnitError), _convert, converter, tmp_path)


@FUZZ
@given(kind=st.sampled_from(sorted(HEADERS)), edits=EDITS)
def test_gazehub(tmp_path, kind, edits):
    for folder in ('Label', 'Image'):
        (tmp_path / folder).mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / 'Image' / '1.jpg'), np.zeros((4, 4, 3), np.uint8))
    values = cells(kind, '1.jpg')
    rows = [HEADERS[kind], ' '.join(values[name] for name in HEADERS[kind].split())]
    (tmp_path / 'Label' / 'p00.label').write_bytes(edited('\n'.join(rows).encode(), edits))
    rest = ('subject', 'head') if kind == 'rtgene' else (None, None)
    converter = GazeHubConverter(str(tmp_path), kind, 'face', 'Label', 'Image', *rest)
    outcome((UserError, BadUnitError), converter.convert, Unit('p00'), tmp_path)


@FUZZ
@given(edits=EDITS)
def test_config_file(tmp_path, edits):
    text = (
        f'_base_ = {str(ROOT / CONFIGS[0])!r}\npog_weight = 0.5\ncodec = dict(sigma=2, fit="width")\nx = [1, (2, 3)]\n'
    )
    (tmp_path / 'child.py').write_bytes(edited(text.encode(), edits))
    outcome(ConfigError, load_config, tmp_path / 'child.py')


@FUZZ
@given(text=st.one_of(st.text(max_size=30), st.builds('{}={}'.format, st.text(max_size=9), st.text(max_size=20))))
def test_override(text):
    outcome(ConfigError, parse_override, text)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = model_folder(tmp_path_factory.mktemp('model') / 'nano', *network())
    assert outcome(UserError, ModelFile.load, folder)
    return folder, (folder / 'model.json').read_bytes()


@FUZZ
@given(edits=EDITS)
def test_model_json_of_damaged_bytes(model, edits):
    folder, content = model
    (folder / 'model.json').write_bytes(edited(content, edits))
    outcome(UserError, ModelFile.load, folder)


@FUZZ
@given(data=st.data(), value=JSON)
def test_model_json_of_any_value(model, data, value):
    folder, content = model
    file = json.loads(content)
    place = file
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    (folder / 'model.json').write_text(json.dumps(file))
    outcome(UserError, ModelFile.load, folder)


@pytest.fixture(scope='module', params=['zip', 'legacy'])
def checkpoint(request):
    """Bytes of a checkpoint, in torch's format and in its old one."""
    file = io.BytesIO()
    content = {'state_dict': {'w': torch.arange(6.0), 'n': torch.tensor(3)}, 'meta': {'epoch': 1, 'name': 'nano'}}
    torch.save(content, file, _use_new_zipfile_serialization=request.param == 'zip')
    return file.getvalue()


@FUZZ
@given(edits=EDITS)
def test_checkpoint_of_damaged_bytes(checkpoint, tmp_path, edits):
    (tmp_path / 'model.pth').write_bytes(edited(checkpoint, edits))
    outcome(UserError, load_checkpoint_file, str(tmp_path / 'model.pth'))


@FUZZ
@given(end=st.floats(0, 1))
def test_checkpoint_that_was_cut(checkpoint, tmp_path, end):
    (tmp_path / 'model.pth').write_bytes(checkpoint[: int(end * len(checkpoint))])
    outcome(UserError, load_checkpoint_file, str(tmp_path / 'model.pth'))


@FUZZ
@given(text=st.text(max_size=40))
def test_checkpoint_that_is_a_text(tmp_path, text):
    (tmp_path / 'model.pth').write_text(text, encoding='utf-8')
    outcome(UserError, load_checkpoint_file, str(tmp_path / 'model.pth'))


def test_the_files_that_are_damaged_are_read_when_they_are_whole(synth_close, evg_json, model, checkpoint, tmp_path):
    (tmp_path / 'model.pth').write_bytes(checkpoint)
    assert outcome(UserError, load_checkpoint_file, str(tmp_path / 'model.pth'))
    converter, source, content = evg_json
    source.write_bytes(content)
    assert outcome(UserError, _convert, converter, tmp_path)
    (model[0] / 'model.json').write_bytes(model[1])
    assert outcome(UserError, ModelFile.load, model[0])
    assert outcome(IndexFileError, read_index, synth_close)
    assert outcome(IndexFileError, persons_of, {'dataset': {'data_root': str(synth_close)}})
