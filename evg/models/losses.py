"""Losses on raw outputs, all computed in float32."""

from torch import Tensor, nn
from torch.nn import functional

from evg.registry import CODECS, LOSSES


@LOSSES.register_module()
class HeatmapFocalLoss(nn.Module):
    """CornerNet's penalty-reduced focal loss, on logits (Law and Deng, ECCV 2018, eq. 1; alpha 2, beta 4).

    Cells with target 1 are positive: -(1 - p)^2 log p; the others count -(1 - target)^4 p^2 log(1 - p). The sum over
    the batch is divided by the number of positives. Log-sigmoids keep it finite for any logit and in half precision.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Args: logits and target, both (B, C, H, W). Returns: a scalar."""
        logits, target = logits.float(), target.float()
        p = logits.sigmoid()
        positive = target.eq(1)
        loss_positive = (1 - p).square() * functional.logsigmoid(logits)
        loss_negative = (1 - target).pow(4) * p.square() * functional.logsigmoid(-logits)
        total = loss_positive.where(positive, loss_negative).sum()
        return -total / positive.sum().clamp(min=1)


@LOSSES.register_module()
class PoGLoss(nn.Module):
    """Distance between the expected and the true point of gaze, with a gradient.

    EVG decodes outside autograd, so its "pog loss" trains nothing (it is the figure `pog_vp_px` here). This one takes
    the codec's expected cell, the mean of cells plus offsets under p^power, and the smooth L1 distance to the true
    cell.

    Args:
        codec: the codec of the heatmap.
        weight: factor of the loss; 0 switches it off.
        power: exponent on the heatmap's probabilities.
        beta: cells below which the distance counts quadratically.
    """

    def __init__(self, codec, weight: float = 0.0, power: float = 2.0, beta: float = 1.0):
        super().__init__()
        self.codec = CODECS.build(codec)
        self.weight = weight
        self.power = power
        self.beta = beta

    def forward(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted loss in cells, or nothing where the weight is 0."""
        if not self.weight:
            return {}
        cell = self.codec.expected_cell(outputs, self.power)
        true_cell = self.codec.vp_to_cell(targets['target_vp_px'])
        return {'loss_pog': self.weight * functional.smooth_l1_loss(cell, true_cell, beta=self.beta)}
