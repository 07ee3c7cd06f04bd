"""The page's files."""

from pathlib import Path

from fastapi.responses import FileResponse, Response

from evg.serve.refusal import Refusal

PAGE = Path(__file__).parent / 'page'
# By name, not by what the system's tables say: a script of a wrong type is not run.
TYPES = {
    '.css': 'text/css; charset=utf-8',
    '.html': 'text/html; charset=utf-8',
    '.ico': 'image/x-icon',
    '.js': 'text/javascript; charset=utf-8',
    '.json': 'application/json',
    '.png': 'image/png',
    '.svg': 'image/svg+xml',
}


def page_file(name: str) -> Response:
    """One of the page's files; the browser asks each time whether it is still the same.

    Raises:
        Refusal: 404.
    """
    known = {path.name: path for path in PAGE.iterdir() if path.suffix in TYPES}
    if name not in known:
        raise Refusal(404, 'there is no such file')
    return FileResponse(known[name], media_type=TYPES[known[name].suffix], headers={'Cache-Control': 'no-cache'})
