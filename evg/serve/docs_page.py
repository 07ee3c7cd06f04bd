"""The list of routes as one page, made from the OpenAPI description; it needs nothing from elsewhere."""

import base64
import hashlib
import html
import json
from typing import Any

from fastapi.responses import HTMLResponse

from evg.serve.guard import CONTENT_SECURITY

_STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { overflow-x: auto; padding: 0.5rem; border: 1px solid #8886; }
table { border-collapse: collapse; } td { padding: 0.1rem 1rem 0.1rem 0; vertical-align: top; }
"""


def docs_page(openapi: dict[str, Any]) -> HTMLResponse:
    """Every route with what it takes and answers, then the schemas.

    Args:
        openapi: the description.
    """
    parts = [f'<h1>{_text(openapi["info"]["title"])} {_text(openapi["info"]["version"])}</h1>']
    parts.append(f'<p>{_text(openapi["info"]["description"])} <a href="/openapi.json">openapi.json</a></p>')
    for path, methods in openapi['paths'].items():
        parts += [_route(method, path, route) for method, route in methods.items()]
    parts.append('<h2>Schemas</h2>')
    for name, schema in sorted(openapi['components']['schemas'].items()):
        body = _text(json.dumps(schema, indent=2))
        parts.append(
            f'<details id="{_text(name)}"><summary><code>{_text(name)}</code></summary><pre>{body}</pre></details>'
        )
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>evg: routes</title><style>{_STYLE}</style>'
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = CONTENT_SECURITY.replace("style-src 'self'", f"style-src 'sha256-{digest}'")
    return HTMLResponse(f'{page}<body>{"".join(parts)}</body></html>', headers={'Content-Security-Policy': policy})


def _route(method: str, path: str, route: dict[str, Any]) -> str:
    rows = [
        ('takes', kind, _schema(content)) for kind, content in route.get('requestBody', {}).get('content', {}).items()
    ]
    for status, answer in route['responses'].items():
        kinds = ', '.join(answer.get('content', {})) or '-'
        schemas = {_schema(content) for content in answer.get('content', {}).values()}
        rows.append((status, kinds, ', '.join(sorted(schemas - {''})) or _text(answer.get('description', ''))))
    table = ''.join(f'<tr><td>{_text(a)}</td><td>{_text(b)}</td><td>{c}</td></tr>' for a, b, c in rows)
    words = _text(route.get('description', ''))
    title = f'<code>{method.upper()} {_text(path)}</code> {_text(route.get("summary", ""))}'
    return f'<h3>{title}</h3><p>{words}</p><table>{table}</table>'


def _schema(content: dict[str, Any]) -> str:
    """The link to a schema, or ''."""
    name = content.get('schema', {}).get('$ref', '').rpartition('/')[2]
    return f'<a href="#{_text(name)}">{_text(name)}</a>' if name else ''


def _text(value: Any) -> str:
    return html.escape(str(value))
