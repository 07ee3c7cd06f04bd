/**
 * Pictures to the server, results back (`/v1/stream`). Only new pictures are sent, and only so many at once as the
 * server has answered: a slow server makes fewer results, never old ones. A lost connection is taken up again.
 */

import { ApiError, AWAY, askJson } from './api.js';

const IN_FLIGHT = 2;
const STALE_MS = 4000; // a picture without an answer is given up
const QUALITY = 0.92;
const LONGEST = 1280;
const PAUSES_MS = [500, 1000, 2000, 4000];

export class Stream {
  /**
   * `video` is what is sent. `onState(state, words)` gets 'wait', 'good' or 'bad'; `onOpen()` is awaited at each new
   * connection, before anything is sent; `onProblem(words)` gets what the server says about a picture.
   */
  constructor(video, { onState, onOpen, onProblem }) {
    Object.assign(this, { video, onState, onOpen, onProblem });
    this.listeners = new Set();
    this.canvas = document.createElement('canvas');
    this.sent = this.answered = this.failures = 0;
    this.sentAt = 0;
    this.ready = false;
    this.pending = null;
    this.times = [];
    this.connect();
    this.watch();
  }

  /** Call `listener(result)` for each result; returns a function that ends it. */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Results in a second, lately. */
  get rate() {
    const since = performance.now() - 2000;
    this.times = this.times.filter((time) => time > since);
    return this.times.length / 2;
  }

  /** Tell the server screen, calibration and filter; done when it has taken them. */
  configure({ screen, calibration = null, filter = 'none' }) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.reject(new Error(AWAY));
    this.pending?.reject(new Error('configured anew'));
    return new Promise((resolve, reject) => {
      this.pending = { resolve, reject };
      this.socket.send(JSON.stringify({ type: 'configure', screen, calibration, filter }));
    });
  }

  connect() {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    this.socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, ['evg.v1']);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.socket.onclose = () => this.lost();
  }

  async lost() {
    this.ready = false;
    this.pending?.reject(new Error(AWAY));
    this.pending = null;
    const pause = PAUSES_MS[Math.min(this.failures++, PAUSES_MS.length - 1)];
    try {
      await askJson('GET', '/v1/info'); // a socket does not say why it was closed; a request does
      const refused = this.failures > 2;
      if (refused) this.onState('bad', 'The server refuses the stream: too many are open');
      else this.onState('wait', 'Connecting again');
    } catch (error) {
      const away = !(error instanceof ApiError) || error.status === 0;
      this.onState('bad', away ? 'The server is away; trying again' : error.message);
    }
    setTimeout(() => this.connect(), pause);
  }

  async receive(message) {
    if (message.type === 'ready' && !message.configured) {
      this.sent = this.answered = this.failures = 0;
      this.onState('good', 'Connected');
      await this.onOpen(message);
      this.ready = true;
    } else if (message.type === 'ready') {
      this.pending?.resolve();
      this.pending = null;
    } else if (message.type === 'error' && message.id === undefined) {
      this.pending?.reject(new Error(`The server says: ${message.detail}`));
      this.pending = null;
    } else {
      this.answered = Math.max(this.answered, message.id); // older ones were dropped
      if (message.type === 'error') this.onProblem(`The server says: ${message.detail}`);
      else this.deliver(message);
    }
  }

  deliver(message) {
    const now = performance.now();
    this.times.push(now);
    const face = { ...message.faces[0], landmarks_px: null };
    face.times_ms = { ...face.times_ms, round_trip: Math.max(now - message.captured_ms, 0) };
    for (const listener of [...this.listeners]) listener({ ...message, face, received_ms: now });
  }

  /** Look at every new picture of the video, for ever. */
  watch() {
    if (this.video.requestVideoFrameCallback) {
      const next = (now, frame) => {
        this.offer(frame.captureTime ?? now);
        this.video.requestVideoFrameCallback(next);
      };
      this.video.requestVideoFrameCallback(next);
      return;
    }
    let last = -1;
    const look = (now) => {
      if (this.video.currentTime !== last) this.offer(now);
      last = this.video.currentTime;
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }

  offer(capturedMs) {
    const now = performance.now();
    if (this.sent > this.answered && now - this.sentAt > STALE_MS) this.answered = this.sent;
    if (!this.ready || !this.video.videoWidth || this.sent - this.answered >= IN_FLIGHT) return;
    const number = ++this.sent;
    this.sentAt = now;
    const socket = this.socket;
    this.draw();
    this.canvas.toBlob(async (picture) => {
      if (!picture || socket.readyState !== WebSocket.OPEN) return;
      const header = new DataView(new ArrayBuffer(12));
      header.setUint32(0, number, true);
      header.setFloat64(4, capturedMs, true);
      socket.send(new Blob([header, picture]));
    }, 'image/jpeg', QUALITY);
  }

  draw() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    const size = [Math.round(width * scale), Math.round(height * scale)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
    }
    this.canvas.getContext('2d').drawImage(this.video, 0, 0, ...size);
  }
}
