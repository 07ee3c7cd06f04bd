/** Calibration: dots, the fit by the server, and what it is worth. */

import { ask, askJson } from './api.js';
import { visit } from './dots.js';
import { calibrationPoints } from './screen.js';
import { $, download, figures, number, table } from './ui.js';

export const METHODS = {
  translation: ['Translation', 'One shift for the whole screen; the Atlas client’s calibration.'],
  affine: ['Affine', 'Shift, scale and shear: good with few points.'],
  ridge: ['Ridge polynomial', 'A curved correction that is careful: good from nine points on.'],
  kappa: ['Kappa, in 3-D', 'The angle of your eyes’ visual axes: holds when the head moves.'],
  features: ['Features', 'A fit on eyes and head: for the landmark model, with nine points or more.'],
};

const FEW = 6;

/** The method that is proposed for so many points. */
export function usualMethod(points) {
  return points < 9 ? 'affine' : 'ridge';
}

/**
 * A calibration that the server keeps: its summary, its screen, its file, so that it can be brought back, and the camera
 * it is for. The server knows no browser's camera and a file tells none: a loaded one is for the first that is seen.
 */
export class Calibration {
  constructor(summary, screen, file) {
    Object.assign(this, { summary, screen, file, camera: null });
  }

  /** Show the dots on an open stage, and fit. */
  static async make(stage, stream, screen, n, method) {
    const points = await visit(stage, stream, calibrationPoints(n, screen.size_px), true);
    stage.say('Calibrating');
    const summary = await askJson('POST', '/v1/calibration', { screen, method, points });
    const file = await ask('GET', `/v1/calibration/${summary.id}/file`);
    return new Calibration(summary, screen, file);
  }

  /** From a file's text. */
  static async load(text) {
    let values;
    try {
      values = JSON.parse(text);
    } catch {
      throw new Error('This file is no calibration.');
    }
    return new Calibration(await askJson('PUT', '/v1/calibration', values), values.screen, text);
  }

  /** The server may have been started anew, and then has forgotten it. */
  async bringBack() {
    this.summary = await askJson('PUT', '/v1/calibration', JSON.parse(this.file));
  }

  get id() {
    return this.summary.id;
  }

  get name() {
    return `${this.summary.method}, ${this.summary.n_points} points`;
  }

  fits(screen) {
    return JSON.stringify(this.screen) === JSON.stringify(screen);
  }

  /** Whether it is for this camera and this size of its pictures; `camera` is `Camera.current`. */
  isOf(camera) {
    this.camera ??= camera;
    return JSON.stringify(this.camera) === JSON.stringify(camera);
  }

  save() {
    download('calibration.json', this.file, 'application/json');
  }

  async forget() {
    await ask('DELETE', `/v1/calibration/${this.id}`);
  }
}

/** Write down what a calibration is worth. */
export function showCalibration(calibration) {
  const place = $('calibrate-result');
  place.replaceChildren();
  if (!calibration) return;
  const { summary } = calibration;
  const error = summary.leave_one_out;
  const [name] = METHODS[summary.method] ?? [summary.method];
  place.append(`${name}, from ${summary.n_points} points and ${summary.n_samples} pictures`);
  place.append(summary.rejected.length ? `; left out: ${reasons(summary.rejected)}.` : '.');
  if (summary.message) place.append(` ${summary.message}`);
  if (summary.n_points < FEW) place.append(' With so few points the error now is overrated: each point left out is missed.');
  if (!error) return;
  place.append(figures([
    [number(error.before_mean_mm, 1), 'mm', 'error before', 'mean over the points'],
    [number(error.mean_mm, 1), 'mm', 'error now, at points left out', 'mean over the points, each left out of the fit once'],
    [`${number(error.mean_deg, 2)}°`, '', 'now, as an angle'],
  ]));
  const rows = error.per_point.map(({ target_px: [x, y], before, after }) =>
    [`${x.toFixed(0)}, ${y.toFixed(0)}`, number(before?.mm, 1), number(after?.mm, 1), number(after?.deg, 2)]);
  const head = ['Point, px', 'before, mm', 'now, mm', 'now, degrees'];
  place.append(table('Error at each point, when it is left out of the fit', head, rows));
}

/** '9 at the beginning of a dot, 2 eyes closed': each reason with its count, the most frequent first. */
function reasons(rejected) {
  const counts = new Map();
  for (const { reason } of rejected) {
    const early = /^within/.test(reason) ? 'at the beginning of a dot' : reason;
    const words = / mm from the others/.test(reason) ? 'glances elsewhere' : early;
    counts.set(words, (counts.get(words) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).map(([words, n]) => `${n} ${words}`).join(', ');
}
