/** The 15-point accuracy test; the figures are the server's, see docs/calibration.md. */

import { askJson } from './api.js';
import { draw, visit } from './dots.js';
import { fifteenPoints } from './screen.js';
import { $, figures, make, number, table } from './ui.js';

/** Show the dots on an open stage. Resolves to what `POST /v1/report` takes. */
export async function runAccuracy(stage, stream, screen, facts) {
  const points = await visit(stage, stream, fifteenPoints(screen.size_px), false);
  return { screen, facts, points };
}

/** The figures of a test. */
export function report(test) {
  return askJson('POST', '/v1/report?format=json', test);
}

/** Write down the figures. */
export function showAccuracy(told) {
  const { mean, latency_ms: latency } = told;
  const trip = latency.round_trip;
  const degrees = (value) => (value === null ? '' : `${number(value, 2)}°`);
  const lost = told.n_points_missing ? ` ${told.n_points_missing} points without a gaze are left out of the means.` : '';
  $('accuracy-result').replaceChildren(
    figures([
      [number(mean.mm, 1), 'mm', 'error', 'mean over the points of the distance from the mean gaze to the point'],
      [number(mean.cm, 2), 'cm', 'the same'],
      [degrees(mean.deg) || '–', '', 'the same, from the eye', 'angle between point and mean gaze'],
      [number(mean.x_mm, 1), 'mm', 'error across', 'mean of its absolute value'],
      [number(mean.y_mm, 1), 'mm', 'error up and down', 'mean of its absolute value'],
      [number(mean.rms_s2s_mm, 1), `mm ${degrees(mean.rms_s2s_deg)}`, 'precision, RMS-S2S', 'of neighbouring samples'],
      [number(mean.sd_mm, 1), `mm ${degrees(mean.sd_deg)}`, 'precision, SD', 'of the samples from their mean'],
      [number(100 * mean.data_loss, 1), '%', 'data loss', 'pictures without a gaze'],
      [number(trip?.mean, 0), 'ms', 'latency', 'from the camera to this page; 95 % are below ' + number(trip?.p95, 0, 'ms')],
    ]),
    make('div', { className: 'result' }, map(told), lost, perPoint(told)),
  );
}

function perPoint({ points, mean }) {
  const row = (name, error, rest) =>
    [name, number(error?.px, 0), number(error?.x_px, 0), number(error?.y_px, 0), number(error?.mm, 1),
      number(error?.cm, 2), number(error?.deg, 2), ...rest];
  const rows = points.map((point, i) =>
    row(`${i + 1}  (${point.target_px.map((value) => value.toFixed(0)).join(', ')})`, point.error,
      [number(point.rms_s2s.mm, 1), number(point.sd.mm, 1), number(100 * point.data_loss, 0)]));
  const foot = row('mean', mean, [number(mean.rms_s2s_mm, 1), number(mean.sd_mm, 1), number(100 * mean.data_loss, 0)]);
  const head = ['Point, px', 'error, px', 'x, px', 'y, px', 'mm', 'cm', 'degrees', 'RMS-S2S, mm', 'SD, mm', 'lost, %'];
  return table('Error of the mean gaze at each point (means of x and y are of absolute values)', head, rows, foot);
}

/** The screen with targets, samples and means. */
function map({ screen, points }) {
  const [width, height] = screen.size_px;
  const unit = width / 240;
  const circle = (name, [cx, cy], r) => draw('circle', { class: name, cx, cy, r, 'stroke-width': unit / 2 });
  const shapes = points.flatMap(({ target_px: target, mean_px: mean, samples_px: samples }) => [
    ...samples.map((sample) => circle('sample', sample, unit / 2)),
    circle('target', target, 3 * unit),
    ...(mean ? [line(target, mean, unit / 2), circle('mean', mean, 1.4 * unit)] : []),
  ]);
  const label = 'The screen: circles are the targets, each joined to the mean gaze; small dots are single pictures';
  return draw('svg', { class: 'map', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, ...shapes);
}

function line([x1, y1], [x2, y2], width) {
  return draw('line', { class: 'error', x1, y1, x2, y2, 'stroke-width': width });
}
