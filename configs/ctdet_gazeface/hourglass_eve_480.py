# As ctdet_gaze/hourglass_eve_480 with the face's centre, on both stacks; the original has no such network.
_base_ = './resdcn18_eve_480.py'
input_frame = dict(pad=127)
model = dict(
    backbone=dict(_delete_=True, type='Hourglass', num_stacks=2),
    neck=None,
    heads=dict(heatmap=dict(head_conv=256), offset=dict(head_conv=256), face_center=dict(head_conv=256)),
)
