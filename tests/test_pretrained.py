"""Published weights: every backbone that has some takes them from a file, and says where they are when offline."""

from urllib.error import URLError

import pytest
import timm
import torch
import torchvision

from evg.errors import UserError
from evg.models.backbones import DLA34, MobileNetV2, ResNet

# how the backbone is built, who publishes the network, what the message names
PUBLISHED = {
    **{
        f'ResNet-{depth}': (
            lambda pretrained, depth=depth: ResNet(depth, pretrained),
            lambda depth=depth: getattr(torchvision.models, f'resnet{depth}')(weights=None),
            f'https://download.pytorch.org/models/resnet{depth}-',
        )
        for depth in (18, 34, 50, 101)
    },
    'MobileNetV2 1.0': (
        lambda pretrained: MobileNetV2(1.0, pretrained),
        lambda: torchvision.models.mobilenet_v2(weights=None),
        'https://download.pytorch.org/models/mobilenet_v2-b0353104.pth',
    ),
    'DLA-34': (
        DLA34,
        lambda: timm.create_model('dla34'),
        'http://dl.yf.io/dla/models/imagenet/dla34-ba72cf86.pth or https://huggingface.co/timm/dla34.in1k',
    ),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_offline_says_where_and_what_else(name, monkeypatch, tmp_path):
    build, _, address = PUBLISHED[name]
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    asked = []

    def no_way_out(url, *_, **__):
        asked.append(url)
        raise URLError('no way out')

    monkeypatch.setattr('torch.hub.download_url_to_file', no_way_out)
    with pytest.raises(UserError) as caught:
        build('imagenet')
    message = str(caught.value)
    assert message.startswith(f'the ImageNet weights of {name} could not be downloaded (<urlopen error no way out>)')
    assert f'fetch {address}' in message
    assert 'model.backbone.pretrained=/path/to/the/file.pth' in message
    assert message.endswith('model.backbone.pretrained=None')
    assert address.startswith(asked[0]) or asked[0].startswith(address)


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_file_fills_every_tensor(name, tmp_path):
    build, publisher, _ = PUBLISHED[name]
    torch.manual_seed(0)
    published = publisher().state_dict()
    for value in published.values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape))
    torch.save(published, tmp_path / 'w.pth')
    backbone = build(str(tmp_path / 'w.pth'))
    own = [value for key, value in backbone.state_dict().items() if 'num_batches' not in key]
    known = {(tuple(v.shape), float(v.flatten()[0])) for k, v in published.items() if 'num_batches' not in k}
    foreign = [value for value in own if (tuple(value.shape), float(value.flatten()[0])) not in known]
    # What the backbone adds to the published network: MobileNetV2's last layer, DLA-34's up-sampling.
    added = {
        'MobileNetV2 1.0': 5,
        'DLA-34': sum(1 for k in backbone.state_dict() if k.startswith(('merge', 'last')) and 'num_b' not in k),
    }
    assert len(foreign) == added.get(name, 0)
    with pytest.raises(UserError, match=f'is not a state dict of this {name}'):
        torch.save(
            {key: value for key, value in published.items() if 'conv1' not in key and '.0.0.' not in key},
            tmp_path / 'x.pth',
        )
        build(str(tmp_path / 'x.pth'))


def test_widths_without_published_weights():
    with pytest.raises(UserError, match=r'no ImageNet weights are published for MobileNetV2 0\.35'):
        MobileNetV2(0.35, 'imagenet')
