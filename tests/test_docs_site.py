"""The site is built strictly and needs no network; its references hold every part, option and public name.

What must be there is read from the sources as text, not from the generators.
"""

import ast
import functools
import html
import importlib
import inspect
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.xdist_group('docs_site')

PAGES = sorted([*ROOT.glob('docs/**/*.md'), *ROOT.glob('configs/*/README.md'), ROOT / 'README.md'])
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))
MODULES = [p for p in sorted((ROOT / 'evg').rglob('*.py')) if not p.stem.startswith('_') or p.stem == '__init__']


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def page_text(site: Path, name: str) -> str:
    """The words of a page, without its markup."""
    source = (site / name).read_text(encoding='utf-8')
    return html.unescape(re.sub(r'<[^>]+>', '', source[source.index('<article') : source.index('</article>')]))


def test_the_pages_load_nothing_from_elsewhere(site):
    for path in site.rglob('*.html'):
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="?(https?:|//)[^>]*>', path.read_text())
        assert not loaded, path
    for path in site.rglob('*.css'):
        assert not re.search(r'url\(["\']?(?:https?:)?//', path.read_text()), path


def test_every_page_of_the_repository_is_on_the_site(site):
    for path in PAGES:
        name = path.relative_to(ROOT).as_posix()
        page = f'models/{path.parent.name}.html' if name.startswith('configs') else f'{name[5:-3]}.html'
        assert (site / ('index.html' if name == 'README.md' else page)).is_file(), name


def test_links_out_of_docs_lead_to_pages(site):
    flow = (site / 'data_flow.html').read_text()
    assert 'href="source/evg/models/estimator.html"' in flow
    assert 'class GazeEstimator' in page_text(site, 'source/evg/models/estimator.html')
    assert 'href="reference/api/geometry.html"' in (site / 'conventions.html').read_text()
    assert 'href="../new_experiment.html#overrides"' in (site / 'models/ctdet_gaze.html').read_text()


def registered() -> dict[str, tuple[ast.ClassDef | ast.FunctionDef, str]]:
    """Registered classes and functions: their source and the registry."""
    found = {}
    for path in MODULES:
        for node in tree(path).body:
            for mark in getattr(node, 'decorator_list', []):
                if re.fullmatch(r'[A-Z_]+\.register_module\(\)', ast.unparse(mark)):
                    found[node.name] = node, ast.unparse(mark).split('.')[0]
    return found


def test_every_part_is_in_the_reference_with_its_arguments(site):
    text = page_text(site, 'reference/parts.html')
    sections = dict(re.findall(r'^(\w+)¶\n(.*?)(?=^\w+¶\n|\Z)', text, re.M | re.S))
    parts = registered()
    assert len(parts) > 50
    assert not parts.keys() - sections.keys()
    for name, (node, _) in parts.items():
        init = next((n for n in getattr(node, 'body', []) if getattr(n, 'name', '') == '__init__'), node)
        if isinstance(init, ast.FunctionDef):
            arguments = [a.arg for a in [*init.args.args, *init.args.kwonlyargs] if a.arg != 'self']
            rows = re.findall(r'^(\w+)$', sections[name], re.M)
            assert not set(arguments) - set(rows), name


def test_every_argument_of_a_part_is_explained(site):
    source = (site / 'reference/parts.html').read_text()
    rows = re.findall(r'<tr>\s*<td><code>(\w+)</code></td>.*?<td>([^\n]*)</td>\s*</tr>', source, re.S)
    assert len(rows) > 150
    assert not [name for name, meaning in rows if not meaning.strip()]


def options(path: Path) -> set[str]:
    """Options that a source adds to a parser and does not hide."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split('.')[-1] in ('add', 'add_argument'):
            hidden = any(k.arg == 'help' and ast.unparse(k.value) == 'argparse.SUPPRESS' for k in node.keywords)
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and str(a.value).startswith('-')]
            found |= set() if hidden else set(names)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('add_config_arguments'):
            found.add('--cfg-options')
    return found


def documented(text: str) -> set[str]:
    """Options in the first column of the tables of a part of the page."""
    return set(re.findall(r'^(?:.*, )?(--?[a-z][\w-]*)(?: .*)?$', text, re.M))


@pytest.fixture(scope='module')
def commands(site) -> dict[str, str]:
    """The section of each tool and sub-command."""
    source = (site / 'reference/cli.html').read_text()
    # One line per name in the first column.
    cells = re.sub(
        r'<td>((?:<code>[^<]*</code>(?:, )?)+)</td>', lambda m: '\n'.join(re.findall('>([^<]+)<', m[1])), source
    )
    parts = re.split(r'<h[23] id="[^"]*">([^<]*)<', cells)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_the_options_of_a_tool_are_those_of_its_parser(commands, path):
    assert documented(commands[path.relative_to(ROOT).as_posix()]) == (
        set() if path.stem == 'prepare_data' else options(path)
    )


def test_the_options_of_each_data_set_are_those_of_its_reader(commands):
    from evg.datasets.converter import CONVERTERS  # noqa: PLC0415

    shared = options(ROOT / 'tools/prepare_data.py')
    assert {'--out', '--jobs', '--limit', '--shard', '--merge'} <= shared
    for name, place in CONVERTERS.items():
        own = options(ROOT / f'{place.split(":")[0].replace(".", "/")}.py')
        assert documented(commands[f'prepare_data.py {name}']) == shared | own, name


def test_every_option_is_explained(site):
    rows = re.findall(r'<tr>(.*?)</tr>', (site / 'reference/cli.html').read_text(), re.S)
    cells = [re.findall(r'<td>(.*?)</td>', row, re.S) for row in rows]
    body = [row for row in cells if row]
    assert len(body) > 150
    assert not [row[0] for row in body if not row[2].strip()]


def test_every_public_name_is_in_the_api_reference(site):
    """Sphinx's inventory: four lines of text, then compressed lines that begin with a name."""
    data = (site / 'objects.inv').read_bytes()
    lines = zlib.decompress(data.split(b'\n', 4)[4]).decode().splitlines()
    listed = {line.split(' ')[0] for line in lines}
    assert len(listed) > 500
    for path in MODULES:
        module = '.'.join(part for part in path.relative_to(ROOT).with_suffix('').parts if part != '__init__')
        names = [n.name for n in tree(path).body if isinstance(n, (ast.ClassDef, ast.FunctionDef))]
        assert not {f'{module}.{name}' for name in names if not name.startswith('_')} - listed


def test_the_model_zoo_is_the_index(site):
    text = page_text(site, 'models/index.html')
    models = yaml.safe_load((ROOT / 'model-index.yml').read_text(encoding='utf-8'))['Models']
    for model in models:
        row = rf'^{model["Name"].split("/")[1]}\n.*\n{model["Metadata"]["Parameters"]:,}\n'
        assert re.search(row, text, re.M), model['Name']


def code_blocks() -> list:
    """Blocks of Python in the pages that import from evg."""
    found = []
    for path in PAGES:
        for number, code in enumerate(
            re.findall(r'^```python\n(.*?)^```', path.read_text(encoding='utf-8'), re.M | re.S)
        ):
            if re.search(r'^\s*from evg', code, re.M):
                found.append(pytest.param(code, id=f'{path.relative_to(ROOT).as_posix()}-{number}'))
    return found


@pytest.mark.parametrize('code', code_blocks())
def test_the_api_in_the_pages_exists(code):
    """Names that are imported, and keywords of calls to them or to their methods on the class."""
    known = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith('evg'):
            module = importlib.import_module(node.module)
            known |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        owner, _, method = ast.unparse(node.func).partition('.')
        if owner in known and '.' not in method and not any(k.arg is None for k in node.keywords):
            called = getattr(known[owner], method) if method else known[owner]
            if inspect.isclass(called) and issubclass(called, Exception):
                continue
            inspect.signature(called).bind(*node.args, **{k.arg: k.value for k in node.keywords})


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_dotted_names_in_the_pages_exist(path):
    for name in set(re.findall(r'`(evg(?:\.\w+){2,})`', path.read_text(encoding='utf-8'))):
        parts = name.split('.')
        files = (ROOT / '/'.join(parts[:depth]) for depth in range(1, len(parts) + 1))
        depth = sum(path.is_dir() or path.with_suffix('.py').is_file() for path in files)
        found = importlib.import_module('.'.join(parts[:depth]))
        for part in parts[depth:]:
            found = getattr(found, part)
