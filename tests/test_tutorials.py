"""The tutorials run as they are written: every block, in the order of the site's navigation, in one folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('tutorials')]

BLOCK = re.compile(r'^```(\w+)\n(.*?)^```', re.M | re.S)
FILE = re.compile(r'# ([\w/]+\.py)\n')


def _pages() -> list[str]:
    """Paths of the tutorials in docs/, from mkdocs.yml; its tags are of Python and are not needed here."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor('tag:yaml.org,2002:python/', lambda loader, suffix, node: None)
    nav = yaml.load((ROOT / 'mkdocs.yml').read_text(encoding='utf-8'), Loader)['nav']
    return next(entry['Tutorials'] for entry in nav if 'Tutorials' in entry)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A folder as the root of the repository: the tools and configs, and nothing made."""
    folder = tmp_path_factory.mktemp('tutorials')
    for name in ('tools', 'configs'):
        (folder / name).symlink_to(ROOT / name)
    return folder


def _run(command: list[str], folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    environment = {**os.environ, 'PATH': path, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f'{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}'


def test_every_tutorial_is_in_the_navigation():
    assert sorted(_pages()) == sorted(f'tutorials/{path.name}' for path in (ROOT / 'docs/tutorials').glob('*.md'))


def test_the_tutorials_run(folder):
    for page in _pages():
        for language, code in BLOCK.findall((ROOT / 'docs' / page).read_text(encoding='utf-8')):
            named = FILE.match(code)
            if language == 'bash':
                _run(['bash', '-euc', code], folder)
            elif named:
                (folder / named[1]).parent.mkdir(exist_ok=True)
                (folder / named[1]).write_text(code, encoding='utf-8')
            else:
                assert language == 'python', f'{page}: a block of {language} is not run'
                _run([sys.executable, '-c', code], folder)
    made = json.loads((folder / 'work_dirs/tutorial/figures.json').read_text())['figures']
    assert made['pog/n'] == 2 * 8  # 10 % of 24 persons
    assert (folder / 'work_dirs/wide_head_160/model_1.pth').is_file()
    assert (folder / 'work_dirs/tutorial/model/model.json').is_file()
    assert len(list((folder / 'work_dirs/desk').glob('*.jpg'))) == 4
