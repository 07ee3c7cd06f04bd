"""A checkpoint of evg as a model that predicts: its config stands in it. Needs the extra `train`."""

import ast
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray

from evg.deploy.describe import describe
from evg.deploy.onnx_export import Exported
from evg.deploy.runtime import GazeModel
from evg.engine.network import load_network
from evg.engine.storage import load_checkpoint_file
from evg.errors import UserError
from evg.models import GazeEstimator


def load_checkpoint(path: str, device: str = 'cpu') -> GazeModel:
    """The network of a checkpoint, with the interface of a model folder.

    Args:
        path: a file that tools/train.py wrote.
        device: of torch, 'cpu', 'cuda', 'cuda:1', ...

    Raises:
        UserError: not such a file, parts that are not evg's own, or no such device.
    """
    meta = load_checkpoint_file(path).get('meta', {})
    text = meta.get('cfg')
    if not isinstance(text, str):
        raise UserError(f'{path} holds no config: export it with tools/deploy_atlas.py, and use the folder')
    values = parse_config(text, path)
    # The name of the config: mmengine adds the time of the start.
    name = re.sub(r'_\d{8}_\d{6}$', '', str(meta.get('experiment_name') or 'checkpoint'))
    cfg = Config(values, cfg_text=text, filename=f'{name}.py')
    model, source = load_network(cfg, path)
    file = describe(cfg, Exported(opset=11, dcn='none', outputs=(), nodes=0), None, 'fp32', source)
    return GazeModel(file, TorchSession(model, device), 'torch')


class TorchSession:
    """A network run by torch, as `evg.deploy.runtime.Session`.

    Args:
        model: the network.
        device: where it runs.
    """

    batch: int | None = None
    takes_pixels = False

    def __init__(self, model: GazeEstimator, device: str):
        try:
            self._device = torch.device(device)
            self._model = model.eval().to(self._device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f'cannot run on the device {device!r}: {reason}') from error
        self.providers = [f'torch {self._device}']

    @torch.inference_mode()
    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Raw outputs by name of prepared pictures (B, 3, H, W) float32."""
        outputs = self._model(torch.from_numpy(np.ascontiguousarray(inputs)).to(self._device), mode='tensor')
        return {name: value.float().cpu().numpy() for name, value in outputs.items()}

    def close(self) -> None:
        """Nothing is held."""


def parse_config(text: str, where: str) -> dict[str, Any]:
    """The values of a config as a checkpoint holds it: assignments of plain values. Nothing is executed.

    Args:
        text: `Config.pretty_text`.
        where: begins the message.

    Raises:
        UserError: anything else than plain values.
    """
    try:
        lines = ast.parse(text).body
        return {_name(line): _value(line.value) for line in lines}  # type: ignore[attr-defined]  # _name checks it
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f'{where}: its config is not one of plain values ({error})') from None


def _name(line: ast.stmt) -> str:
    if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
        return line.targets[0].id
    raise ValueError(f'line {line.lineno} is no assignment')


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError(f'line {node.lineno} unpacks')
        return {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(value) for key, value in pairs if key is not None}
    sequences: dict[type, Callable] = {ast.List: list, ast.Tuple: tuple, ast.Set: set}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return sequences[type(node)](_value(element) for element in node.elts)
    return ast.literal_eval(node)
