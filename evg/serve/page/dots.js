/** Dots to look at, one after another, and what was seen meanwhile. */

const STAY_MS = 800; // how long a dot is looked at after the press
const FEWEST = 6; // results of a dot; a slow machine takes longer for them
const PATIENCE_MS = 8000;
const RING = 2 * Math.PI * 20;
const SHAPE = [
  ['circle', { class: 'ring', cx: 24, cy: 24, r: 20 }],
  ['circle', { class: 'done', cx: 24, cy: 24, r: 20, 'stroke-dasharray': RING, 'stroke-dashoffset': RING }],
  ['circle', { class: 'disc', cx: 24, cy: 24, r: 9 }],
  ['circle', { class: 'middle', cx: 24, cy: 24, r: 2.5 }],
];

/** An SVG element. */
export function draw(tag, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * Show each point until it was looked at.
 *
 * @param stage an open Stage
 * @param stream a Stream
 * @param points [[x, y], ...] px of the display
 * @param needFace whether a dot without a face is asked for again
 * @returns [{ target_px, results }, ...]; throws `Left` when the person leaves
 */
export async function visit(stage, stream, points, needFace) {
  const { signal } = stage;
  const visited = [];
  for (const [i, point] of points.entries()) {
    const dot = button(`Dot ${i + 1} of ${points.length}`);
    stage.place(dot, point);
    if (i === 0) stage.say('Look at the dot and press Space or click it.\nKeep looking until its ring has closed.');
    let results = [];
    while (!results.length) {
      dot.disabled = false;
      dot.focus({ focusVisible: false });
      await pressed(dot, signal);
      dot.disabled = true;
      stage.say('');
      results = await collect(dot, stream, signal);
      const seen = results.filter((result) => result.found).length;
      if (!results.length) {
        stage.say('No picture was answered in time. Is the server still there?\nPress once more.');
      } else if (needFace && seen < results.length / 2) {
        stage.say(`Your eyes were not seen (${results.find((result) => !result.found).reason}).\nPress once more.`);
        results = [];
      }
      fill(dot, 0);
    }
    visited.push({ target_px: point, results });
    dot.remove();
  }
  return visited;
}

function button(name) {
  const dot = document.createElement('button');
  dot.className = 'dot';
  dot.type = 'button';
  dot.setAttribute('aria-label', name);
  dot.append(draw('svg', { viewBox: '0 0 48 48' }, ...SHAPE.map(([tag, attributes]) => draw(tag, attributes))));
  return dot;
}

/** A click, or Space or Enter wherever the focus is. */
function pressed(dot, signal) {
  signal.throwIfAborted(); // it would never tell
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const once = { signal: done.signal };
    const end = (settle, value) => {
      done.abort();
      settle(value);
    };
    dot.addEventListener('click', () => end(resolve), once);
    document.addEventListener('keydown', (event) => {
      if (event.repeat || !(event.key === ' ' || event.key === 'Enter')) return;
      event.preventDefault(); // the button would be clicked, too
      end(resolve);
    }, once);
    signal.addEventListener('abort', () => end(reject, signal.reason), once);
  });
}

/** The results of pictures that were taken from now on. */
function collect(dot, stream, signal) {
  signal.throwIfAborted();
  const results = [];
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const end = (settle, value) => {
      clearInterval(clock);
      stop();
      signal.removeEventListener('abort', leave);
      settle(value);
    };
    const leave = () => end(reject, signal.reason);
    const stop = stream.listen(({ face, captured_ms }) => {
      if (captured_ms >= start) results.push(face);
    });
    const clock = setInterval(() => {
      const passed = performance.now() - start;
      fill(dot, Math.min(passed / STAY_MS, results.length / FEWEST));
      if ((passed >= STAY_MS && results.length >= FEWEST) || passed > PATIENCE_MS) end(resolve, results);
    }, 30);
    signal.addEventListener('abort', leave);
  });
}

function fill(dot, share) {
  dot.querySelector('.done').setAttribute('stroke-dashoffset', RING * (1 - Math.min(share, 1)));
}
