"""What happens to a batch on the device: float, channel order, normalisation, memory format."""

import torch
from mmengine.model import BaseDataPreprocessor

from evg.registry import MODELS

MEMORY_FORMATS = {'channels_last': torch.channels_last, 'contiguous': torch.contiguous_format}


@MODELS.register_module()
class GazePreprocessor(BaseDataPreprocessor):
    """uint8 pictures (BGR, as OpenCV reads them) to normalised float tensors.

    Convention: x = (picture / 255 - mean) / std, after the channels were put into `channel_order`; mean and std are
    listed in that order too. A checkpoint carries them in its config.

    Args:
        mean: three values in 0..1.
        std: three values in 0..1.
        channel_order: 'rgb' or 'bgr', what the network gets.
        memory_format: 'channels_last' (10 times faster for depthwise networks on a CPU) or 'contiguous'.
        non_blocking: copy to the device without waiting.
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
        channel_order: str = 'rgb',
        memory_format: str = 'channels_last',
        non_blocking: bool = True,
    ):
        super().__init__(non_blocking=non_blocking)
        if channel_order not in ('rgb', 'bgr'):
            raise ValueError(f"channel_order must be 'rgb' or 'bgr', not {channel_order!r}")
        if memory_format not in MEMORY_FORMATS:
            raise ValueError(f'memory_format must be one of {", ".join(MEMORY_FORMATS)}, not {memory_format!r}')
        self.channel_order = channel_order
        self.memory_format = memory_format
        std_tensor = torch.tensor(std).view(3, 1, 1)
        self.register_buffer('scale', 1 / (255 * std_tensor), persistent=False)
        self.register_buffer('shift', -torch.tensor(mean).view(3, 1, 1) / std_tensor, persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: what `collate_gaze` returns: inputs (B, 3, H, W) uint8 BGR, targets, data_samples.
            training: not used.

        Returns:
            The same on the device, inputs as normalised float32; data_samples are left as they are.
        """
        data = self.cast_data(data)
        images = data['inputs']
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f'inputs must be (B, 3, H, W), not {tuple(images.shape)}')
        if self.channel_order == 'rgb':
            images = images.flip(1)
        normalised = images.to(torch.float32, memory_format=MEMORY_FORMATS[self.memory_format])
        # In place: memory for each step would cost more than the arithmetic.
        return {**data, 'inputs': normalised.mul_(self.scale).add_(self.shift)}
