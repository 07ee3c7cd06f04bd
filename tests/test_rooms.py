"""The architecture: which part of evg may import which, found by reading the import statements of every file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / 'evg').rglob('*.py'))
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))

# A room may import rooms of a smaller number and itself. Rooms of one number do not know each other.
LEVELS = {
    '': 0,  # evg/__init__.py
    'errors': 1,
    'files': 2,
    'compat': 2,
    'geometry': 2,
    'registry': 2,
    '_config_rules': 3,
    'config': 4,
    'structures': 3,
    'synthetic': 3,
    'codecs': 3,
    'datasets': 5,
    'models': 5,
    'evaluation': 6,
    'visualization': 7,
    'engine': 8,
    'deploy': 8,
    'inference': 9,
    'serve': 10,
}
# What a room may import beside the standard library and evg; None is anything.
PACKAGES = {
    '': set(),
    'errors': set(),
    'files': set(),
    'geometry': {'numpy', 'cv2'},  # cv2: `warp` alone, which `evg.geometry` does not import
    'structures': {'numpy'},
    'synthetic': {'numpy', 'cv2', 'av', 'h5py'},
    'compat': set(),
    '_config_rules': set(),
    'config': {'mmengine'},
    'registry': {'mmengine'},
}


def _name(path: Path) -> str:
    """Dotted name of a module of evg."""
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def _room(module: str) -> str:
    """'evg.models.heads' is of the room 'models'."""
    return module.split('.')[1] if '.' in module else ''


def _imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    package = _name(path) if path.name == '__init__.py' else _name(path).rpartition('.')[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[: len(package.split('.')) + 1 - node.level] if node.level else []
            base = '.'.join([*above, *([node.module] if node.module else [])])
            # `from evg import errors` imports evg.errors, `from evg.errors import UserError` does not add a module.
            found |= {f'{base}.{alias.name}' for alias in node.names} if base == 'evg' else {base}
    return found


@pytest.mark.parametrize('path', MODULES, ids=_name)
def test_no_room_imports_a_higher_one(path):
    room = _room(_name(path))
    assert room in LEVELS, f'{_name(path)} is a new room: give it a level'
    for imported in _imports(path):
        if imported == 'evg' or not imported.startswith('evg.') or _room(imported) == room:
            continue
        assert LEVELS[_room(imported)] < LEVELS[room], f'{_name(path)} imports {imported}'


def test_the_reader_of_imports_sees_all_kinds(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'ROOT', tmp_path)
    path = tmp_path / 'evg' / 'models' / 'heads' / 'x.py'
    path.parent.mkdir(parents=True)
    lines = ['import evg.a', 'from evg import b', 'from evg.c import d', 'from . import e', 'from ..f import g']
    path.write_text('\n'.join([*lines, 'def h():', '    from evg.late import i']))
    assert _imports(path) == {'evg.a', 'evg.b', 'evg.c', 'evg.models.heads', 'evg.models.f', 'evg.late'}


@pytest.mark.parametrize('path', [p for p in MODULES if _room(_name(p)) in PACKAGES], ids=_name)
def test_light_rooms_stay_light(path):
    allowed = PACKAGES[_room(_name(path))] | set(sys.stdlib_module_names) | {'evg'}
    foreign = {imported.split('.')[0] for imported in _imports(path)} - allowed
    assert not foreign, f'{_name(path)} imports {", ".join(sorted(foreign))}'


@pytest.mark.parametrize(
    ('module', 'absent'),
    [
        ('evg', ('torch', 'cv2', 'numpy', 'mmengine')),
        ('evg.geometry', ('torch', 'cv2', 'mmengine')),
        ('evg.structures', ('torch', 'cv2', 'mmengine')),
        ('evg.config', ('torch', 'cv2', 'mmengine')),
        ('evg.synthetic', ('torch', 'mmengine', 'mmcv')),
        ('evg.datasets.synth', ('torch', 'mmengine', 'mmcv')),
        ('evg.datasets.eve', ('torch', 'mmengine', 'mmcv')),
    ],
)
def test_what_an_import_brings_along(module, absent):
    code = f'import sys, {module}; print([name for name in {absent!r} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ('[]', '')


def test_tools_only_parse_and_call():
    for path in TOOLS:
        text = path.read_text(encoding='utf-8')
        assert len(text.splitlines()) <= 120, path.name
        others = {imported.split('.')[0] for imported in _imports(path)} - set(sys.stdlib_module_names)
        assert others == {'evg'}, f'{path.name} imports {others}'
        assert '@run_tool' in text, path.name


@pytest.mark.parametrize('path', [*MODULES, *TOOLS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))


@pytest.mark.parametrize('path', sorted((ROOT / 'evg' / 'geometry').glob('*.py')), ids=_name)
def test_geometry_on_arrays_declares_its_convention(path):
    module = ast.parse(path.read_text(encoding='utf-8'))
    _check_conventions(module, 'Convention' in ast.get_docstring(module), path.name)


def _check_conventions(parent: ast.Module | ast.ClassDef, declared: bool, where: str) -> None:
    for node in parent.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith('_'):
            continue
        here = declared or 'Convention' in (ast.get_docstring(node) or '')
        if isinstance(node, ast.ClassDef):
            _check_conventions(node, here, f'{where}: {node.name}')
            continue
        annotations = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs)] + [node.returns]
        arrays = [ast.unparse(a) for a in annotations if a is not None and 'Array' in ast.unparse(a)]
        assert here or not arrays, f'{where}: {node.name} has no Convention'
        assert ast.get_docstring(node), f'{where}: {node.name} has no docstring'
