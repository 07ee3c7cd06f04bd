"""What the documentation names exists: links, commands, options, configs, parts; and its examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evg.config import load_config

ROOT = Path(__file__).parent.parent
SKIPPED = {'.venv', 'data', 'work_dirs', 'node_modules', 'build'}
DOCS = sorted(p for p in ROOT.rglob('*.md') if not SKIPPED & set(p.relative_to(ROOT).parts))
TOOLS = {p.relative_to(ROOT / 'tools').with_suffix('').as_posix(): p for p in (ROOT / 'tools').rglob('*.py')}
CONFIGS = sorted(p for p in (ROOT / 'configs').glob('*/*.py') if p.parent.name != '_base_')
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text(encoding='utf-8'))
# Pictures that are made by a full run.
MADE_LATER = 'docs/images/'


def _ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _text(path: Path) -> str:
    return path.read_text(encoding='utf-8')


def _anchors(path: Path) -> set[str]:
    """Anchors of the headings of a page, by GitHub's rule."""
    headings = re.findall(r'^#+ (.+)$', re.sub(r'```.*?```', '', _text(path), flags=re.S), re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def _commands(path: Path) -> list[str]:
    """Lines, continued ones joined, that call a tool."""
    lines = re.sub(r'\\\n\s*', ' ', _text(path)).splitlines()
    return [line for line in lines if re.search(r'\btools/[\w/]+\.py', line)]


def _options(source: str) -> set[str]:
    """Options that a source text adds to a parser."""
    found = set(re.findall(r"""\badd(?:_argument)?\(\s*'(--[\w-]+)'""", source))
    return found | ({'--cfg-options'} if 'add_config_arguments(' in source else set())


def _tool_options(name: str, words: str) -> set[str]:
    known = _options(_text(TOOLS[name])) | {'--help'}
    if name == 'prepare_data':
        sources = {p.stem.replace('_', '-'): _options(_text(p)) for p in (ROOT / 'evg' / 'datasets').glob('*.py')}
        chosen = re.match(r'\s+([\w-]+)', words)
        known |= sources.get(chosen[1], set()) if chosen else set()
    return known


@pytest.mark.parametrize('path', DOCS, ids=_ids)
def test_links_lead_somewhere(path):
    for target in re.findall(r'\]\(([^)\s]+)\)', _text(path)):
        if re.match(r'[a-z]+://', target):
            continue
        name, _, anchor = target.partition('#')
        page = (path.parent / name).resolve() if name else path
        if not page.exists():
            assert page.is_relative_to(ROOT / MADE_LATER), f'{target} does not exist'
        elif anchor:
            assert anchor in _anchors(page), f'{target}: no such heading'


@pytest.mark.parametrize('path', DOCS, ids=_ids)
def test_named_files_exist(path):
    for name in re.findall(
        r'(?<![\w{}*/])(?:\.\./)*((?:tools|configs|docs|evg|tests)/[\w/.-]+\.(?:py|md))', _text(path)
    ):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize('path', DOCS, ids=_ids)
def test_options_beside_a_tool_are_the_tools(path):
    for line in _commands(path):
        # In prose a command ends with its backtick.
        for name, words in re.findall(r'tools/([\w/]+)\.py((?:(?!tools/[\w/]+\.py)[^`])*)', line):
            assert name in TOOLS, f'there is no tools/{name}.py'
            unknown = set(re.findall(r'(?<!\S)(--[\w-]+)', words)) - _tool_options(name, words)
            assert not unknown, f'tools/{name}.py has no {", ".join(sorted(unknown))}: {line.strip()}'


@pytest.mark.parametrize('name', ['README.md', 'docs/data_flow.md', 'docs/datasets.md', 'docs/new_experiment.md'])
def test_options_in_prose_are_some_tools(name):
    sources = [*TOOLS.values(), *(ROOT / 'evg' / 'datasets').glob('*.py')]
    known = {'--help'}.union(*(_options(_text(source)) for source in sources))
    prose = re.sub(r'```.*?```', '', _text(ROOT / name), flags=re.S)
    unknown = set(re.findall(r'`(--[\w-]+)', prose)) - known
    assert not unknown, f'{name} names {", ".join(sorted(unknown))}'


def _tables(path: Path) -> list[list[dict[str, str]]]:
    """The tables of a page, each a list of rows by column."""
    tables = []
    for block in re.findall(r'(?:^\|.*\|\n)+', _text(path), re.M):
        head, _, *rows = ([cell.strip() for cell in line.strip('|').split('|')] for line in block.splitlines())
        tables.append([dict(zip(head, row, strict=True)) for row in rows])
    return tables


@pytest.mark.parametrize('folder', sorted({path.parent for path in CONFIGS}), ids=_ids)
def test_the_table_of_a_folder_is_its_configs(folder):
    rows = next(table for table in _tables(folder / 'README.md') if {'config', 'parameters'} <= table[0].keys())
    listed = [re.fullmatch(r'\[`(.+)`\]\(\1\)', row['config'])[1] for row in rows]
    assert sorted(listed) == sorted(path.name for path in folder.glob('*.py'))
    counted = {model['Config']: model['Metadata'] for model in INDEX['Models']}
    for name, row in zip(listed, rows, strict=True):
        figures = counted[f'configs/{folder.name}/{name}']
        assert row['parameters'] == f'{figures["Parameters"]:,}', name
        assert row.get('GMACs', f'{figures["MACs"] / 1e9:.3f}') == f'{figures["MACs"] / 1e9:.3f}', name


def test_model_index_is_the_configs():
    """Its figures are compared in test_flops.py."""
    paths = [model['Config'] for model in INDEX['Models']]
    assert paths == [_ids(path) for path in CONFIGS], 'run python tools/model_index.py'
    for model in INDEX['Models']:
        assert f'configs/{model["Name"]}.py' == model['Config']
        assert model['In Collection'] == model['Name'].split('/')[0]
        for result in model['Results']:
            assert set(result) == {'Dataset', 'Metrics', 'Command', 'Seed', 'Machine'}
            readme = _text(ROOT / 'configs' / model['In Collection'] / 'README.md')
            row = next(
                line
                for line in readme.splitlines()
                if model['Config'].split('/')[-1] in line and result['Command'] in line
            )
            assert all(f'{value:g}' in row for value in result['Metrics'].values()), row
    folders = {path.parent for path in CONFIGS}
    assert {collection['Name'] for collection in INDEX['Collections']} == {folder.name for folder in folders}
    assert all((ROOT / collection['README']).is_file() for collection in INDEX['Collections'])


def test_the_configs_of_the_seeds_commands_load_with_their_overrides():
    rows = next(table for table in _tables(ROOT / 'configs/ctdet_gaze/README.md') if 'command' in table[0])
    assert len(rows) >= 16
    for row in rows:
        path = re.search(r'\((\S+\.py)\)', row['config'])[1]
        load_config(ROOT / 'configs/ctdet_gaze' / path, row['`--cfg-options`'].strip('`').split())


def test_readme_lists_the_parts_that_exist():
    sources = '\n'.join(_text(path) for path in (ROOT / 'evg').rglob('*.py'))
    registered = set(re.findall(r'@[A-Z_]+\.register_module\(\)\nclass (\w+)', sources))
    table = _text(ROOT / 'README.md').partition('## What is in the box')[2].partition('\n## ')[0]
    named = set(re.findall(r'`([A-Z]\w+)`', table))
    assert registered <= named, f'not in the table: {sorted(registered - named)}'
    assert named <= set(re.findall(r'^class (\w+)', sources, re.M)), 'a name that no class has'


def test_readme_stays_short():
    assert len(_text(ROOT / 'README.md').splitlines()) <= 150


@pytest.mark.parametrize('path', DOCS, ids=_ids)
def test_tables_are_whole(path):
    text = re.sub(r'```.*?```', '', _text(path), flags=re.S)
    for table in re.findall(r'(?:^\|.*\|\n)+', text, re.M):
        widths = {len(re.findall(r'(?<!\\)\|', row)) for row in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize('path', DOCS, ids=_ids)
def test_no_path_of_a_machine(path):
    assert not re.search(r'(?<![\w.])/(?:home|root|work|tmp|mnt|Users)/', _text(path))


def test_the_close_up_config_tells_how_the_quickstart_makes_its_data():
    defaults = dict(re.findall(r"'--(persons|frames)', type=int, default=(\d+)", _text(TOOLS['quickstart'])))
    comment = _text(ROOT / 'configs/_base_/datasets/synth_close.py')
    assert f'--persons {defaults["persons"]} --frames {defaults["frames"]} ' in comment


def test_the_examples_of_new_experiment_load_and_build(tmp_path):
    text = _text(ROOT / 'docs' / 'new_experiment.md')
    blocks = re.findall(r'```python\n# (\S+\.py)\n(.*?)```', text, re.S)
    assert len(blocks) == 4
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    for name, code in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code, encoding='utf-8')
    table = text.partition('Useful ones:')[2].partition('\n## ')[0]
    overrides = [word for row in re.findall(r'^\| `([^`]+)`', table, re.M) for word in row.split()]
    assert len(overrides) >= 8
    code = f"""
import torch
from evg.config import load_config
from evg.registry import MODELS, TRANSFORMS
for name in {[name for name, _ in blocks if name.startswith('my_exp')]!r}:
    cfg = load_config(name)
    model = MODELS.build(cfg.model)
    transforms = [TRANSFORMS.build(part) for part in cfg.train_pipeline]
    assert model(torch.zeros(1, 3, 96, 160))['offset'].shape == (1, 2, 24, 40)
assert type(model.heads['offset']).__name__ == 'SmoothOffsetHead'
assert any(type(part).__name__ == 'Gray' for part in transforms)
load_config('configs/ctdet_gaze/resdcn18_synth_480.py', {overrides!r})
"""
    environment = {'PYTHONPATH': str(tmp_path), 'PATH': '', 'OMP_NUM_THREADS': '1', 'HOME': str(tmp_path)}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
