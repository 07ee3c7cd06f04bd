"""Large data: tar files, an index read by groups, and an order that reads neighbours together."""

import json
import subprocess
import sys
import tarfile
from collections import Counter

import cv2
import numpy as np
import pytest
from conftest import run_tool

from evg.datasets import index as index_module
from evg.datasets import pack as pack_module
from evg.datasets import samplers
from evg.datasets.index import INDEX_NAME, IndexFileError, read_index
from evg.datasets.index_stream import index_groups
from evg.datasets.pack import pack
from evg.datasets.pictures import PictureError, picture_file, read_image
from evg.datasets.samplers import BlockShuffleSampler
from evg.errors import UserError


@pytest.fixture(scope='module')
def packed(synth_close, tmp_path_factory):
    """The 96 pictures in several tar files, the index in groups of 40 rows."""
    out = tmp_path_factory.mktemp('packed') / 'data'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, 'ROW_GROUP', 40)
        patch.setattr(pack_module, 'ROW_GROUP', 40)
        count, files = pack(synth_close, out, 100_000)
    assert count == 96
    assert files == len(list(out.glob('*.tar'))) > 2
    return out


def test_packed_pictures_and_labels_are_those_of_the_files(synth_close, packed):
    loose, inside = read_index(synth_close), read_index(packed)
    for name in loose.columns:
        if name != 'image':
            np.testing.assert_array_equal(inside.columns[name], loose.columns[name], name)
    for row in range(len(loose)):
        source = synth_close / loose.columns.text('image', row)
        address = inside.columns.text('image', row)
        file, _, place = address.partition('#')
        offset, size = map(int, place.split('+'))
        assert (packed / file).read_bytes()[offset : offset + size] == source.read_bytes()
        np.testing.assert_array_equal(read_image(str(packed / address)), cv2.imread(str(source)))


def test_other_programs_find_pairs_of_one_key(synth_close, packed):
    ids = read_index(synth_close).columns['sample_id'].tolist()
    seen = []
    for path in sorted(packed.glob('*.tar')):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for picture, facts in zip(members[::2], members[1::2], strict=True):
                key, _, suffix = picture.name.partition('.')
                assert (suffix, facts.name) == ('jpg', f'{key}.json')
                assert json.load(tar.extractfile(facts)) == {'sample_id': ids[int(key)]}
                seen.append(int(key))
    assert seen == list(range(96))


def test_pack_tool_refuses_to_mix(synth_close, packed, tmp_path):
    done = run_tool('pack_data', synth_close, '--out', tmp_path / 'a')
    assert '96 pictures in 1 tar files' in done.stdout
    assert 'exists: give another folder' in run_tool('pack_data', synth_close, '--out', tmp_path / 'a', code=2).stderr
    with pytest.raises(UserError, match='is inside another file already'):
        pack(packed, tmp_path / 'b')
    # An unfinished folder is no data set.
    assert not (tmp_path / 'b' / INDEX_NAME).exists()


def test_a_cut_index_is_refused_before_anything_is_packed(synth_close, tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    (source / INDEX_NAME).write_bytes((synth_close / INDEX_NAME).read_bytes()[:-100])
    with pytest.raises(IndexFileError, match='prepare the data again'):
        pack(source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_what_an_interrupted_run_left_is_removed(synth_close, tmp_path):
    """Small tar files of a run that was killed, then a large one: who lists the folder sees no picture twice."""
    left = ['pictures-000000.tar', 'pictures-000003.tar', '.pictures-000004.tar.77.partial']
    other = ['pictures-holiday.tar', 'notes.txt']
    for name in left + other:
        (tmp_path / name).write_bytes(b'left')
    assert pack(synth_close, tmp_path) == (96, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([INDEX_NAME, 'pictures-000000.tar', *other])
    assert read_image(str(tmp_path / read_index(tmp_path).columns.text('image', 95))).shape == (96, 160, 3)


@pytest.mark.parametrize('size', ['0', '-1'])
def test_pack_tool_refuses_tar_files_of_no_size(synth_close, tmp_path, size):
    done = run_tool('pack_data', synth_close, '--out', tmp_path / 'a', f'--shard-mb={size}', code=2)
    assert f'{size} is not at least 1' in done.stderr


@pytest.mark.parametrize(
    'place',
    ['0+10', '512', 'x+y', '-1+5', '99999999+4', '1' * 40 + '+1', '512+' + '9' * 15, '512+' + '9' * 40, '512+-1'],
)
def test_a_wrong_place_in_a_tar_file_is_named(packed, place):
    address = f'{packed / "pictures-000000.tar"}#{place}'
    assert picture_file(address) == str(packed / 'pictures-000000.tar')
    with pytest.raises(PictureError, match=r'pictures-000000\.tar'):
        read_image(address)


READ_ALL = """
import resource, sys
from evg.datasets.pictures import read_image
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
for address in sys.argv[1:]:
    assert read_image(address).shape == (3, 5, 3)
"""


def test_there_may_be_more_tar_files_than_a_process_may_open(tmp_path):
    picture = cv2.imencode('.png', np.zeros((3, 5, 3), np.uint8))[1].tobytes()
    paths = [tmp_path / f'pictures-{number:06d}.tar' for number in range(200)]
    for path in paths:
        path.write_bytes(bytes(512) + picture)
    addresses = [f'{path}#512+{len(picture)}' for path in paths]
    done = subprocess.run([sys.executable, '-c', READ_ALL, *addresses], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_groups_are_the_whole_index(packed):
    whole = read_index(packed)
    groups = list(index_groups(packed))
    assert [len(group) for group in groups] == [40, 40, 16]
    np.testing.assert_array_equal(np.concatenate([group.rows for group in groups]), np.arange(96))
    for name in whole.columns:
        np.testing.assert_array_equal(np.concatenate([g.columns[name] for g in groups]), whole.columns[name], name)
    chosen = list(index_groups(packed, ['val']))
    np.testing.assert_array_equal(np.concatenate([g.rows for g in chosen]), read_index(packed, ['val']).rows)
    with pytest.raises(IndexFileError, match='no data at'):
        next(index_groups(packed / 'none'))


def _order(monkeypatch, count, rank=0, processes=1, epoch=0, **options):
    monkeypatch.setattr(samplers, 'get_dist_info', lambda: (rank, processes))
    sampler = BlockShuffleSampler(range(count), **options)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


@pytest.mark.parametrize(('block', 'buffer'), [(1, 1), (10, 1), (10, 25), (7, 1000), (1000, 30)])
def test_an_epoch_holds_every_sample_once_and_is_another_one_each_time(monkeypatch, block, buffer):
    first = _order(monkeypatch, 103, seed=3, block=block, buffer=buffer)
    assert sorted(first) == list(range(103))
    assert _order(monkeypatch, 103, seed=3, block=block, buffer=buffer) == first
    if (block, buffer) != (1000, 1):
        assert _order(monkeypatch, 103, seed=3, epoch=1, block=block, buffer=buffer) != first
        assert _order(monkeypatch, 103, seed=4, block=block, buffer=buffer) != first


def test_processes_share_one_order(monkeypatch):
    options = {'seed': 1, 'block': 10, 'buffer': 20}
    whole = _order(monkeypatch, 101, **options)
    parts = [_order(monkeypatch, 101, rank, 3, **options) for rank in range(3)]
    # 101 samples are 34 for each of three: the first sample of the order stands in for the 102nd.
    joined = [position for step in zip(*parts, strict=True) for position in step]
    assert joined == [*whole, whole[0]]
    assert Counter(joined)[whole[0]] == 2


def test_a_buffer_of_one_reads_block_after_block(monkeypatch):
    order = np.array(_order(monkeypatch, 100, seed=0, block=10, buffer=1)).reshape(10, 10)
    assert (np.diff(order, axis=1) == 1).all()
    assert sorted(order[:, 0]) == list(range(0, 100, 10))
    # No more blocks are open at a time than the buffer holds samples of.
    mixed = _order(monkeypatch, 10_000, seed=0, block=100, buffer=500)
    last_seen = {position // 100: place for place, position in enumerate(mixed)}
    first_seen = {position // 100: place for place, position in reversed(list(enumerate(mixed)))}
    lasts = [last_seen[block] - first_seen[block] for block in range(100)]
    # A sample waits 500 places on average (geometric): 100 of them hardly ever 500 * ln(100) + a few times 500.
    assert 500 < np.mean(lasts) < 500 * (np.log(100) + 3)
