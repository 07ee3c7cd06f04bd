"""Labels to what the network is trained on."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from evg.errors import UserError
from evg.geometry import VirtualPlane
from evg.registry import CODECS, TRANSFORMS


@TRANSFORMS.register_module()
class VPProjection(BaseTransform):
    """The point of gaze from plane mm to virtual-plane px, clamped to the plane.

    Args:
        codec: the codec whose `virtual_plane` is meant.
    """

    def __init__(self, codec):
        self.virtual_plane: VirtualPlane = CODECS.build(codec).virtual_plane

    def transform(self, results: dict) -> dict:
        """Sets gt_vp_px (2,)."""
        if results['gt_plane_mm'] is None:
            raise UserError(
                f'VPProjection needs a point on the plane, which {results["sample_id"]} does not have: set labels='
                "'plane' and a plane_rule that the data set has, or take VPProjection out of the pipeline"
            )
        results['gt_vp_px'] = self.virtual_plane.clamp(self.virtual_plane.from_mm(results['gt_plane_mm']))
        return results


@TRANSFORMS.register_module()
class GaussianTarget(BaseTransform):
    """Encodes labels by codecs; each names the label that it takes.

    Args:
        codecs: by name, objects or configs.
    """

    def __init__(self, codecs: dict):
        self.codecs: Sequence = [CODECS.build(codec) for codec in codecs.values()]

    def transform(self, results: dict) -> dict:
        """Sets `targets`, a dict of arrays."""
        targets = {}
        for codec in self.codecs:
            value = results.get(codec.label)
            if value is None:
                raise UserError(
                    f'{type(codec).__name__} needs {codec.label}, which {results["sample_id"]} does not have'
                )
            targets.update(codec.encode(value))
        results['targets'] = targets
        return results
