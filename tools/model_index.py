"""Count all configs anew and write model-index.yml: python tools/model_index.py."""

import argparse
from pathlib import Path

from evg.errors import needs, run_tool

with needs('train'):
    from evg.files import atomic_write
    from evg.models.model_index import FILE_NAME, model_index_text

ROOT = Path(__file__).parent.parent


@run_tool
def main() -> None:
    """Count and write; results that were entered by hand stay."""
    argparse.ArgumentParser(description=f'Write {FILE_NAME} anew; the results in it stay.').parse_args()
    text = model_index_text(ROOT)
    with atomic_write(ROOT / FILE_NAME, 'w') as file:
        file.write(text)
    print(f'{FILE_NAME}: {text.count("Config:")} configs')


if __name__ == '__main__':
    main()
