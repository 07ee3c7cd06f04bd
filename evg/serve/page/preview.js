/** What the camera sees, mirrored, with the face's box, and in words. */

import { $, fillFacts, number } from './ui.js';

export class Preview {
  constructor() {
    this.video = $('preview');
    this.canvas = $('preview-marks');
  }

  hint(text) {
    $('preview-hint').textContent = text;
    $('preview-hint').hidden = !text;
  }

  /** Draw the face of a result; `rate` is results in a second. */
  show({ face, reason }, rate) {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) return;
    [this.canvas.width, this.canvas.height] = [width, height]; // empties it, too
    const context = this.canvas.getContext('2d');
    if (face.face_box_px) {
      const scale = width / Math.min(width, 1280); // larger pictures are sent smaller
      const [x1, y1, x2, y2] = face.face_box_px.map((value) => value * scale);
      context.strokeStyle = reason ? '#ffd628' : '#7fcf90';
      context.lineWidth = Math.max(2, width / 240);
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
    fillFacts($('camera-facts'), [
      ['Face', reason || 'found'],
      ['Distance', face.origin_mm ? number(face.origin_mm[2] / 10, 0, 'cm') : '–'],
      ['Eyes open', face.eyes_open === null ? '–' : number(100 * face.eyes_open, 0, '%')],
      ['Speed', `${number(rate, 0)} pictures a second, ${number(face.times_ms.round_trip, 0, 'ms')} from camera to page`],
    ]);
  }

  clear() {
    this.canvas.getContext('2d').clearRect(0, 0, this.canvas.width, this.canvas.height);
    $('camera-facts').replaceChildren();
    delete $('camera-facts').dataset.text;
  }
}
