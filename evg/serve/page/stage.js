/** The full screen: where dots and the gaze are drawn, in px of the display. */

import { $ } from './ui.js';

const STILL_FRAMES = 10;

/** The full screen was left before something was done. */
export class Left extends Error {
  constructor() {
    super('');
  }
}

export class Stage {
  constructor() {
    this.root = $('stage');
    this.canvas = $('stage-canvas');
    this.layer = $('stage-layer');
    this.context = this.canvas.getContext('2d');
    this.keys = null;
    document.addEventListener('fullscreenchange', () => {
      if (document.fullscreenElement !== this.root) this.close();
    });
    document.addEventListener('keydown', (event) => this.press(event));
  }

  /** Fill the screen. `hint` names the keys; `onKey(key)` gets those that are not the stage's own. */
  async open(hint, onKey = () => {}) {
    this.back = document.activeElement;
    this.root.hidden = false;
    try {
      await this.root.requestFullscreen({ navigationUI: 'hide' });
    } catch {
      this.root.hidden = true;
      throw new Error('The browser did not allow the full screen. Click the button once more.');
    }
    this.left = new AbortController();
    $('stage-keys').textContent = '';
    this.say('');
    await this.settle();
    this.signal.throwIfAborted();
    [this.canvas.width, this.canvas.height] = this.size;
    this.root.focus();
    this.keys = onKey;
    $('stage-keys').textContent = hint;
  }

  /** Leave; whoever waits for something on the stage gets `Left`. */
  close() {
    if (this.root.hidden) return;
    this.root.hidden = true;
    this.keys = null;
    this.left?.abort(new Left());
    this.layer.replaceChildren();
    const focus = () => this.back?.focus();
    if (document.fullscreenElement) document.exitFullscreen().then(focus, focus);
    else focus();
  }

  /** (width, height) of the display, px. Whole again where a zoom has made fractions of them. */
  get size() {
    return [innerWidth, innerHeight].map((length) => Math.round(length * devicePixelRatio));
  }

  /** AbortSignal of leaving. */
  get signal() {
    return this.left.signal;
  }

  /** What a promise brings, unless the stage is left before: then `Left`, at once. */
  until(promise) {
    const { signal } = this;
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      promise.then(resolve, reject);
    });
  }

  /** Words a little above the middle, or at the top. */
  say(text, place = 'middle') {
    $('stage-text').dataset.place = place;
    if ($('stage-text').textContent !== text) $('stage-text').textContent = text;
  }

  /** Put an element's middle at a point of the display, px. */
  place(element, [x, y]) {
    element.style.left = `${x / devicePixelRatio}px`;
    element.style.top = `${y / devicePixelRatio}px`;
    this.layer.append(element);
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  press(event) {
    if (this.root.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' || event.key === 'q') this.close();
    else this.keys?.(event);
  }

  /** The window grows in steps: wait until it has stopped. */
  async settle() {
    let same = 0;
    for (let last = ''; same < STILL_FRAMES; ) {
      await new Promise(requestAnimationFrame);
      same = last === String(this.size) ? same + 1 : 0;
      last = String(this.size);
    }
  }
}
