"""GazeNet: a plain convolutional network for pictures of one eye."""

from torch import Tensor, nn

from evg.errors import UserError
from evg.registry import BACKBONES

# (out channels, kernel, stride, padding)
_CONVS = ((24, 9, 2, 0), (36, 7, 2, 0), (52, 5, 2, 0), (80, 5, 2, 0), (124, 3, 1, 1), (256, 3, 1, 1), (512, 3, 1, 1))


@BACKBONES.register_module()
class GazeNet(nn.Module):
    """Seven convolutions, each with dropout and ReLU, flattened (abnormalstudent/GazeEstimation, SynthesEyes.ipynb).

    With `PitchYawHead` it is the original's v1, with the head's `hidden=1024` its v2. The original's pictures are RGB
    divided by 255: mean 0 and std 1.

    It answers with one vector per picture, so it has no stride.

    Args:
        input_size: (width, height) in px; the length of the vector follows from it. The original has 120 x 80.
        dropout: after each convolution.
    """

    stride = None

    def __init__(self, input_size: tuple[int, int] = (120, 80), dropout: float = 0.1):
        super().__init__()
        self.input_size = tuple(input_size)
        width, height = input_size
        layers: list[nn.Module] = []
        channels = 3
        for out_channels, kernel, stride, padding in _CONVS:
            conv = nn.Conv2d(channels, out_channels, kernel, stride, padding)
            nn.init.kaiming_normal_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # None only with bias=False
            layers += [conv, nn.Dropout(dropout), nn.ReLU(inplace=True)]
            channels = out_channels
            width, height = ((size + 2 * padding - kernel) // stride + 1 for size in (width, height))
        if min(width, height) < 1:
            raise UserError(f'{input_size[0]} x {input_size[1]} px are too few for GazeNet: its map is empty')
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.out_channels = channels * width * height

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of `input_size` to (B, out_channels)."""
        if (images.shape[3], images.shape[2]) != self.input_size:
            raise UserError(
                f'this GazeNet is built for {self.input_size[0]} x {self.input_size[1]} px and got '
                f"{images.shape[3]} x {images.shape[2]}: set model.backbone.input_size='@input_frame.size'"
            )
        return self.layers(images)
