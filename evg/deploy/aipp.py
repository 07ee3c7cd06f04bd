"""The configuration of AIPP, the chip's own normalisation: with it the .om takes uint8 pictures."""

from evg.deploy.model_file import InputSpec
from evg.errors import UserError

FILE = 'aipp.cfg'


def aipp_text(spec: InputSpec) -> str:
    """A static AIPP of a network's input.

    Convention: the pictures are (height, width, 3) uint8 in the network's channel order, of the network's size; channel
    0 is the first byte. AIPP computes (pixel - min_chn) * var_reci_chn in half precision, which is
    (pixel / 255 - mean) / std with min_chn = 255 mean and var_reci_chn = 1 / (255 std); the rounding moves a value by
    0.003 at most.

    Args:
        spec: of model.json.

    Raises:
        UserError: a size that AIPP does not take.
    """
    width, height = spec.size
    if not (2 <= width <= 4096 and 1 <= height <= 4096):
        raise UserError(f'AIPP takes pictures of 2..4096 x 1..4096 px, not {width} x {height}: leave --aipp out')
    lines = [
        'aipp_mode: static',
        'input_format: RGB888_U8',
        f'src_image_size_w: {width}',
        f'src_image_size_h: {height}',
        'crop: false',
        'padding: false',
        'csc_switch: false',
        'rbuv_swap_switch: false',
        *(f'min_chn_{i}: {255 * mean:.10g}' for i, mean in enumerate(spec.mean)),
        *(f'var_reci_chn_{i}: {1 / (255 * std):.10g}' for i, std in enumerate(spec.std)),
    ]
    return 'aipp_op {\n' + ''.join(f'    {line}\n' for line in lines) + '}\n'
