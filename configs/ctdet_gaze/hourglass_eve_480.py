# As resdcn18_eve_480 with --arch hourglass: two stacked hourglasses, heads of 256 channels on each, the picture padded to
# multiples of 128 (512 x 384). No ImageNet weights are published for it.
_base_ = './resdcn18_eve_480.py'
input_frame = dict(pad=127)
model = dict(
    backbone=dict(_delete_=True, type='Hourglass', num_stacks=2),
    neck=None,
    heads=dict(heatmap=dict(head_conv=256), offset=dict(head_conv=256)),
)
