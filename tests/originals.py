"""The originals' networks as plain functions of their tensors, written from the names and shapes in their code.

A `Tensors` draws a tensor when its name is first used and hands it out afterwards, so that a forward pass both makes
the original's state dict and is a reference for what it computes (in evaluation mode).
"""

import torch
from torch.nn import functional
from torchvision.ops import deform_conv2d

RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
# expansion, channels, repeats, stride of MobileNetV2's stages
MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class Tensors:
    """A state dict that grows by use."""

    def __init__(self, seed=0):
        self.state = {}
        self.generator = torch.Generator().manual_seed(seed)

    def get(self, name, shape, scale, centre=0.0):
        if name not in self.state:
            self.state[name] = centre + scale * torch.randn(shape, generator=self.generator)
        assert self.state[name].shape == shape, name
        return self.state[name]

    def conv(self, name, x, out, kernel=3, stride=1, bias=False, groups=1):
        shape = (out, x.shape[1] // groups, kernel, kernel)
        weight = self.get(f'{name}.weight', shape, (2 / (shape[1] * kernel**2)) ** 0.5)
        offset = self.get(f'{name}.bias', (out,), 0.1) if bias else None
        return functional.conv2d(x, weight, offset, stride, kernel // 2, groups=groups)

    def up(self, name, x, out, kernel=4, stride=2, groups=1):
        shape = (x.shape[1], out // groups, kernel, kernel)
        weight = self.get(f'{name}.weight', shape, (8 / (shape[0] // groups * kernel**2)) ** 0.5)
        return functional.conv_transpose2d(x, weight, None, stride, (kernel - stride) // 2, groups=groups)

    def bn(self, name, x):
        channels = (x.shape[1],)
        scale, shift = self.get(f'{name}.weight', channels, 0.1, 1.0), self.get(f'{name}.bias', channels, 0.1)
        mean = self.get(f'{name}.running_mean', channels, 0.1)
        variance = self.get(f'{name}.running_var', channels, 0.1, 1.0).abs_()
        self.state.setdefault(f'{name}.num_batches_tracked', torch.tensor(7))
        return functional.batch_norm(x, mean, variance, scale, shift)

    def dcn(self, name, x, out):
        """DCNv2: 27 channels are three chunks of 9; the first two together are the offsets, the third the masks."""
        weight = self.get(f'{name}.weight', (out, x.shape[1], 3, 3), (4 / (x.shape[1] * 9)) ** 0.5)
        bias = self.get(f'{name}.bias', (out,), 0.1)
        first, second, mask = self.conv(f'{name}.conv_offset_mask', x, 27, bias=True).chunk(3, dim=1)
        offset = torch.cat((first, second), dim=1)
        return deform_conv2d(x, offset, weight, bias, padding=1, mask=mask.sigmoid())

    def head(self, name, x, width, out):
        return self.conv(f'{name}.2', self.conv(f'{name}.0', x, width, bias=True).relu(), out, 1, bias=True)

    def conv_bn(self, name, x, out, kernel=3, stride=1, groups=1):
        return self.bn(f'{name}.1', self.conv(f'{name}.0', x, out, kernel, stride, groups=groups))


def resnet(net, x, depth, prefix=''):
    """To the map of stride 32."""
    x = net.bn(f'{prefix}bn1', net.conv(f'{prefix}conv1', x, 64, 7, 2)).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    bottleneck = depth >= 50
    for stage, count in enumerate(RESNETS[depth]):
        for i in range(count):
            name, stride = f'{prefix}layer{stage + 1}.{i}', 2 if stage and not i else 1
            width = 64 * 2**stage
            steps = (
                ((width, 1, 1), (width, 3, stride), (4 * width, 1, 1))
                if bottleneck
                else ((width, 3, stride), (width, 3, 1))
            )
            inner = x
            for k, (out, kernel, step) in enumerate(steps, 1):
                inner = net.bn(f'{name}.bn{k}', net.conv(f'{name}.conv{k}', inner, out, kernel, step))
                inner = inner.relu() if k < len(steps) else inner
            if x.shape != inner.shape:
                x = net.conv_bn(f'{name}.downsample', x, inner.shape[1], 1, stride)
            x = (inner + x).relu()
    return x


def mobilenet(net, x, width):
    def divisible(channels):
        rounded = max(8, int(channels + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels else rounded

    x = functional.relu6(net.conv_bn('features.0', x, divisible(32 * width), 3, 2))
    number = 1
    for expansion, channels, repeats, first_stride in MOBILENET:
        for i in range(repeats):
            name, inner, hidden = f'features.{number}.conv', x, x.shape[1] * expansion
            stride, k = first_stride if i == 0 else 1, 0
            if expansion > 1:
                inner, k = functional.relu6(net.conv_bn(f'{name}.0', inner, hidden, 1)), 1
            inner = functional.relu6(net.conv_bn(f'{name}.{k}', inner, hidden, 3, stride, groups=hidden))
            out = divisible(channels * width)
            inner = net.bn(f'{name}.{k + 2}', net.conv(f'{name}.{k + 1}', inner, out, 1))
            x = x + inner if x.shape == inner.shape and stride == 1 else inner
            number += 1
    # The last layer has 320 channels whatever the width.
    return functional.relu6(net.conv_bn(f'features.{number}', x, 320, 1))


def decoder(net, x, channels, deformable):
    k = 0
    for out in channels:
        if deformable:
            x = net.bn(f'deconv_layers.{k + 1}', net.dcn(f'deconv_layers.{k}', x, out)).relu()
            k += 3
        x = net.bn(f'deconv_layers.{k + 1}', net.up(f'deconv_layers.{k}', x, out)).relu()
        k += 3
    return x


def _tree(net, name, levels, x, out, stride=1, level_root=False, children=()):
    bottom = functional.max_pool2d(x, stride) if stride > 1 else x
    residual = net.conv_bn(f'{name}.project', bottom, out, 1) if x.shape[1] != out else bottom
    children = [*children, bottom] if level_root else [*children]
    if levels == 2:
        first = _tree(net, f'{name}.tree1', 1, x, out, stride)
        return _tree(net, f'{name}.tree2', 1, first, out, children=[*children, first])

    def block(name, x, stride, residual):
        inner = net.bn(f'{name}.bn1', net.conv(f'{name}.conv1', x, out, 3, stride)).relu()
        return (net.bn(f'{name}.bn2', net.conv(f'{name}.conv2', inner, out)) + residual).relu()

    first = block(f'{name}.tree1', x, stride, residual)
    second = block(f'{name}.tree2', first, 1, first)
    joined = torch.cat((second, first, *children), dim=1)
    return net.bn(f'{name}.root.bn', net.conv(f'{name}.root.conv', joined, out, 1)).relu()


def dla34(net, x):
    x = net.conv_bn('base.base_layer', x, 16, 7).relu()
    x = net.conv_bn('base.level0', x, 16).relu()
    x = net.conv_bn('base.level1', x, 32, 3, 2).relu()
    maps = [_tree(net, 'base.level2', 1, x, 64, 2)]
    for number, out, levels in ((3, 128, 2), (4, 256, 2), (5, 512, 1)):
        maps.append(_tree(net, f'base.level{number}', levels, maps[-1], out, 2, level_root=True))

    def ida(name, maps, out, scales):
        for i, scale in enumerate(scales, 1):
            project = net.bn(f'{name}.proj_{i}.actf.0', net.dcn(f'{name}.proj_{i}.conv', maps[i], out)).relu()
            raised = net.up(f'{name}.up_{i}', project, out, 2 * scale, scale, groups=out)
            merged = net.dcn(f'{name}.node_{i}.conv', raised + maps[i - 1], out)
            maps[i] = net.bn(f'{name}.node_{i}.actf.0', merged).relu()

    ends = [maps[3]]
    for i, out in enumerate((256, 128, 64)):
        part = maps[2 - i :]
        ida(f'dla_up.ida_{i}', part, out, (2,) * (i + 1))
        maps[2 - i :] = part
        ends.insert(0, maps[3])
    last = ends[:3]
    ida('ida_up', last, 64, (2, 4))
    return last[-1]


def hourglass(net, x, dims, modules, stacks=2):
    """Features of each stack."""

    def convolution(name, x, out, kernel, stride=1):
        return net.bn(f'{name}.bn', net.conv(f'{name}.conv', x, out, kernel, stride)).relu()

    def residual(name, x, out, stride=1):
        inner = net.bn(f'{name}.bn1', net.conv(f'{name}.conv1', x, out, 3, stride)).relu()
        inner = net.bn(f'{name}.bn2', net.conv(f'{name}.conv2', inner, out))
        same = stride == 1 and x.shape[1] == out
        return (inner + (x if same else net.conv_bn(f'{name}.skip', x, out, 1, stride))).relu()

    def level(name, x, dims, modules):
        (here, below), count = dims[:2], modules[0]
        beside = low = x
        for i in range(count):
            beside = residual(f'{name}.up1.{i}', beside, here)
            low = residual(f'{name}.low1.{i}', low, below, 1 if i else 2)
        if len(dims) > 2:
            low = level(f'{name}.low2', low, dims[1:], modules[1:])
        else:
            for i in range(modules[1]):
                low = residual(f'{name}.low2.{i}', low, below)
        for i in range(count):
            low = residual(f'{name}.low3.{i}', low, here if i == count - 1 else below)
        return beside + functional.interpolate(low, scale_factor=2, mode='nearest')

    x = residual('pre.1', convolution('pre.0', x, 128, 7, 2), dims[0], 2)
    features = []
    for i in range(stacks):
        features.append(convolution(f'cnvs.{i}', level(f'kps.{i}', x, dims, modules), dims[0], 3))
        if i < stacks - 1:
            both = net.conv_bn(f'inters_.{i}', x, dims[0], 1) + net.conv_bn(f'cnvs_.{i}', features[-1], dims[0], 1)
            x = residual(f'inters.{i}', both.relu(), dims[0])
    return features
