"""A conversion divided over machines gives the index of one machine, and an incomplete one gives none."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from conftest import run_tool

from evg.datasets.converter import Unit
from evg.datasets.prepare import prepare
from evg.datasets.shards import Shard, check_shards
from evg.datasets.synth import SynthConverter
from evg.errors import UserError

OPTIONS = ['--persons', 5, '--frames', 2, '--geometry', 'close', '--size', 64, 48, '--jobs', 1]


@pytest.fixture(scope='module')
def shares(tmp_path_factory):
    """Two machines' folders, put together as rsync would."""
    out = tmp_path_factory.mktemp('shares')
    for number in (1, 2):
        run_tool('prepare_data', 'synth', '--out', out / str(number), *OPTIONS, '--shard', f'{number}/2')
        shutil.copytree(out / str(number), out / 'both', dirs_exist_ok=True)
    return out / 'both'


def test_shares_give_the_index_of_one_run(shares, tmp_path):
    run_tool('prepare_data', 'synth', '--out', tmp_path / 'whole', *OPTIONS)
    shutil.copytree(shares, tmp_path / 'both')
    assert not (shares / 'index.parquet').exists()
    done = run_tool('prepare_data', 'synth', '--out', tmp_path / 'both', *OPTIONS, '--merge', 2)
    assert '10 rows in the index' in done.stdout
    whole, both = (pq.read_table(tmp_path / name / 'index.parquet') for name in ('whole', 'both'))
    assert both.equals(whole)
    for name in whole['image'].to_pylist():
        assert (tmp_path / 'both' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def _settings(shares):
    return json.loads((shares / '.prepare' / 'settings.json').read_text())


def _record(folder, name):
    path = folder / '.prepare' / 'shards' / name
    return path, json.loads(path.read_text())


def _lose(folder):
    _record(folder, '2_of_2.json')[0].unlink()


def _other_division(folder):
    path, _ = _record(folder, '2_of_2.json')
    path.rename(path.with_name('2_of_3.json'))


def _overlap(folder):
    first = _record(folder, '1_of_2.json')[1]
    path, second = _record(folder, '2_of_2.json')
    path.write_text(json.dumps({**second, 'units': [*second['units'], first['units'][0]]}))


def _gap(folder):
    path, second = _record(folder, '2_of_2.json')
    path.write_text(json.dumps({**second, 'units': second['units'][1:]}))


def _other_source(folder):
    path, second = _record(folder, '2_of_2.json')
    path.write_text(json.dumps({**second, 'all': '0'}))


def _cut(folder):
    path, _ = _record(folder, '2_of_2.json')
    path.write_bytes(path.read_bytes()[:20])


def _no_pictures(folder):
    next((folder / 'images').rglob('*.jpg')).unlink()


@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        (_lose, r'1 of 2 shares are not in .*: 2; convert them with --shard I/2'),
        (_other_division, r'holds 2_of_3\.json, no share of 2'),
        (_overlap, r'is in 1_of_2\.json and in 2_of_2\.json: the shares overlap'),
        (_gap, r'1 of \d recordings are in no share'),
        (_other_source, r'2_of_2\.json was made from another list'),
        (_cut, r'2_of_2\.json is damaged'),
        (_no_pictures, r'files of 1 .* are missing'),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_what_is_not_one_whole_makes_no_index(shares, tmp_path, fault, message):
    folder = tmp_path / 'both'
    shutil.copytree(shares, folder)
    fault(folder)
    stored = _settings(shares)
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k not in ('converter', 'version')}
    with pytest.raises(UserError, match=message):
        prepare(SynthConverter(**fields), folder, merge=2)
    assert not (folder / 'index.parquet').exists()


def test_other_settings_are_refused(shares):
    units = [Unit('x')]
    with pytest.raises(UserError, match=r'1_of_2\.json was converted with other settings'):
        check_shards(2, units, {'quality': 1}, shares)


@pytest.mark.parametrize('text', ['0/2', '3/2', '1', '1/0', 'a/b', '-1/2'])
def test_a_wrong_share_says_how(text):
    with pytest.raises(UserError, match='1/8 to 8/8 on eight machines'):
        Shard.parse(text)


def test_shares_are_even_and_whole():
    units = [Unit(str(number)) for number in range(10)]
    parts = [Shard(number, 4).of(units) for number in range(1, 5)]
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    assert sorted(unit.name for part in parts for unit in part) == sorted(unit.name for unit in units)
