# EVG with the face's centre in the picture as a second task on the same features.
_base_ = './ctdet_gaze.py'
face_hm_weight = 1.0
face_codec = dict(type='FaceCenterCodec', input_frame='@input_frame')
codecs = dict(face='@face_codec')
model = dict(heads=dict(face_center=dict(type='FaceCenterHead', head_conv=64, loss_weight='@face_hm_weight')))
