"""The originals' checkpoints: which of their tensors is which of ours.

CenterNet and EVG (resdcn, res, dla, hourglass, mobv2, with and without the face), the ETH-XGaze baseline and ResGaze,
RT-GazeEstimation. The names are those of their code; every tensor of a file is used, or dropped for a stated reason.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from evg.errors import UserError

# (a regular expression, its replacement), applied to a name one after the other.
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_RESNET: Rules = (
    (r'^conv1\.', 'backbone.stem.0.'),
    (r'^bn1\.', 'backbone.stem.1.'),
    (r'^layer([1-4])\.', lambda m: f'backbone.layers.{int(m[1]) - 1}.'),
)
_WITHOUT_HEADS = ('backbone.', 'neck.')
_HEADS = {'hm': 'heatmap', 'reg': 'offset', 'face_hm': 'face_center'}
_HOURGLASS = {
    **{'pre': 'backbone.stem', 'kps': 'backbone.hourglasses', 'cnvs': 'backbone.outs'},
    **{'inters': 'backbone.between', 'inters_': 'backbone.keep', 'cnvs_': 'backbone.feed'},
    **{'up1': 'beside', 'low1': 'down', 'low2': 'low', 'low3': 'back'},
    **{'conv': '0', 'bn': '1', 'conv1': 'convs.0', 'bn1': 'convs.1', 'conv2': 'convs.3', 'bn2': 'convs.4'},
}
_CENTERNET: Rules = (
    *_RESNET,
    (r'^features\.', 'backbone.features.'),
    (r'^deconv_layers\.', 'neck.steps.'),
    # DLA-34: proj_1 -> project.0, its convolution first, its batch norm (actf.0) second.
    (r'^base\.', 'backbone.base.'),
    (r'^dla_up\.ida_(\d)\.', r'backbone.merge.\1.'),
    (r'^ida_up\.', 'backbone.last.'),
    (r'\.(proj|node)_(\d)\.(conv|actf\.0)\.', lambda m: f'.{_ida(m[1], m[2])}.{int(m[3] != "conv")}.'),
    (r'\.up_(\d)\.', lambda m: f'.{_ida("up", m[1])}.'),
    (r'^(pre|kps|cnvs_?|inters_?)\..*', lambda m: '.'.join(_HOURGLASS.get(part, part) for part in m[0].split('.'))),
    (r'^(hm|reg|face_hm)\.([02])\.(?=weight|bias)', lambda m: f'heads.{_HEADS[m[1]]}.branch.{m[2]}.'),
    # Hourglass: a head per stack.
    (
        r'^(hm|reg|face_hm)\.(\d)\.(0\.conv|1)\.',
        lambda m: f'stack.{m[2]}.{_HEADS[m[1]]}.branch.{2 * int(m[3] == "1")}.',
    ),
)


def _ida(kind: str, number: str) -> str:
    return f'{dict(proj="project").get(kind, kind)}.{int(number) - 1}'


@dataclass(frozen=True)
class Original:
    """One original.

    Attributes:
        what: whose checkpoints.
        sign: a regular expression that some name of its files matches and no name of the others'.
        rules: its names to ours.
        dropped: regular expressions of names that have no place here, with the reason.
    """

    what: str
    sign: str
    rules: Rules
    dropped: Mapping[str, str]


ORIGINALS = {
    'centernet': Original(
        'CenterNet and EVG',
        r'^(hm|reg)\.',
        _CENTERNET,
        {
            r'^pog\.': 'the head that no loss trains',
            r'^base\.fc\.': "ImageNet's classifier",
            r'^base\.level[34]\.project\.': 'a projection whose output is not used',
        },
    ),
    'ethxgaze': Original(
        'the ETH-XGaze baseline and ResGaze',
        r'^gaze_network\.',
        ((r'^gaze_network\.(module\.)?', ''), *_RESNET, (r'^gaze_fc\.0\.', 'heads.gaze.layers.0.')),
        {r'^gaze_network\.(module\.)?fc\.': "ImageNet's classifier"},
    ),
    'rtgaze': Original(
        "RT-GazeEstimation (timm's resnet18)", r'^fc\.', (*_RESNET, (r'^fc\.', 'heads.gaze.layers.0.')), {}
    ),
}


@dataclass
class Conversion:
    """What became of an original's tensors.

    Attributes:
        original: key of `ORIGINALS`.
        state_dict: the weights by our names.
        dropped: names of the original, with the reason.
    """

    original: str
    state_dict: dict[str, Tensor] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def convert_weights(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], original: str = 'auto', heads: bool = True
) -> Conversion:
    """Give an original's weights our names.

    Args:
        state: the original's state dict; all names may begin with `module.`.
        wanted: state dict of the network that shall take them; only names and shapes matter.
        original: key of `ORIGINALS`, or 'auto': told from the names.
        heads: False takes backbone and neck alone, for instance of a CenterNet that was trained to detect objects.

    Raises:
        UserError: tensors of the file have no place in the network, some of the network's are not in the file, or
            shapes differ; the message lists them.
    """
    if all(name.startswith('module.') for name in state):  # saved from inside a DataParallel
        state = {name.removeprefix('module.'): value for name, value in state.items()}
    original = _recognise(state) if original == 'auto' else original
    done = Conversion(original)
    unknown, shapes, seen = [], [], set()
    for name, (ours, why) in _rename(state, ORIGINALS[original]).items():
        value = state[name]
        left_out = why or ('' if heads or ours.startswith(_WITHOUT_HEADS) else 'a head, not asked for')
        if left_out:
            done.dropped[name] = left_out
            continue
        if ours not in wanted or ours in seen:
            unknown.append(name)
            continue
        seen.add(ours)
        shape = tuple(wanted[ours].shape)
        if ours.startswith('heads.face_center.branch.2.') and tuple(value.shape) == (2, *shape[1:]):
            # Both channels were trained on the one target, so either is the face's heatmap.
            done.state_dict[ours] = value[:1].clone()
            done.dropped[f'{name}[1]'] = "mobv2face's second face channel, a slip with the target of the first"
        elif value.shape != shape:
            shapes.append(f'{name} {tuple(value.shape)}, not {shape}')
        else:
            done.state_dict[ours] = value.clone()
    # Files from before torch 0.4.1 have no such count.
    counts = [ours for ours in wanted if ours not in seen and ours.endswith('num_batches_tracked')]
    done.state_dict.update({ours: torch.zeros((), dtype=torch.int64) for ours in counts})
    missing = [
        ours
        for ours in wanted
        if ours not in seen and ours not in counts and (heads or ours.startswith(_WITHOUT_HEADS))
    ]
    problems = [
        f'{len(names)} tensors {what}: {", ".join(names[:8])}{", ..." if len(names) > 8 else ""}'
        for what, names in (
            ('of the file have no place in it', unknown),
            ('of it are not in the file', missing),
            ('have another shape', shapes),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"the file of {ORIGINALS[original].what} does not fit this config's network: {'; '.join(problems)}"
        )
    return done


def _recognise(state: Mapping[str, Tensor]) -> str:
    for key in ('ethxgaze', 'centernet', 'rtgaze'):
        if any(re.match(ORIGINALS[key].sign, name) for name in state):
            return key
    names = ', '.join(list(state)[:4])
    known = '; '.join(f'{key}: {original.what}' for key, original in ORIGINALS.items())
    raise UserError(f'the names of the tensors ({names}, ...) are those of no original that is known here ({known})')


def _rename(state: Mapping[str, Tensor], original: Original) -> dict[str, tuple[str, str]]:
    """By the original's name: ours and '', or '' and why it is dropped."""
    offsets = '.conv_offset_mask.weight'
    deformable = {name.removesuffix(offsets) for name in state if name.endswith(offsets)}
    renamed = {}
    for name in state:
        why = next((reason for pattern, reason in original.dropped.items() if re.match(pattern, name)), '')
        # CenterNet's DCN holds weight and bias itself, and a convolution for offsets and masks in our order.
        module, _, kind = name.rpartition('.')
        ours = f'{module}.conv.{kind}' if module in deformable else name.replace('.conv_offset_mask.', '.offset_mask.')
        for pattern, replacement in original.rules:
            ours = re.sub(pattern, replacement, ours)
        renamed[name] = ('', why) if why else (ours, '')
    last = max((int(ours.split('.')[1]) for ours, _ in renamed.values() if ours.startswith('stack.')), default=0)
    for name, (ours, why) in renamed.items():
        if ours.startswith('stack.'):
            _, stack, rest = ours.split('.', 2)
            renamed[name] = (f'heads.{rest}' if int(stack) == last else f'earlier_heads.{stack}.{rest}', why)
    return renamed
