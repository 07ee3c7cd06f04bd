"""What MkDocs does beside rendering docs/: adds the generated pages, and leads links out of docs/ to pages of the site.

The pages in docs/ link to other files of the repository by relative paths, which work on GitHub. On the site a README
or CONTRIBUTING.md is a page of its own, a source file is a page that shows it, and a package is its page of the API.
"""

import functools
import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from gen_api import api_pages
from gen_cli import cli_page
from gen_parts import parts_page
from gen_zoo import zoo_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))')
FENCE = re.compile(r'^```.*?^```', re.M | re.S)
# A bar in a table's code: GitHub wants it escaped, Python-Markdown would show the backslash.
CODE = re.compile(r'`[^`\n]*`')
HIDDEN = '---\nsearch: {exclude: true}\n---\n'


@functools.cache
def generated() -> dict[str, str]:
    """Text of every page that is made from the code, by its path on the site."""
    return {
        'models/index.md': zoo_page(ROOT),
        'reference/parts.md': parts_page(ROOT),
        'reference/cli.md': cli_page(ROOT),
        **api_pages(ROOT),
    }


@functools.cache
def outside() -> dict[str, str]:
    """Pages of the repository outside docs/: path in the repository to path on the site."""
    folders = sorted((ROOT / 'configs').glob('*/README.md'))
    readmes = {path.relative_to(ROOT).as_posix(): f'models/{path.parent.name}.md' for path in folders}
    return {'CONTRIBUTING.md': 'contributing.md', **readmes}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated sections to the navigation."""
    folders = [page for page in outside().values() if page.startswith('models/')]
    api = [page for page in generated() if page.startswith('reference/api/')]
    nav = config.nav or []
    nav[-1:-1] = [
        {'Models': [{'Model zoo': 'models/index.md'}, *folders]},
        {'Reference': ['reference/parts.md', 'reference/cli.md', {'API': api}]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, those outside docs/, and one for each source file that some page links to."""
    texts = {f'docs/{page.src_uri}': _read(f'docs/{page.src_uri}') for page in files.documentation_pages()}
    texts |= {f'docs/{page}': text for page, text in generated().items()}
    texts |= {path: _read(path) for path in outside()}
    pages = {page: texts[f'docs/{page}'] for page in generated()}
    pages |= {page: texts[path] for path, page in outside().items()}
    linked = {path for origin, text in texts.items() for path in _linked(text, origin)}
    for path in sorted(linked):
        pages[_source_page(path)] = f'{HIDDEN}# {path}\n\n```python\n{_read(path)}```\n'
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the page's links."""
    here = page.file.src_uri
    origin = next((path for path, target in outside().items() if target == here), f'docs/{here}')

    def moved(match: re.Match[str]) -> str:
        place = _place(_resolve(match[1], origin))
        anchor = match[2] or ''
        return match[0] if place is None else os.path.relpath(place, posixpath.dirname(here) or '.') + anchor

    def changed(text: str) -> str:
        return CODE.sub(lambda match: match[0].replace('\\|', '|'), LINK.sub(moved, text))

    return _outside_fences(markdown, changed)


def _place(path: str) -> str | None:
    """Where a file of the repository is on the site; None where it is not."""
    if path in ('README.md', 'docs'):
        return 'index.md'
    if path.endswith('.py'):
        return _source_page(path)
    if path.startswith('docs/'):
        return path.removeprefix('docs/')
    if path.startswith('evg/') and (ROOT / path).is_dir():
        return f'reference/api/{path.split("/")[1]}.md'
    return outside().get(path)


def _linked(text: str, origin: str) -> set[str]:
    """Source files that a page links to."""
    paths = {_resolve(match[1], origin) for match in LINK.finditer(FENCE.sub('', text))}
    return {path for path in paths if path.endswith('.py') and (ROOT / path).is_file()}


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    """A page with what is not a code block changed."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return ''.join([*parts, change(text[end:])])


def _resolve(target: str, origin: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def _source_page(path: str) -> str:
    return f'source/{path.removesuffix(".py")}.md'


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding='utf-8')
