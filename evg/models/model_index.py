"""model-index.yml: every config with its counted figures, and beside it what was measured with it."""

from pathlib import Path
from typing import Any

import yaml

from evg.config import load_config
from evg.models.flops import count_config

FILE_NAME = 'model-index.yml'


def read_model_index(root: Path) -> dict[str, Any]:
    """The file of a checkout; empty where there is none."""
    path = root / FILE_NAME
    return yaml.safe_load(path.read_text(encoding='utf-8')) if path.is_file() else {}


def config_paths(root: Path) -> list[str]:
    """All configs, relative to the checkout: configs/FOLDER/NAME.py."""
    paths = sorted((root / 'configs').glob('*/*.py'))
    return [path.relative_to(root).as_posix() for path in paths if path.parent.name != '_base_']


def entry(root: Path, path: str) -> dict[str, Any]:
    """What the file says of one config, without results: parameters, MACs of one picture, its size (width, height)."""
    size, costs = count_config(load_config(root / path))
    _, folder, file = path.split('/')
    figures = {'Parameters': costs[0].params, 'MACs': costs[0].macs, 'Input Size': list(size)}
    return {'Name': f'{folder}/{Path(file).stem}', 'In Collection': folder, 'Config': path, 'Metadata': figures}


def model_index_text(root: Path) -> str:
    """The file as it should be: counted anew, results as they stand in it."""
    results = {model['Config']: model['Results'] for model in read_model_index(root).get('Models', ())}
    paths = config_paths(root)
    folders = sorted({path.split('/')[1] for path in paths})
    index = {
        'Collections': [{'Name': folder, 'README': f'configs/{folder}/README.md'} for folder in folders],
        'Models': [{**entry(root, path), 'Results': results.get(path, [])} for path in paths],
    }
    return yaml.safe_dump(index, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
