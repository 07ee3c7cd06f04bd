"""The API reference: a page for each room of evg, with every public module of it for mkdocstrings to fill."""

from pathlib import Path


def api_pages(root: Path) -> dict[str, str]:
    """Markdown by path on the site: one page for the modules beside the rooms, then one per room."""
    package = root / 'evg'
    rooms = sorted(path.parent for path in package.glob('*/__init__.py'))
    pages = {'reference/api/evg.md': _page('evg', package, sorted(package.glob('*.py')))}
    for room in rooms:
        pages[f'reference/api/{room.name}.md'] = _page(f'evg.{room.name}', package, sorted(room.rglob('*.py')))
    return pages


def _page(title: str, package: Path, paths: list[Path]) -> str:
    lines = [f'# {title}', '']
    for path in paths:
        parts = [part for part in path.relative_to(package.parent).with_suffix('').parts if part != '__init__']
        name = '.'.join(parts)
        if any(part.startswith('_') for part in parts):
            continue
        # A package shows its own words, not again what it collects from its modules.
        options = '    options: {members: false}\n' if path.stem == '__init__' else ''
        lines.append(f'## `{name}`\n\n::: {name}\n{options}')
    return '\n'.join(lines)
