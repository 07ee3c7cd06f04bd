# GazeHub's MPIIFaceGaze, 224 x 224 face patches; indexed by:
# python tools/prepare_data.py gazehub --kind mpiifacegaze --src MPIIFaceGaze --out data/mpii_hub
# A model needs gaze_frame='normalised_sr'. GazeHub's Gaze360 and ETH-XGaze: gaze360.py and ethxgaze.py with another data_root.
_base_ = './mpiifacegaze_patches.py'
data_root = 'data/mpii_hub'
input_frame = dict(size=(224, 224))
