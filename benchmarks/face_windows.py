"""Small pictures that a small network learns from in minutes: python benchmarks/face_windows.py SOURCE OUT [--size 64].

SOURCE is a synthetic data set. Its faces are seen by a camera that turns and zooms after them, not quite exactly, in
windows of 140 mm; the labels on the plane stay those of the real camera. A network finds the gaze in the whole frames
too, but needs ten times as long. The learning tests and the ablation in docs/benchmarks.md use these windows.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from evg.datasets.index import read_index, write_index
from evg.errors import UserError, run_tool
from evg.geometry import Normaliser

# Focal length of a window 1 px wide: 140 mm at a distance of 600 mm.
FOCAL, DISTANCE_MM = 600 / 140, 600


@run_tool
def main() -> None:
    """Read, look, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='folder of tools/prepare_data.py synth --geometry close')
    parser.add_argument('out', type=Path, help='new folder')
    parser.add_argument('--size', type=int, default=64, help='px, width and height of a window')
    parser.add_argument('--seed', type=int, default=0, help='of the places of the faces in their windows')
    args = parser.parse_args()
    if args.out.exists():
        raise UserError(f'{args.out} is there already')
    index, size, rng = read_index(args.source), args.size, np.random.default_rng(args.seed)
    args.out.mkdir(parents=True)
    window = Normaliser(FOCAL * size, DISTANCE_MM, (size, size))
    rig, columns, rows = next(iter(index.rigs.values())), index.columns, []
    for number in range(len(index)):
        head = cv2.Rodrigues(columns['head_rvec'][number])[0]
        warp = window.apply(columns['face_origin_mm'][number], head, rig.camera_matrix).warp
        shift = rng.uniform(-size / 16, size / 16, (2, 1))
        warp = np.block([[np.eye(2), shift], [np.zeros((1, 2)), 1]]) @ warp
        picture = cv2.imread(str(args.source / columns.text('image', number)))
        cv2.imwrite(str(args.out / f'{number}.png'), cv2.warpPerspective(picture, warp, (size, size)))
        corners = columns['face_box_px'][number][[0, 1, 2, 1, 2, 3, 0, 3]].reshape(1, 4, 2).astype(np.float64)
        center = cv2.perspectiveTransform(corners, warp)[0].mean(axis=0)
        row = {key: columns.text(key, number) for key in ('sample_id', 'split', 'subject')}
        row['pog_plane_offset_mm'] = columns['pog_plane_offset_mm'][number]
        # The whole face is larger than the window; what is learned is the middle of its box.
        half = 3 * size / 16
        box = np.clip(np.concatenate([center - half, center + half]), 0, size - 1)
        rows.append({**row, 'image': f'{number}.png', 'face_box_px': box})
    write_index(args.out / 'index.parquet', rows, {}, 'synth')


if __name__ == '__main__':
    main()
