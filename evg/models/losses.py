"""Losses on raw outputs, all computed in float32."""

from torch import Tensor, nn
from torch.nn import functional

from evg.codecs.pitch_yaw import angle_between, pitchyaw_to_gaze
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
class HeatmapCrossEntropyLoss(nn.Module):
    """Cross entropy between the softmax over all cells and the target heatmap as a distribution.

    For codecs with `activation='softmax'`. The gradient, prediction minus target, does not vanish at the many easy
    cells as the focal loss's does, so a small network finds the point of gaze in fewer steps (docs/benchmarks.md).
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Args: logits and target, both (B, 1, H, W); a target of zeros counts nothing. Returns: a scalar."""
        target = target.float().flatten(1)
        distribution = target / target.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return -(distribution * functional.log_softmax(logits.float().flatten(1), dim=1)).sum(dim=1).mean()


@LOSSES.register_module()
class L1Loss(nn.Module):
    """Mean absolute difference of all numbers: ETH-XGaze's and GazeNet's on (pitch, yaw) in radians."""

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Args: predicted and target of one shape. Returns: a scalar in their unit."""
        return functional.l1_loss(predicted.float(), target.float())


@LOSSES.register_module()
class AngularLoss(nn.Module):
    """Mean angle between the gaze vectors of two (pitch, yaw), in radians; it has no seam at a yaw of 180 degrees."""

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Args: predicted and target (B, 2), (pitch, yaw) in rad. Returns: a scalar in rad."""
        return angle_between(pitchyaw_to_gaze(predicted.float()), pitchyaw_to_gaze(target.float())).mean()


@LOSSES.register_module()
class SumOfSquaresLoss(nn.Module):
    """Squared differences summed over batch, maps and cells, not averaged: PupilNet's (Hourglass.ipynb)."""

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Args: predicted and target (B, K, H, W). Returns: a scalar, which grows with the batch."""
        return functional.mse_loss(predicted.float(), target.float(), reduction='sum')


@LOSSES.register_module()
class PoGLoss(nn.Module):
    """Distance between the predicted and the true point of gaze, in cells, with a gradient.

    EVG decodes outside autograd, so its "pog loss" trains nothing (it is the figure `pog_vp_px` here). Two formulations
    over the codec's `cell_distribution`:
        'distance_of_mean': |sum_i w_i c_i - t|, the error of the soft arg max. Modes on opposite sides cancel.
        'mean_distance': sum_i w_i |c_i - t|, the expected error of a point drawn from the heatmap. Every wrong mode
            costs.

    The first is the default by the ablation in docs/benchmarks.md.

    Args:
        codec: the codec of the heatmap.
        weight: factor of the loss; 0 switches it off.
        formulation: one of the two.
    """

    def __init__(self, codec, weight: float = 0.0, formulation: str = 'distance_of_mean'):
        super().__init__()
        if formulation not in ('mean_distance', 'distance_of_mean'):
            raise ValueError(f"formulation must be 'mean_distance' or 'distance_of_mean', not {formulation!r}")
        self.codec = CODECS.build(codec)
        self.weight = weight
        self.formulation = formulation

    def forward(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted loss in cells, or nothing where the weight is 0."""
        if not self.weight:
            return {}
        true_cell = self.codec.vp_to_cell(targets['target_vp_px'])
        if self.formulation == 'mean_distance':
            weights, cells = self.codec.cell_distribution(outputs)
            distance = (weights * _length(cells - true_cell[:, None])).sum(dim=1)
        else:
            distance = _length(self.codec.expected_cell(outputs) - true_cell)
        return {'loss_pog': self.weight * distance.mean()}


def _length(vectors: Tensor) -> Tensor:
    # Rounded off at 0, where the gradient of a length does not exist.
    return (vectors.square().sum(dim=-1) + 1e-6).sqrt()
