"""The machinery that all converters share, with a toy converter: resuming, counting, refusing."""

import errno
import json
from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from evg.datasets.converter import BadUnitError, Converter, Unit, UnitResult, converter_class, save_jpeg
from evg.datasets.index import INDEX_NAME, read_index
from evg.datasets.prepare import STATE_DIR, prepare
from evg.errors import UserError
from evg.geometry import Rig

RIG = Rig((16, 16), (1920, 1080), (553, 311))


@dataclass(frozen=True)
class Toy(Converter):
    """Three pictures a unit; `faults` maps a unit's number to what goes wrong with it."""

    name = 'toy'
    level: int = 100
    units_wanted: int = 4

    @classmethod
    def add_arguments(cls, parser):
        parser.add_argument('--level', type=int)

    def units(self):
        return [Unit(f'p{i}/clip', 3, i) for i in range(self.units_wanted)]

    def convert(self, unit, out):
        LOG.append(unit.data)
        fault = FAULTS.get(unit.data)
        if fault is not None:
            raise fault
        (out / 'images').mkdir(exist_ok=True)
        rows = []
        for i in range(3):
            name = f'images/{unit.data}-{i}.jpg'
            save_jpeg(out / name, np.full((16, 16, 3), self.level, np.uint8), 95)
            values = dict(sample_id=f'{unit.name}/{i}', image=name, split='train', subject=f'p{unit.data}', rig='r')
            rows.append({**values, 'gaze': [0, 0, -1], **EXTRA.get(unit.data, {})})
        checks = {'angle, deg': [0.1 * unit.data] * 3}
        return UnitResult(rows, {'r': RIG}, Counter(blinks=unit.data), notes=Counter(odd=1), checks=checks)


LOG, FAULTS, EXTRA = [], {}, {}


@pytest.fixture(autouse=True)
def fresh():
    for store in (LOG, FAULTS, EXTRA):
        store.clear()


def test_index_and_summary(tmp_path, capsys):
    summary = prepare(Toy(), tmp_path, jobs=1)
    index = read_index(tmp_path)
    assert len(index) == summary['rows'] == 12
    assert summary['splits'] == {'train': [12, 4]}
    assert summary['dropped'] == {'blinks': 6}
    assert summary['checks'] == {'angle, deg': {'median': pytest.approx(0.15), 'max': pytest.approx(0.3), 'n': 12}}
    assert index.info == json.loads(json.dumps(summary))
    assert index.columns['sample_id'][:4].tolist() == ['p0/clip/0', 'p0/clip/1', 'p0/clip/2', 'p1/clip/0']
    text = capsys.readouterr().out
    for part in ('12 rows', 'train', '4 subjects', 'dropped: 6 blinks', 'note: 4 odd', 'median 0.15, max 0.3 (12'):
        assert part in text
    picture = cv2.imread(str(tmp_path / index.columns['image'][0]))
    assert np.abs(picture.astype(int) - 100).max() <= 1


def test_finished_units_are_not_redone(tmp_path, capsys):
    prepare(Toy(), tmp_path, jobs=1)
    before = (tmp_path / INDEX_NAME).read_bytes()
    LOG.clear()
    prepare(Toy(), tmp_path, jobs=1)
    assert LOG == []
    assert '4 of 4 recordings are finished' in capsys.readouterr().out
    assert (tmp_path / INDEX_NAME).read_bytes() == before


def test_a_unit_without_its_marker_or_with_a_damaged_picture_is_redone(tmp_path):
    prepare(Toy(), tmp_path, jobs=1)
    before = (tmp_path / INDEX_NAME).read_bytes()
    LOG.clear()
    parts = tmp_path / STATE_DIR / 'parts'
    (parts / 'p0' / 'clip.json').unlink()
    (parts / 'p1' / 'clip.parquet').write_bytes(b'half')
    (tmp_path / 'images' / '2-1.jpg').write_bytes(b'half')
    (tmp_path / 'images' / '3-0.jpg').unlink()
    prepare(Toy(), tmp_path, jobs=1)
    assert LOG == [0, 1, 2, 3]
    assert (tmp_path / INDEX_NAME).read_bytes() == before


def test_other_settings_or_a_foreign_index_are_refused(tmp_path):
    prepare(Toy(), tmp_path / 'a', jobs=1)
    with pytest.raises(UserError, match=r'begun with other settings \(level: 100 then, 90 now\).*another --out'):
        prepare(Toy(level=90), tmp_path / 'a', jobs=1)
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / INDEX_NAME).write_bytes(b'')
    with pytest.raises(UserError, match='was not made here'):
        prepare(Toy(), tmp_path / 'b', jobs=1)
    assert (tmp_path / 'b' / INDEX_NAME).read_bytes() == b''


def test_bad_units_are_skipped_counted_and_tried_again(tmp_path, capsys):
    FAULTS.update({1: BadUnitError('the clip is empty'), 2: KeyError('face_R')})
    summary = prepare(Toy(), tmp_path, jobs=1)
    assert summary['failed'] == {'p1/clip': 'the clip is empty', 'p2/clip': "KeyError: 'face_R'"}
    assert summary['rows'] == 6
    captured = capsys.readouterr()
    assert 'skipped p1/clip: the clip is empty' in captured.err
    assert 'FAILED and skipped: 2 units' in captured.out
    details = (tmp_path / STATE_DIR / 'failures.txt').read_text()
    assert 'Traceback' in details and 'raise fault' in details
    FAULTS.clear()
    LOG.clear()
    assert prepare(Toy(), tmp_path, jobs=1)['rows'] == 12
    assert LOG == [1, 2]


def test_a_row_that_the_index_refuses_costs_its_unit_only(tmp_path):
    EXTRA[1] = {'gaze': [0, np.nan, 0]}
    summary = prepare(Toy(), tmp_path, jobs=1)
    assert 'row 0: gaze [0.0, nan, 0.0] is not finite' in summary['failed']['p1/clip']
    assert summary['rows'] == 9


def test_the_same_sample_id_twice_is_refused(tmp_path):
    EXTRA[0] = {'sample_id': 'same'}
    with pytest.raises(UserError, match="'same' stands 3 times"):
        prepare(Toy(), tmp_path, jobs=1)


def test_nothing_usable_is_an_error_that_says_why(tmp_path):
    FAULTS.update({i: BadUnitError('wrong signs') for i in range(20)})
    with pytest.raises(UserError, match=r'no row came out of 4 recordings .*wrong signs'):
        prepare(Toy(), tmp_path / 'a', jobs=1)
    LOG.clear()
    with pytest.raises(UserError, match=r'the first 8 recordings all failed .*wrong signs'):
        prepare(Toy(units_wanted=20), tmp_path / 'b', jobs=1)
    assert len(LOG) == 8
    assert not (tmp_path / 'a' / INDEX_NAME).exists()


@pytest.mark.parametrize(
    ('fault', 'text'),
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'the disk is full .*what is finished stays'),
        (MemoryError(), 'out of memory at p1/clip.*fewer --jobs'),
        (UserError('the licence file is missing'), 'the licence file is missing'),
    ],
)
def test_what_cannot_go_on_stops_and_resumes(tmp_path, fault, text):
    FAULTS[1] = fault
    with pytest.raises(UserError, match=text):
        prepare(Toy(), tmp_path, jobs=1)
    assert LOG == [0, 1]
    FAULTS.clear()
    LOG.clear()
    assert prepare(Toy(), tmp_path, jobs=1)['rows'] == 12
    assert LOG == [1, 2, 3]


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys):
    FAULTS[2] = KeyboardInterrupt()
    with pytest.raises(SystemExit) as stop:
        prepare(Toy(), tmp_path, jobs=1)
    assert stop.value.code == 130
    assert 'stopped: 2 of 4 recordings are finished; the same command goes on' in capsys.readouterr().err


def test_limit_spreads_over_all_units(tmp_path):
    summary = prepare(Toy(), tmp_path, jobs=1, limit=2)
    assert LOG == [0, 2]
    assert summary['rows'] == 6
    LOG.clear()
    assert prepare(Toy(), tmp_path, jobs=1, limit=9)['rows'] == 12
    assert LOG == [1, 3]


def test_an_unwritable_out_and_an_unknown_name(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot write to'):
        prepare(Toy(), tmp_path / 'file' / 'out', jobs=1)
    with pytest.raises(UserError, match="no data set 'sinth'; did you mean 'synth'"):
        converter_class('sinth')
