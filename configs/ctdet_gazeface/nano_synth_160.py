# As ctdet_gaze/nano_synth_160 with the face's centre: the second task on a CPU.
_base_ = '../ctdet_gaze/nano_synth_160.py'
face_hm_weight = 1.0
face_codec = dict(type='FaceCenterCodec', input_frame='@input_frame')
codecs = dict(face='@face_codec')
model = dict(heads=dict(face_center=dict(type='FaceCenterHead', head_conv=24, loss_weight='@face_hm_weight')))
