"""The report page: whole, self-contained, and with the right numbers in its tables."""

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from evg.evaluation.html_report import html_report

REPORT = {
    'metric': 'pog', 'title': 'Point of gaze', 'unit': 'mm', 'n': 1200, 'n_missing': 0, 'n_subjects': 2,
    'overall': [{'quantity': 'distance', 'unit': 'mm', 'mean': 12.345, 'median': 10.0, 'p95': 30.0, 'n': 1200}],
    'subject_mean': 13.0, 'subject_ci95': 2.5, 'constant_mean': 100.0, 'constant_ratio': 0.12345,
    'constant_answer': 'the training mean',
    'subjects': [
        {'subject': 'p<1>', 'n': 700, 'n_missing': 0, 'mean': 10.0, 'sd': 1.0},
        {'subject': 'p2', 'n': 500, 'n_missing': 500, 'mean': None, 'sd': None},
    ],
    'groups': [{
        'title': 'device', 'unit': 'mm', 'notes': ['a note & more'],
        'rows': [
            {'group': 'phone', 'mean': 20.0, 'median': 1.0, 'p95': 2.0, 'n': 900},
            {'group': 'tablet', 'mean': 5.0, 'median': 1.0, 'p95': 2.0, 'n': 300},
        ],
    }],
    'notes': ['VP px = mm x 3.3'],
}  # fmt: skip
ROWS = {
    'error_mm': np.linspace(0, 30, 1200),
    'constant_error_mm': np.linspace(0, 200, 1200),
    'gt_screen_px': np.random.default_rng(0).uniform(0, 1000, (1200, 2)),
}
SOUND = {'choice': 'epoch 20, not chosen by a figure', 'leaks': [], 'allow_leak': False}
VOID = {'meta', 'img', 'source', 'br', 'hr', 'link'}


class Page(HTMLParser):
    """Checks that tags close in order; collects pictures, tables and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.pictures, self.tables, self.words, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name in ('src', 'srcset', 'href'):
            if name in attributes:
                self.pictures.append(attributes[name])
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('td', 'th'):
            self.tables[-1][-1].append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] in ('td', 'th'):
            self.tables[-1][-1][-1] += data


def page(provenance=SOUND, screen=(1000, 1000), sheets=()):
    text = html_report('resdcn18', {'config': 'a & b.py'}, [(REPORT, ROWS)], provenance, screen, sheets)
    return text, Page(text)


def test_nothing_is_fetched_and_every_picture_decodes():
    sheet = np.full((40, 60, 3), 90, np.uint8)
    text, parsed = page(sheets=[('val/1', sheet)])
    assert not {'script', 'link', 'iframe'} & set(parsed.tags)
    assert not re.search(r'https?://|url\(|@import', text)
    # Curve and map, each light and dark, and a sheet.
    assert len(parsed.pictures) == 5
    pictures = []
    for address in parsed.pictures:
        head, _, data = address.partition(',')
        assert head in ('data:image/png;base64', 'data:image/jpeg;base64')
        pictures.append(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR))
    assert [picture.shape for picture in pictures] == [(460, 760, 3)] * 4 + [(40, 60, 3)]
    dark, light = (picture.mean() for picture in pictures[:2])
    assert dark < 100
    assert light > 200
    assert text.count('(prefers-color-scheme: dark)') == 3


def test_numbers_stand_in_the_tables():
    _, parsed = page()
    overall, device, persons = parsed.tables
    assert overall[1] == ['distance, mm', '12.35', '10.00', '30.00', '1,200']
    assert [row[:5] for row in device[1:]] == [
        ['phone', '20.00', '1.00', '2.00', '900'],
        ['tablet', '5.00', '1.00', '2.00', '300'],
    ]
    assert [row[:4] for row in persons[1:]] == [['p<1>', '10.00', '1.00', '700'], ['p2', '-', '-', '500']]
    words = ' '.join(parsed.words)
    for part in ('resdcn18', '1,200 samples of 2 persons', 'a & b.py', 'not chosen by a figure', 'a note & more',
                 '95 % CI ± 2.50', 'VP px = mm x 3.3'):  # fmt: skip
        assert part in words, part
    assert 'allow_leak' not in words


def test_one_person_has_no_interval():
    for missing in (None, float('nan')):
        text = html_report('r', {}, [({**REPORT, 'subject_ci95': missing}, ROWS)], SOUND, None, ())
        assert 'mean over persons, one person: no interval' in text


def test_bars_are_as_long_as_the_means():
    text, _ = page()
    assert re.findall(r'width:([\d.]+)%', text.partition('By device')[2])[:2] == ['100.0', '25.0']


@pytest.mark.parametrize(('leaks', 'words'), [(['trained on a'], 'trained on a'), ([], 'no leak was found')])
def test_allow_leak_stands_at_the_top(leaks, words):
    text, parsed = page({**SOUND, 'allow_leak': True, 'leaks': leaks})
    assert 'class="leak"' in text
    assert f'allow_leak=True: {words}' in parsed.words


def test_without_one_screen_there_is_no_map():
    _, parsed = page(screen=None)
    assert len(parsed.pictures) == 2
