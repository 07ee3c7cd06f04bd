"""From model.onnx to model.om: the command line of Huawei's ATC, what it prints, and its result in model.json.

`python -m evg.deploy.atlas FOLDER` does it for a folder that was exported on another machine; it needs numpy, no torch.
"""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from evg.deploy.aipp import FILE as AIPP
from evg.deploy.model_file import ModelFile
from evg.errors import UserError, run_tool
from evg.files import atomic_write

ONNX, OM, SCRIPT, LOG = 'model.onnx', 'model.om', 'atc.sh', 'atc.log'
SOC_VERSIONS = ('Ascend310', 'Ascend310P3', 'Ascend310B1', 'Ascend310B4', 'Ascend910A', 'Ascend910B')
SET_ENV = '. /usr/local/Ascend/ascend-toolkit/set_env.sh'
_PRECISION_MODES = {'fp16': [], 'fp32': ['--precision_mode=force_fp32']}  # ATC's own default is force_fp16
_UNREADABLE = 'ATC cannot read this operator at this opset: export with --opset 11, and see the table of operators'
_NOT_INSTALLED = 'the operator library is not found: source set_env.sh, check ASCEND_OPP_PATH, reinstall the toolkit'
_NO_KERNEL = 'the chip has no kernel for this operator, type and shape: choose a network with plain deconvolutions'
_ADVICE = {
    'E10001': 'an option has a value that this CANN does not know; soc_version must be a chip of this toolkit '
    "('Ascend' and the Name of npu-smi info)",
    'E10002': 'the input shape does not fit the graph',
    'E10003': 'an option has a value that is not allowed',
    'E10016': 'a name is not found in the graph: do not edit model.onnx, export it again',
    'E10501': _NOT_INSTALLED,
    'E13003': _NO_KERNEL,
    'E13010': _NOT_INSTALLED,
    'E16001': f'{ONNX} is broken: copy the whole folder again',
    'E16002': _UNREADABLE,
    'E16004': f'{ONNX} is broken: copy the whole folder again',
    'E16005': 'the graph has more than one opset_import: export it again',
    'E19010': _UNREADABLE,
    'E19999': 'an inner error: read $HOME/ascend/log/debug/plog; on a small board try TE_PARALLEL_COMPILER=1',
    'EZ3002': _NO_KERNEL,
    'EZ3003': _NO_KERNEL,
    'EZ9010': _UNREADABLE,
}


def check_soc_version(soc_version: str) -> None:
    """Raise a UserError where the text cannot be the name of a chip; which ones a toolkit has, only ATC knows."""
    if not re.fullmatch(r'Ascend\d{3}\w*', soc_version):
        raise UserError(
            f"--soc-version is 'Ascend' and the chip's Name in npu-smi info, such as {', '.join(SOC_VERSIONS)}, not "
            f'{soc_version!r}'
        )


def atc_command(
    file: ModelFile, soc_version: str, precision: str = 'fp16', aipp: bool = False, batch: int = 1
) -> list[str]:
    """The command that converts a folder's network, to be run in it.

    Args:
        file: of the folder.
        soc_version: the chip, such as 'Ascend310'.
        precision: 'fp16' (ATC's default) or 'fp32' (matrix products in half precision, their sums and the rest in
            single).
        aipp: normalise on the chip; the .om then takes uint8.
        batch: pictures a run; a network of a fixed batch has its own.
    """
    check_soc_version(soc_version)
    width, height = file.input.size
    return [
        'atc',
        '--framework=5',
        f'--model={ONNX}',
        f'--output={Path(OM).stem}',
        '--input_format=NCHW',
        f'--input_shape={file.input.name}:{file.input.batch or batch},3,{height},{width}',
        '--log=error',
        f'--soc_version={soc_version}',
        *_PRECISION_MODES[precision],
        *([f'--insert_op_conf={AIPP}', '--enable_small_channel=1'] if aipp else []),
    ]


def write_script(folder: Path, command: list[str]) -> None:
    """The command as a shell script; its last line is what `convert` runs."""
    lines = [
        '#!/bin/sh',
        f'# Converts {ONNX} to {OM}. Run it on a machine with CANN whose version is that of the board or older, after',
        f'#   {SET_ENV}',
        f'# and then, where evg is installed, so that model.json lists {OM}:',
        '#   python3 -m evg.deploy.atlas FOLDER',
        'set -e',
        'cd "$(dirname "$0")"',
        f'command -v atc >/dev/null || {{ echo "error: no atc on the PATH; first: {SET_ENV}" >&2; exit 2; }}',
        shlex.join(command),
    ]
    with atomic_write(folder / SCRIPT, 'w') as file:
        file.write('\n'.join(lines) + '\n')


def find_atc() -> str | None:
    """The program, or None where it is not on the PATH."""
    return shutil.which('atc')


def run_atc(folder: Path, command: list[str], failed_log: Path) -> None:
    """Convert a folder's model.onnx; model.om and atc.log appear in it, nothing else.

    Args:
        folder: with model.onnx and what else the command names.
        command: of `atc_command`.
        failed_log: where ATC's output goes if it fails.

    Raises:
        UserError: ATC failed or wrote nothing; the message has its exit code, the end of its output and advice.
    """
    program = find_atc()
    if program is None:
        raise UserError(f'no atc on the PATH: install CANN and source its environment, {SET_ENV}')
    # ATC leaves reports and caches in the working directory.
    with TemporaryDirectory(prefix='.atc.', dir=folder) as scratch:
        work = Path(scratch)
        for name in (ONNX, AIPP):
            if (folder / name).is_file():
                shutil.copy(folder / name, work)
        done = subprocess.run(
            [program, *command[1:]], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        output = done.stdout.decode('utf-8', 'replace')
        # Some versions add the operating system and the processor to the name.
        made = sorted(work.glob(f'{Path(OM).stem}*.om'))
        if done.returncode or not made:
            with atomic_write(failed_log, 'w') as log:
                log.write(output)
            raise UserError(_failure(done.returncode, output, command, failed_log))
        with atomic_write(folder / LOG, 'w') as log:
            log.write(output)
        made[0].replace(folder / OM)


def record_om(folder: Path, file: ModelFile, command: list[str]) -> ModelFile:
    """`file` with the entry of model.om, as `command` made it."""
    options = dict(option[2:].split('=', 1) for option in command[1:])
    pixels = 'insert_op_conf' in options
    return file.with_file(
        folder / OM,
        input_dtype='uint8' if pixels else 'float32',
        input_layout='NHWC' if pixels else 'NCHW',
        soc_version=options['soc_version'],
    )


def convert(folder: str | Path) -> ModelFile:
    """Convert a folder that was exported on another machine, or take the model.om that its atc.sh made.

    Raises:
        UserError: no such folder, no atc, or ATC failed.
    """
    folder = Path(folder)
    file = ModelFile.load(folder)
    file.path(ONNX)  # its hash is checked
    command = _read_script(folder / SCRIPT)
    if not (folder / OM).is_file():
        run_atc(folder, command, folder / 'atc_failed.log')
    file = record_om(folder, file, command)
    file.save(folder)
    return file


def _read_script(path: Path) -> list[str]:
    try:
        command = shlex.split(path.read_text(encoding='utf-8').rstrip().rpartition('\n')[2])
    except (OSError, ValueError) as error:
        raise UserError(f'cannot read {path} ({error}): export the model again with tools/deploy_atlas.py') from error
    if command[:1] != ['atc'] or not all(re.fullmatch(r'--\w+=\S+', option) for option in command[1:]):
        raise UserError(f'the last line of {path} is no atc command: export the model again')
    return command


def _failure(code: int, output: str, command: list[str], log: Path) -> str:
    found = dict.fromkeys(re.findall(r'\bE[A-Z]?\d{4,5}\b', output))
    advice = [f'{name}: {_ADVICE[name]}' for name in found if name in _ADVICE]
    tail = ' | '.join(line.strip() for line in output.splitlines()[-8:] if line.strip())
    what = f'atc ended with {code}' if code else f'atc ended with 0 but wrote no {OM}'
    hint = f' {"; ".join(advice)}.' if advice else ''
    return f'{what}.{hint} It printed: {tail or "nothing"}. All of it: {log}. The command: {shlex.join(command)}'


@run_tool
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=f'Make {OM} in an exported folder and list it in model.json.')
    parser.add_argument('folder', help='a folder that tools/deploy_atlas.py wrote')
    folder = Path(parser.parse_args().folder)
    facts = convert(folder).files[OM]
    print(f'{folder / OM}: {facts["bytes"]} bytes for {facts["soc_version"]}, takes {facts["input_dtype"]}')


if __name__ == '__main__':
    main()
