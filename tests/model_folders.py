"""Model folders for tests, from a config and a network with seeded random weights."""

import shutil

import torch

from evg.config import load_config
from evg.deploy.describe import describe
from evg.deploy.onnx_export import export_onnx
from evg.geometry import InputFrame
from evg.registry import MODELS

NANO = 'configs/ctdet_gazeface/nano_synth_160.py'


def network(path=NANO, overrides=(), seed=0):
    """(config, network) of a config, with weights that answer differently to different pictures."""
    cfg = load_config(path, list(overrides))
    if 'pretrained' in cfg.model.backbone:
        cfg.model.backbone.pretrained = None
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    width, height = InputFrame(**cfg.input_frame).input_size
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        # The batch norms' statistics are those of these pictures, so that no layer's values vanish.
        outputs = model.train()(torch.randn(4, 3, height, width))
        for head in model.heads.values():
            last = [parameter for parameter in head.parameters() if parameter.ndim > 1][-1]
            last /= outputs[head.output].std()
    return cfg, model.eval()


def model_folder(folder, cfg, model, batch=1, om=None, half=False, **source):
    """Write a folder; `om` ('float32' or 'uint8') adds a model.om, an ONNX file that `FakeAcl` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    size = InputFrame(**cfg.input_frame).input_size
    exported = export_onnx(model, folder / 'model.onnx', size, batch=batch, half=half)
    file = describe(cfg, exported, batch, 'fp16' if half else 'fp32', source).with_file(folder / 'model.onnx')
    if om:
        shutil.copy(folder / 'model.onnx', folder / 'model.om')
        facts = {'input_dtype': om, 'input_layout': {'float32': 'NCHW', 'uint8': 'NHWC'}[om]}
        file = file.with_file(folder / 'model.om', **facts, soc_version='Ascend310')
    file.save(folder)
    return folder
