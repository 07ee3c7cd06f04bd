"""The model zoo: model-index.yml as tables, one for each folder of configs."""

from pathlib import Path

import yaml


def zoo_page(root: Path) -> str:
    """Markdown of the page."""
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    lines = [
        '# Model zoo',
        '',
        'Every config with its size and cost, counted by `tools/analyze_flops.py` for one picture, and what was',
        'measured here. This page is made from `model-index.yml`, which `python tools/model_index.py` writes.',
        'What the configs are and what others have published is on the page of each family.',
    ]
    for collection in index['Collections']:
        models = [model for model in index['Models'] if model['In Collection'] == collection['Name']]
        lines += ['', f'## {collection["Name"]}', '', f'[About these configs](../../{collection["README"]}).', '']
        lines += ['| config | input | parameters | GMACs |', '|---|---|---:|---:|', *map(_row, models)]
        lines += [line for model in models for result in model['Results'] for line in _result(model, result)]
    return '\n'.join(lines) + '\n'


def _row(model: dict) -> str:
    facts = model['Metadata']
    size = ' x '.join(str(side) for side in facts['Input Size'])
    link = f'[`{model["Name"].split("/")[-1]}`](../../{model["Config"]})'
    return f'| {link} | {size} | {facts["Parameters"]:,} | {facts["MACs"] / 1e9:.3f} |'


def _result(model: dict, result: dict) -> list[str]:
    figures = ', '.join(f'{name} {value:g}' for name, value in result['Metrics'].items())
    where = f'`{result["Command"]}`, seed {result["Seed"]}, {result["Machine"]}'
    return ['', f'Measured: `{model["Name"]}` on {result["Dataset"]}: {figures} ({where}).']
