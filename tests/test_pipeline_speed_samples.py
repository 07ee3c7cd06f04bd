"""What makes the input pipeline fast changes no sample: targets, batches, the plain pipeline, what a runtime gets."""

import contextlib
import io
import runpy

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.utils.data import DataLoader

from evg.codecs import FaceCenterCodec, VPHeatmapCodec
from evg.config import load_config
from evg.datasets.collate import collate_gaze
from evg.datasets.prepare import prepare
from evg.datasets.synth import SynthConverter
from evg.datasets.transforms import GaussianTarget, PackGaze, RandomFlip
from evg.deploy.model_file import InputSpec, ModelFile
from evg.deploy.parity_pictures import pictures_of
from evg.deploy.runtime import GazeModel
from evg.geometry import InputFrame
from evg.models import GazePreprocessor
from evg.registry import DATASETS

FRAME = InputFrame((480, 270), 31)


@pytest.mark.parametrize('cell', [(60, 40), (0, 0), (127, 71), (3, 70), (125, 2), (64, 0)])
def test_targets_are_the_slow_formula(cell):
    codec, face = VPHeatmapCodec(FRAME, (3840, 2160), 3.3), FaceCenterCodec(FRAME)
    point = codec.cell_to_vp(np.array(cell) + 0.3)
    targets = {**codec.encode(point), **face.encode(np.array(cell) * 4 + 1.0)}
    expected = np.zeros((72, 128))
    for row in range(72):
        for column in range(128):
            if max(abs(column - cell[0]), abs(row - cell[1])) <= 5:  # CenterNet's radius for 20 x 20, sigma 11 / 6
                away = (column - cell[0]) ** 2 + (row - cell[1]) ** 2
                expected[row, column] = np.exp(-away / (2 * (11 / 6) ** 2))
    for name in ('target_heatmap', 'target_face_heatmap'):
        np.testing.assert_allclose(targets[name][0], expected, rtol=0, atol=1e-7)
    assert targets['target_index'] == cell[1] * 128 + cell[0]
    np.testing.assert_allclose(targets['target_offset'], 0.3, atol=1e-5)


def test_a_batch_is_its_samples_without_a_copy_too_many():
    encode = GaussianTarget({'gaze': VPHeatmapCodec(FRAME, (3840, 2160), 3.3)})
    rng = np.random.default_rng(0)
    samples = []
    for number in range(3):
        results = encode(
            {
                'img': rng.integers(0, 256, (288, 512, 3), np.uint8),
                'gt_vp_px': np.array([100.0 + number, 200]),
                **dict.fromkeys(('sample_id', 'img_path', 'subject'), str(number)),
            }
        )
        packed = PackGaze()(results)
        assert packed['inputs'].shape == (3, 288, 512) and np.shares_memory(packed['inputs'], results['img'])
        samples.append(packed)
    for workers in (0, 1):
        (batch,) = DataLoader(samples, 3, num_workers=workers, collate_fn=collate_gaze)
        assert batch['inputs'].is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(batch['inputs'], np.stack([sample['inputs'] for sample in samples]))
        assert {name: value.dtype for name, value in batch['targets'].items()} == {
            'target_heatmap': torch.float32, 'target_offset': torch.float32, 'target_index': torch.int64,
            'target_vp_px': torch.float32,
        }  # fmt: skip
        for name, value in batch['targets'].items():
            np.testing.assert_array_equal(value, np.stack([sample['targets'][name] for sample in samples]))
        assert [sample.img_path for sample in batch['data_samples']] == ['0', '1', '2']


def test_the_plain_pipeline_of_the_benchmark_makes_the_same_samples(synth_eve):
    benchmark = runpy.run_path(str(ROOT / 'benchmarks' / 'pipeline.py'))
    dataset = benchmark['dataset_of'](synth_eve)
    dataset.pipeline.transforms = [step for step in dataset.pipeline.transforms if not isinstance(step, RandomFlip)]
    never = type('Rng', (), {'random': lambda self: 1.0})()
    codec = dataset.pipeline.transforms[-2].codecs[0]
    preprocessor = GazePreprocessor(channel_order='bgr')
    for row in (0, 5):
        batch = collate_gaze([dataset[row]])
        path = batch['data_samples'][0].img_path
        plain = benchmark['plain_sample'](path, dataset.plane_mm[row], FRAME, codec.virtual_plane, never)
        np.testing.assert_allclose(preprocessor(batch)['inputs'][0], plain['input'], rtol=0, atol=1e-4)
        for name, other in (('heatmap', 'hm'), ('offset', 'reg'), ('index', 'ind'), ('vp_px', 'vp_gazepoint')):
            np.testing.assert_allclose(batch['targets'][f'target_{name}'][0], plain[other], rtol=1e-5, atol=1e-5)


def test_the_same_frames_stored_twice_as_large_are_the_same_samples(tmp_path):
    cfg = {}
    for name, size in (('small', (480, 270)), ('large', (960, 540))):
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(SynthConverter('eve', size, 3, 1, 0, 95, (1, 1, 1)), tmp_path / name, 1)
        cfg[name] = load_config(ROOT / 'configs/ctdet_gazeface/mobv2_synth_480.py', {'data_root': str(tmp_path / name)})
    for split in ('train', 'test'):
        small, large = (DATASETS.build(cfg[name][f'{split}_dataloader'].dataset)[0] for name in ('small', 'large'))
        # Rendered anew, so edges and noise differ, but by less than what one px of the input would make.
        pictures = small['inputs'].astype(int), large['inputs'].astype(int)
        shifted = [np.abs(pictures[0] - np.roll(pictures[1], step, axis)).mean() for step in (-1, 1) for axis in (1, 2)]
        assert np.abs(pictures[0] - pictures[1]).mean() < 0.75 * min(shifted), split
        assert (small['data_samples'].flipped, small['data_samples'].sample_id) == (
            large['data_samples'].flipped, large['data_samples'].sample_id,
        )  # fmt: skip
        for name, target in small['targets'].items():
            np.testing.assert_allclose(large['targets'][name], target, atol=0.01, err_msg=name)
    # A runtime gets whole frames, and is compared with the checkpoint on whole frames.
    ((picture, packed),) = pictures_of(cfg['large'], 1).pairs
    assert picture.shape == (540, 960, 3)
    spec = InputSpec(FRAME.input_size, FRAME, 'bgr', (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    model = GazeModel(
        ModelFile('x', 'plane', spec, (), {}, 11), type('NoSession', (), {'takes_pixels': True})(), 'none'
    )
    prepared, affine = model.prepare(picture)
    np.testing.assert_array_equal(prepared.transpose(2, 0, 1), packed['inputs'])
    np.testing.assert_array_equal(affine, packed['data_samples'].affine)
    assert np.abs(prepared.astype(int) - large['inputs'].transpose(1, 2, 0)).mean() < 0.5
