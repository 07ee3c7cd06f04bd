# As resdcn18_mpiifacegaze_640 on frames of 480 x 270 (padded to 512 x 288), with the virtual plane of the seed's evaluation
# command: evaluate.py --resize_raw_image_w 480 --resize_raw_image_h 270 --vp_w 3840 --vp_h 2160 --vp_pixel_per_mm 5
_base_ = './resdcn18_mpiifacegaze_640.py'
input_frame = dict(size=(480, 270))
vp_size_px = (3840, 2160)
