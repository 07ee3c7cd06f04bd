/**
 * The screen: its size, its place against the camera, and the form that asks for both.
 *
 * Frames are those of docs/conventions.md. Screen px are the display's own (CSS px times the device's ratio), origin in
 * the upper left corner; mm from the same corner, x right, y down, z away from the user.
 */

import { $, number } from './ui.js';

const KEY = 'evg-screen';
const INCH_MM = 25.4;
const KINDS = ['width', 'diagonal'];
const FIELDS = { 'camera-above': 'above', 'camera-right': 'right', 'camera-front': 'front', 'camera-tilt': 'tilt' };

/** Points that a screen of (width, height) px has for a calibration: shares of the screen, row by row. */
const EDGE = 0.1;
const ROWS = {
  4: [[0, [0, 1]], [1, [0, 1]]],
  5: [[0, [0, 1]], [0.5, [0.5]], [1, [0, 1]]],
  9: [[0, [0, 0.5, 1]], [0.5, [0, 0.5, 1]], [1, [0, 0.5, 1]]],
  13: [[0, [0, 0.5, 1]], [0.25, [0.25, 0.75]], [0.5, [0, 0.5, 1]], [0.75, [0.25, 0.75]], [1, [0, 0.5, 1]]],
};

/** Where to look for a calibration with n points, px. */
export function calibrationPoints(n, [width, height]) {
  const place = (share, length) => (EDGE + (1 - 2 * EDGE) * share) * length;
  return ROWS[n].flatMap(([y, xs]) => xs.map((x) => [place(x, width), place(y, height)]));
}

/** The grid of the Atlas sample's test, px. */
export function fifteenPoints(size) {
  return [200, 533, 865].flatMap((y) => [250, 604, 958, 1308, 1655].map((x) => scaled([x, y], size)));
}

/** Where the keys 0 to 9 put the reference dot, px: as on a number pad, 0 in the middle. */
export function ninePoint(key, size) {
  if (key === 0) return scaled([960, 540], size);
  return scaled([[200, 960, 1720][(key - 1) % 3], [940, 540, 100][Math.floor((key - 1) / 3)]], size);
}

function scaled([x, y], [width, height]) {
  return [(x * width) / 1920, (y * height) / 1080];
}

/** Screen px to the camera frame, mm. */
export function toCamera(screen, [x, y]) {
  const [camX, camY, camZ] = screen.camera_mm;
  const dx = (x * screen.size_mm[0]) / screen.size_px[0] - camX;
  const dy = (y * screen.size_mm[1]) / screen.size_px[1] - camY;
  const tilt = (screen.tilt_deg * Math.PI) / 180;
  return [-dx, dy * Math.cos(tilt) + camZ * Math.sin(tilt), camZ * Math.cos(tilt) - dy * Math.sin(tilt)];
}

/** How far a point is from its target: px, mm, and degrees seen from `origin` (camera frame, mm; or null). */
export function errorOf(screen, point, target, origin) {
  const px = [point[0] - target[0], point[1] - target[1]];
  const mm = px.map((value, i) => (value * screen.size_mm[i]) / screen.size_px[i]);
  const error = { px: Math.hypot(...px), mm: Math.hypot(...mm), x_px: px[0], y_px: px[1], x_mm: mm[0], y_mm: mm[1] };
  if (!origin) return { ...error, deg: null };
  const [a, b] = [point, target].map((place) => toCamera(screen, place).map((value, i) => value - origin[i]));
  const dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  return { ...error, deg: (Math.atan2(Math.hypot(...cross), dot) * 180) / Math.PI };
}

/** The form. What is entered stays in this browser. */
export class ScreenForm {
  /** `onChange()` is called when a number changes. */
  constructor(onChange) {
    this.onChange = onChange;
    this.values = { kind: 'width', width: null, above: null, right: null, front: null, tilt: null };
    try {
      for (const [name, value] of Object.entries(JSON.parse(localStorage.getItem(KEY)))) {
        const fits = name === 'kind' ? KINDS.includes(value) : Number.isFinite(value);
        if (name in this.values && fits) this.values[name] = value;
      }
    } catch {
      // Not ours, or storage is off: begin anew.
    }
    this.asked = Number.isFinite(this.values.width);
    $('size').addEventListener('change', () => this.read());
    for (const id of Object.keys(FIELDS)) $(id).addEventListener('change', () => this.read());
    $('size-kind').addEventListener('change', () => {
      this.values.kind = $('size-kind').value;
      this.show();
    });
  }

  /** Begin with the server's screen, where the person has said nothing. */
  propose(screen) {
    const [width] = screen.size_mm;
    const [x, y, z] = screen.camera_mm;
    const proposed = { width, above: -y, right: x - width / 2, front: -z, tilt: screen.tilt_deg };
    for (const [name, value] of Object.entries(proposed)) {
      if (!this.asked || !Number.isFinite(this.values[name])) this.values[name] = value;
    }
    this.show();
  }

  /** The width as measured otherwise, mm. */
  setWidth(width) {
    this.values.width = width;
    this.store();
  }

  /** The screen as the server wants it (screen.json), or null while a number is missing. */
  declare([width, height]) {
    const { width: mm, above, right, front, tilt } = this.values;
    if (![mm, above, right, front, tilt].every(Number.isFinite)) return null;
    return {
      format: 'evg-screen',
      version: 1,
      size_px: [width, height],
      size_mm: [mm, (mm * height) / width],
      camera_mm: [mm / 2 + right, -above, -front],
      tilt_deg: tilt,
    };
  }

  get valid() {
    return [...Object.keys(FIELDS), 'size'].every((id) => $(id).checkValidity());
  }

  /** Width over diagonal of this display. */
  get share() {
    return screen.width / Math.hypot(screen.width, screen.height);
  }

  read() {
    if (this.valid) {
      const size = $('size').valueAsNumber;
      this.values.width = this.values.kind === 'width' ? size : size * INCH_MM * this.share;
      for (const [id, name] of Object.entries(FIELDS)) this.values[name] = $(id).valueAsNumber;
      this.store();
    } else {
      this.summary();
    }
  }

  store() {
    this.asked = true;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // Storage is off: it holds until the page is left.
    }
    this.show();
    this.onChange();
  }

  show() {
    const { kind, width } = this.values;
    const inches = width / INCH_MM / this.share;
    $('size-kind').value = kind;
    $('size-label').textContent = kind === 'width' ? 'Width, mm' : 'Diagonal, inches';
    $('size').value = kind === 'width' ? width.toFixed(1) : inches.toFixed(2);
    for (const [id, name] of Object.entries(FIELDS)) $(id).value = String(Number(this.values[name].toFixed(1)));
    this.summary();
  }

  summary() {
    const { width } = this.values;
    const height = (width * screen.height) / screen.width;
    const inches = number(width / INCH_MM / this.share, 1, 'inches');
    const whose = this.asked ? '' : ' This is what the server was started with: please check it.';
    $('screen-summary').textContent = this.valid
      ? `${number(width, 0)} x ${number(height, 0, 'mm')}, ${inches}.${whose}`
      : 'A number is missing or out of range.';
  }
}
