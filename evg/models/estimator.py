"""The whole control flow of a gaze network on one page."""

from collections.abc import Sequence

import numpy as np
from mmengine.model import BaseModel
from torch import Tensor, nn

from evg.codecs.main import main_first
from evg.geometry import apply_affine, invert_affine
from evg.models.data_preprocessor import MEMORY_FORMATS
from evg.registry import BACKBONES, CODECS, HEADS, LOSSES, MODELS, NECKS
from evg.structures import GazeDataSample


@MODELS.register_module()
class GazeEstimator(BaseModel):
    """Backbone, neck, heads: pictures in, a dict of raw outputs out; losses and decoding around them.

    Args:
        backbone: object or config; publishes `out_channels` and `stride`, see `evg.models.backbones`. One of several
            stacks gets heads on each; their losses are averaged, and the last stack answers.
        heads: by name; None removes a head of a base config, and its codec goes with it. `in_channels` is filled in.
        codecs: by name; each decodes the raw outputs it knows, None removes one. The main one is monitored in training.
        neck: object or config; `in_channels` is filled in.
        losses: losses over several outputs, by name; None removes one.
        data_preprocessor: config of `GazePreprocessor`.
        l1_penalty: factor wd of the original's penalty wd * (wd + sum |w|) over all weights, batch norms included.
        flip_test: predict from the mean of the raw outputs of the picture and its mirror image. Not in exported graphs.
    """

    def __init__(
        self,
        backbone: nn.Module | dict,
        heads: dict[str, dict | None],
        codecs: dict[str, dict | None],
        neck: nn.Module | dict | None = None,
        losses: dict[str, dict | None] | None = None,
        data_preprocessor: dict | None = None,
        l1_penalty: float = 0.0,
        flip_test: bool = False,
    ):
        super().__init__(MODELS.build(data_preprocessor or dict(type='GazePreprocessor')))
        self.backbone = BACKBONES.build(backbone)
        channels, stride = self.backbone.out_channels, self.backbone.stride
        self.neck = None
        if neck is not None:
            if stride is None:
                raise ValueError(f'{type(self.backbone).__name__} gives no map of features for a neck: set neck=None')
            self.neck = NECKS.build({**neck, 'in_channels': channels} if isinstance(neck, dict) else neck)
            channels, stride = self.neck.out_channels, stride // self.neck.upscale
        wanted = {name: {**head, 'in_channels': channels} for name, head in heads.items() if head is not None}
        stacks = [
            nn.ModuleDict({name: HEADS.build(head) for name, head in wanted.items()})
            for _ in range(getattr(self.backbone, 'num_stacks', 1))
        ]
        self.heads = stacks[-1]
        self.earlier_heads = nn.ModuleList(stacks[:-1])
        self.codecs = {name: CODECS.build(codec) for name, codec in main_first(codecs).items()}
        self.losses = nn.ModuleDict(
            {name: LOSSES.build(loss) for name, loss in (losses or {}).items() if loss is not None}
        )
        self.l1_penalty = l1_penalty
        self.flip_test = flip_test
        outputs = {head.output for head in self.heads.values()}
        for name, codec in self.codecs.items():
            if missing := set(getattr(codec, 'needs', ())) - outputs:
                raise ValueError(
                    f'codec {name!r} decodes {", ".join(sorted(missing))}, which no head gives: add such a head, or '
                    f'remove the codec, codecs.{name}=None'
                )
            if flip_test and not hasattr(codec, 'mirror'):
                raise ValueError(f'flip_test: {type(codec).__name__} cannot be mirrored')
            if getattr(codec, 'stride', stride) != stride:
                raise ValueError(f'codec {name!r} has stride {codec.stride}, backbone and neck give {stride}')
            width, height = codec.input_frame.input_size
            multiple = getattr(self.backbone, 'max_stride', self.backbone.stride) or 1
            if width % multiple or height % multiple:
                raise ValueError(
                    f"the input of {width} x {height} px is no multiple of the backbone's stride {multiple}: "
                    f'choose input_frame.size so, or input_frame.pad={multiple - 1}'
                )
        self.to(memory_format=MEMORY_FORMATS[self.data_preprocessor.memory_format])

    def forward(
        self,
        inputs: Tensor,
        targets: dict[str, Tensor] | None = None,
        data_samples: Sequence[GazeDataSample] | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[GazeDataSample]:
        """One entry, three uses.

        Args:
            inputs: (B, 3, H, W) preprocessed pictures.
            targets: what the codecs encoded, stacked; needed for 'loss'.
            data_samples: one record per picture; needed for 'predict', which fills in its `pred_*`.
            mode: 'tensor' (raw outputs: the graph that is exported), 'loss' or 'predict'.

        Returns:
            'tensor': raw outputs (B, C, h, w) by name; 'loss': scalars by name, those called `loss*` are summed and
            trained; 'predict': the records.
        """
        features = self.backbone(inputs)
        *earlier, last = features if isinstance(features, tuple) else (features,)
        outputs = self._outputs(self.heads, last)
        if mode == 'tensor':
            return outputs
        if mode == 'loss' and targets is not None:
            stacks = [self._outputs(heads, f) for heads, f in zip(self.earlier_heads, earlier, strict=True)]
            return self._loss([*stacks, outputs], targets)
        if mode == 'predict' and data_samples is not None:
            if self.flip_test:
                outputs = self._mean_with_mirror(inputs, outputs)
            return self.predict_from(outputs, data_samples)
        raise ValueError(f"mode must be 'tensor', 'loss' (with targets) or 'predict' (with data_samples), not {mode!r}")

    def _outputs(self, heads: nn.Module, features: Tensor) -> dict[str, Tensor]:
        if self.neck is not None:
            features = self.neck(features)
        # Heads and losses are any modules with the attributes used here, which torch types as Tensor | Module.
        return {head.output: head(features) for head in heads.values()}  # type: ignore[misc, operator, union-attr]

    def _loss(self, stacks: list[dict[str, Tensor]], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs, losses = stacks[-1], {}
        for name, last in self.heads.items():
            heads = [*(heads[name] for heads in self.earlier_heads), last]  # type: ignore[index]
            each = [head.loss(stack, targets) for head, stack in zip(heads, stacks, strict=True)]  # type: ignore[operator]
            losses.update({key: sum(loss[key] for loss in each) / len(each) for key in each[0]})
        for loss in self.losses.values():
            losses.update(loss(outputs, targets))
        if self.l1_penalty:
            total = sum(p.abs().sum() for name, p in self.named_parameters() if 'weight' in name)
            losses['loss_l1'] = self.l1_penalty * (self.l1_penalty + total)
        detached = {name: value.detach() for name, value in outputs.items()}
        return {**losses, **next(iter(self.codecs.values())).monitor(detached, targets)}

    def _mean_with_mirror(self, inputs: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        features = self.backbone(inputs.flip(3))
        of_mirror = self._outputs(self.heads, features[-1] if isinstance(features, tuple) else features)
        mirrored: dict[str, Tensor] = {}
        for codec in self.codecs.values():
            mirrored.update(codec.mirror(of_mirror))
        return {name: (value + mirrored[name]) / 2 for name, value in outputs.items()}

    def predict_from(self, outputs: dict[str, Tensor], samples: Sequence[GazeDataSample]) -> list[GazeDataSample]:
        """Decode raw outputs into the samples' `pred_*` fields.

        Convention: codecs answer in px of the network's input; samples carry px of the picture, see `GazeDataSample`.

        Args:
            outputs: raw outputs of a batch of B pictures, by name.
            samples: the B records; they are filled in.

        Returns:
            The same records.
        """
        decoded: dict[str, Tensor] = {}
        for codec in self.codecs.values():
            decoded.update(codec.decode(outputs))
        # One transfer per quantity, not one per sample.
        arrays = {name: value.detach().double().cpu().numpy() for name, value in decoded.items()}
        for i, sample in enumerate(samples):
            for name, values in arrays.items():
                if name.endswith('_input_px'):
                    to_input = np.eye(2, 3) if sample.affine is None else sample.affine
                    setattr(sample, name.replace('_input_px', '_px'), apply_affine(invert_affine(to_input), values[i]))
                elif values.ndim == 1:
                    setattr(sample, name, float(values[i]))
                else:
                    setattr(sample, name, values[i])
        return list(samples)
