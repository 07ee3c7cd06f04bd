/** The page: who does what when. */

import { report, runAccuracy, showAccuracy } from './accuracy.js';
import { Calibration, METHODS, showCalibration, usualMethod } from './calibrate.js';
import { Camera } from './camera.js';
import { checkWithCard } from './card.js';
import { runLive } from './live.js';
import { Preview } from './preview.js';
import { saveReport } from './report.js';
import { ScreenForm } from './screen.js';
import { Left, Stage } from './stage.js';
import { Stream } from './stream.js';
import { $, make, say } from './ui.js';

const FILTERS = { none: 'none', average: 'mean of 5', one_euro: 'One-Euro', kalman: 'Kalman' };
const DOT_KEYS = 'Space or a click on the dot · Esc or q leaves';
const PREVIEW_MS = 150;
const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];

const preview = new Preview();
const stage = new Stage();
const camera = new Camera([$('source'), $('preview')], (words) => cameraOff(words));
const form = new ScreenForm(() => dropCalibration('The screen has changed.'));
const stream = new Stream($('source'), {
  onState: showState,
  onOpen: greet,
  onProblem: (words) => say('camera-message', words),
});
let calibration = null;
let test = null;
let shownAt = 0;

stream.listen((result) => {
  if (result.received_ms - shownAt < PREVIEW_MS || !stage.root.hidden || !camera.current) return;
  shownAt = result.received_ms;
  say('camera-message');
  preview.show(result, stream.rate);
});

/** The server's first word at each connection: it may be another server than before. */
async function greet(info) {
  $('model').textContent = `Model ${info.model}, evg ${info.version}.`;
  form.propose(info.screen);
  fillOnce($('method'), info.methods, (name) => METHODS[name]?.[0] ?? name, usualMethod(Number($('points').value)));
  fillOnce($('filter'), info.filters, (name) => FILTERS[name] ?? name, 'average');
  describeMethod();
  for (const id of ['size-kind', 'card-check', 'calibration-load']) $(id).disabled = false;
  if (calibration) await calibration.bringBack().catch((error) => dropCalibration(error.message));
  allow();
}

function fillOnce(select, names, title, chosen) {
  if (select.options.length) return;
  select.append(...names.map((name) => make('option', { value: name, selected: name === chosen }, title(name))));
}

function showState(state, words) {
  $('connection').dataset.state = state;
  $('connection').textContent = words;
  if (state !== 'good') stage.close();
  allow();
}

/** What can be started now. */
function allow() {
  const can = $('connection').dataset.state === 'good' && Boolean(camera.current);
  for (const id of ['calibrate', 'live', 'accuracy']) $(id).disabled = !can;
}

async function startCamera(id = '') {
  say('camera-message');
  preview.hint('Waiting for the camera');
  starting(true);
  try {
    if (!(await camera.start(id))) return; // it was stopped, or started anew, meanwhile
  } catch (error) {
    cameraOff(error.message);
    return;
  }
  starting(false);
  if (id && document.activeElement === document.body) $('camera-select').focus(); // lost while it was disabled
  preview.hint('');
  $('camera-start').hidden = true;
  $('camera-stop').hidden = false;
  allow();
  checkCamera();
  const { id: current } = camera.current;
  const list = await Camera.list();
  const options = list.map(({ deviceId, label }, i) =>
    make('option', { value: deviceId, selected: deviceId === current }, label || `Camera ${i + 1}`));
  $('camera-select').replaceChildren(...options);
  $('camera-choice').hidden = list.length < 2;
}

/** One start at a time. */
function starting(underWay) {
  for (const id of ['camera-start', 'camera-select']) $(id).disabled = underWay;
}

function cameraOff(words = '') {
  camera.stop();
  stage.close();
  preview.clear();
  preview.hint('No camera');
  say('camera-message', words);
  starting(false);
  $('camera-start').hidden = false;
  $('camera-stop').hidden = true;
  allow();
}

/** A calibration is for one camera. */
function checkCamera() {
  if (calibration && camera.current && !calibration.isOf(camera.current)) {
    dropCalibration('Another camera, or another size of its pictures.');
  }
}

/** The screen of a stage of this size; the one of the calibration where only a zoom has rounded it. */
function declared(size) {
  const held = calibration?.screen.size_px;
  const near = held && held.every((length, i) => Math.abs(length - size[i]) <= 2);
  const screen = form.declare(near ? held : size);
  if (calibration && !calibration.fits(screen)) dropCalibration('It is for another screen.');
  checkCamera();
  return screen;
}

function setCalibration(made) {
  calibration = made;
  for (const id of ['calibration-save', 'calibration-forget']) $(id).hidden = !made;
  showCalibration(made);
  checkCamera();
}

function dropCalibration(why) {
  if (!calibration) return;
  setCalibration(null);
  say('calibrate-message', `The calibration was dropped. ${why} Please calibrate again.`, 'hint');
}

/** Run something on the stage; what goes wrong is said beside its button. */
async function onStage(message, action) {
  say(message);
  if (!form.valid) {
    say(message, 'First say how large the screen is (step 2).');
    return;
  }
  try {
    await action();
  } catch (error) {
    stage.close();
    if (!(error instanceof Left)) say(message, error.message);
  }
}

async function calibrate() {
  await stage.open(DOT_KEYS);
  const screen = form.declare(stage.size);
  await stage.until(stream.configure({ screen }));
  setCalibration(await Calibration.make(stage, stream, screen, Number($('points').value), $('method').value));
  stage.close();
}

async function live() {
  await runLive(stage, stream, declared, (screen) =>
    stream.configure({ screen, calibration: calibration?.id, filter: $('filter').value }));
}

async function accuracy() {
  await stage.open(DOT_KEYS);
  const screen = declared(stage.size);
  await stage.until(stream.configure({ screen, calibration: calibration?.id }));
  const facts = {
    date: new Date().toISOString(),
    calibration: calibration?.name ?? 'none',
    filter: 'none',
    screen: `${screen.size_mm.map((mm) => mm.toFixed(0)).join(' x ')} mm`,
    camera: camera.current?.size ?? '',
    'camera name': (camera.current?.label ?? '').slice(0, 200),
    browser: navigator.userAgent.slice(0, 200),
  };
  test = await runAccuracy(stage, stream, screen, facts);
  stage.close();
  showAccuracy(await report(test));
  for (const id of ['report-html', 'report-json']) $(id).hidden = false;
  $('accuracy-card').scrollIntoView();
}

function describeMethod() {
  $('method-note').textContent = METHODS[$('method').value]?.[1] ?? '';
}

/** Do something at a click; what goes wrong is said there. */
function act(id, message, action) {
  $(id).addEventListener('click', () => action().catch((error) => say(message, error.message)));
}

if (LOOPBACK.includes(location.hostname)) $('where').textContent = 'on this machine';
$('camera-start').addEventListener('click', () => startCamera());
$('camera-stop').addEventListener('click', () => cameraOff());
$('camera-select').addEventListener('change', () => startCamera($('camera-select').value));
act('card-check', 'screen-message', () => checkWithCard(stage, form.values.width, (width) => form.setWidth(width)));
$('points').addEventListener('change', () => {
  $('method').value = usualMethod(Number($('points').value));
  describeMethod();
});
$('method').addEventListener('change', describeMethod);
$('calibrate').addEventListener('click', () => onStage('calibrate-message', calibrate));
$('live').addEventListener('click', () => onStage('live-message', live));
$('accuracy').addEventListener('click', () => onStage('accuracy-message', accuracy));
$('calibration-save').addEventListener('click', () => calibration.save());
act('calibration-forget', 'calibrate-message', async () => {
  const gone = calibration;
  setCalibration(null);
  await gone.forget();
});
$('calibration-load').addEventListener('click', () => $('calibration-file').click());
$('calibration-file').addEventListener('change', async () => {
  const [file] = $('calibration-file').files;
  $('calibration-file').value = '';
  say('calibrate-message');
  try {
    if (file) setCalibration(await Calibration.load(await file.text()));
  } catch (error) {
    say('calibrate-message', error.message);
  }
});
act('report-html', 'accuracy-message', () => saveReport(test, 'html'));
act('report-json', 'accuracy-message', () => saveReport(test, 'json'));
