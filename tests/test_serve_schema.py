"""The OpenAPI description is true: schemathesis makes requests from it, good and bad, and checks every answer."""

import subprocess
import sys
from pathlib import Path

from serve_fakes import serving

from evg.serve.settings import Settings

TOKEN = 'correct-horse-battery'


def test_schemathesis_finds_nothing(tmp_path):
    # A description can say what a request looks like, not that its text is a picture or its samples can be fitted to:
    # that good requests are accepted is left to the tests that make good ones.
    options = ['--exclude-checks', 'positive_data_acceptance', '--max-examples', '10', '--seed', '1', '--no-color']
    with serving(Settings(requests_per_s=1e6, token=TOKEN)) as (host, _):
        command = [Path(sys.executable).with_name('schemathesis'), 'run', f'http://{host}/openapi.json', *options]
        done = subprocess.run(
            [*command, '-H', f'Authorization: Bearer {TOKEN}'],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert 'Tested: 12' in done.stdout
    for phase in ('Examples', 'Coverage', 'Fuzzing', 'Stateful'):
        assert f'✅ {phase}' in done.stdout
