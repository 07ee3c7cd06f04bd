"""Package metadata and dependencies of evg."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
LINES = (HERE / 'evg' / '__init__.py').read_text(encoding='utf-8').splitlines()
VERSION = next(line.split("'")[1] for line in LINES if line.startswith('__version__'))

# The distributions of OpenCV write into one folder, and MediaPipe brings another than ours: all below one minor
# version, or the last one installed overwrites the other. Between minor versions a warp moves by grey
# levels, and answers with it.
OPENCV = '>=4.10,<5.1'

setup(
    name='evg',
    version=VERSION,
    description='Gaze estimation toolkit: from a camera frame to the point on the screen and the gaze direction',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.14',
    packages=find_packages(include=['evg', 'evg.*']),
    package_data={'evg': ['py.typed'], 'evg.serve': ['page/*']},
    # What runs without torch needs no more; the rest is chosen by an extra. Tools of Ascend boards want numpy 1.
    install_requires=['numpy>=1.26'],
    extras_require={
        'train': [
            'numpy>=2.0',
            'torch>=2.8',
            'torchvision>=0.23',
            # The maintained distribution of the module `mmengine`; the plain one cannot load its own checkpoints.
            'onedl-mmengine>=0.10.12',
            'onedl-mmcv>=2.3.6',
            'yapf>=0.40',  # formats mmengine's configs
            'platformdirs>=3.5',  # tells yapf where its cache is
            f'opencv-python{OPENCV}',
            'pyarrow>=17',
            'h5py>=3.11',
            'scipy>=1.11',
            'av>=13',
            'calflops>=0.3.2',
            'transformers',  # imported by calflops, not declared by it
            'onnx>=1.17',
            'onnxscript',
            'onnxruntime>=1.20',
            'tensorboard>=2.17',
            'matplotlib>=3.8',
            'tqdm>=4.66',
            'pyyaml>=6',
        ],
        # A model folder on a machine without torch; an Ascend board has pyACL from CANN instead of onnxruntime.
        'runtime': [f'opencv-python-headless{OPENCV}', 'onnxruntime>=1.20'],
        'face': ['numpy>=2.0', 'mediapipe>=1.2', f'opencv-contrib-python{OPENCV}'],
        'serve': [
            'numpy>=2.0',
            'fastapi>=0.115',
            'uvicorn[standard]>=0.30',
            'python-multipart>=0.0.12',
            'prometheus-client>=0.20',
            'onnxruntime>=1.20',
            f'opencv-python{OPENCV}',
        ],
        'timm': ['timm>=1.0'],
        # The site; ruff formats the signatures in it.
        'docs': ['mkdocs-material>=9.5', 'mkdocs>=1.6,<2', 'mkdocstrings[python]>=1.0', 'ruff>=0.8', 'evg[train]'],
        'dev': [
            'pytest>=8.2',
            'pytest-xdist>=3.6',
            'ruff>=0.8',
            'mypy>=1.13',
            'hypothesis>=6.100',
            'playwright>=1.50',  # drives the system's Chromium; it downloads none
            'scikit-image>=0.24',
            'requests>=2.31',
            'schemathesis>=4.0',
            'evg[train,face,serve,timm,docs]',
        ],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
