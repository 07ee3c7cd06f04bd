/** The camera, through getUserMedia; what goes wrong comes as words. */

const WANTED = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const WORDS = {
  NotAllowedError:
    'The camera was refused. Allow it for this page (the camera sign beside the address), then start it again.',
  NotFoundError: 'No camera was found. Plug one in, then start it again.',
  OverconstrainedError: 'This camera is no longer there. Start again to take another one.',
  NotReadableError: 'The camera is there but gives no pictures. Another program may be using it: close that first.',
  AbortError: 'The camera stopped while it was starting. Start it again.',
};

export class Camera {
  /** `videos` show the pictures; `onLost` is called when the camera goes away by itself. */
  constructor(videos, onLost) {
    this.videos = videos;
    this.onLost = onLost;
    this.stream = null;
    this.turn = 0; // counts starts and stops: a start gives up what it was given when it is no longer the last
  }

  /**
   * Start, or change to another camera; throws an Error in words. Resolves to whether it runs: false where a later
   * start or stop came before it did.
   */
  async start(deviceId = '') {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error('The browser gives the camera only to pages at localhost or with https.');
    }
    this.stop();
    const { turn } = this;
    const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: 'user' };
    let given = null;
    try {
      given = await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...WANTED, ...which } });
      if (turn === this.turn) await this.show(given);
    } catch (error) {
      if (turn === this.turn) {
        throw new Error(WORDS[error.name] ?? `The camera cannot be used: ${error.message || error.name}`);
      }
    }
    if (turn !== this.turn) end(given);
    return turn === this.turn;
  }

  async show(stream) {
    this.stream = stream;
    stream.getVideoTracks()[0].addEventListener('ended', () => {
      this.stop();
      this.onLost('The camera is gone. Plug it in, then start it again.');
    });
    for (const video of this.videos) video.srcObject = stream;
    await Promise.all(this.videos.map((video) => video.play()));
  }

  stop() {
    this.turn++;
    end(this.stream);
    this.stream = null;
    for (const video of this.videos) video.srcObject = null;
  }

  /** { id, label, size } of the one that runs, or null. */
  get current() {
    const track = this.stream?.getVideoTracks()[0];
    const { deviceId, width, height } = track?.getSettings() ?? {};
    return track ? { id: deviceId, label: track.label, size: `${width} x ${height}` } : null;
  }

  /** All cameras; their names are known once one was allowed. */
  static async list() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.filter((device) => device.kind === 'videoinput');
  }
}

function end(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}
