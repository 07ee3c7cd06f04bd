/** The live point with its trail, and its distance from a reference dot. */

import { errorOf, ninePoint } from './screen.js';
import { number } from './ui.js';

const TRAIL = 16;
const MEAN_MS = 1000;
const HINT = '1 to 9 put the dot, 0 into the middle, the same key again takes it away · Esc or q leaves';

/** Show the gaze until the full screen is left. `declare(size)` gives the screen, `configure(screen)` tells the server. */
export async function runLive(stage, stream, declare, configure) {
  const live = new Live(stage);
  await stage.open(HINT, (event) => live.key(event.key));
  live.screen = declare(stage.size);
  live.show();
  await stage.until(configure(live.screen));
  const stop = stream.listen((result) => live.take(result));
  stage.signal.addEventListener('abort', stop);
}

class Live {
  constructor(stage) {
    this.stage = stage;
    this.trail = [];
    this.reference = null;
    this.since = 0;
    this.last = null;
    const style = getComputedStyle(stage.root);
    this.colours = Object.fromEntries(['gaze', 'reference'].map((name) => [name, style.getPropertyValue(`--${name}`)]));
  }

  key(key) {
    if (!/^[0-9]$/.test(key)) return;
    const same = this.reference?.key === key;
    this.reference = same ? null : { key, at: ninePoint(Number(key), this.screen.size_px) };
    this.since = performance.now();
    this.show();
  }

  take(result) {
    const now = performance.now();
    this.trail.push({ at: result.point, captured: result.captured_ms, received: now });
    while (this.trail.length > TRAIL && this.trail[0].received < now - MEAN_MS) this.trail.shift();
    this.last = result;
    this.show();
  }

  show() {
    const { stage, reference, last } = this;
    stage.clear();
    if (reference) this.dot(reference.at, 16, this.colours.reference);
    this.drawTrail(this.trail.slice(-TRAIL));
    if (last?.point) this.point(last.point);
    stage.say(last ? this.words() : 'Waiting for the first picture');
  }

  words() {
    const { last, reference, screen } = this;
    if (!last.point) return `No gaze: ${last.reason}`;
    if (!reference) return '';
    const origin = last.face.origin_mm;
    const now = errorOf(screen, last.point, reference.at, origin);
    const sign = (value) => (value > -0.5 ? '+' : '−') + Math.abs(value).toFixed(0);
    const lines = [
      `${now.px.toFixed(0)} px · ${now.mm.toFixed(0)} mm · ${number(now.deg, 1, 'degrees')}`,
      `x ${sign(now.x_px)} px (${sign(now.x_mm)} mm) · y ${sign(now.y_px)} px (${sign(now.y_mm)} mm)`,
    ];
    const recent = this.trail.filter(({ at, captured, received }) =>
      at && captured >= this.since && received >= performance.now() - MEAN_MS);
    if (recent.length > 1) {
      const mean = [0, 1].map((i) => recent.reduce((sum, { at }) => sum + at[i], 0) / recent.length);
      const error = errorOf(screen, mean, reference.at, origin);
      lines.push(`mean of the last second: ${error.px.toFixed(0)} px, ${error.mm.toFixed(0)} mm`);
    }
    return lines.join('\n');
  }

  drawTrail(trail) {
    const { context } = this.stage;
    context.strokeStyle = this.colours.gaze;
    context.lineCap = 'round';
    for (let i = 1; i < trail.length; i++) {
      if (!trail[i - 1].at || !trail[i].at) continue;
      context.globalAlpha = (0.6 * i) / trail.length;
      context.lineWidth = (8 * i) / trail.length;
      context.beginPath();
      context.moveTo(...trail[i - 1].at);
      context.lineTo(...trail[i].at);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  /** The point of gaze; outside the screen it is a ring at its border. */
  point([x, y]) {
    const [width, height] = this.screen.size_px;
    const inside = [Math.min(Math.max(x, 14), width - 14), Math.min(Math.max(y, 14), height - 14)];
    if (x >= 0 && y >= 0 && x <= width && y <= height) return this.dot([x, y], 12, this.colours.gaze);
    const { context } = this.stage;
    context.lineWidth = 3;
    context.strokeStyle = this.colours.gaze;
    context.beginPath();
    context.arc(...inside, 11, 0, 2 * Math.PI);
    return context.stroke();
  }

  dot(at, radius, colour) {
    const { context } = this.stage;
    context.fillStyle = colour;
    context.beginPath();
    context.arc(...at, radius, 0, 2 * Math.PI);
    context.fill();
  }
}
