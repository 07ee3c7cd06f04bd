/** How wide the screen is, by a bank card held against it (ISO/IEC 7810 ID-1). */

import { make } from './ui.js';

const CARD_MM = [85.6, 53.98];
const HINT = '← → change the size · Enter takes it · Esc leaves without';

/** Let the person fit an outline to a card; calls `done(width_mm)` with the screen's width. */
export async function checkWithCard(stage, guessMm, done) {
  const outline = make('div', { className: 'bank-card' });
  const slider = make('input', { type: 'range', min: 120, max: 900, step: 1, ariaLabel: 'Width of the outline' });
  const take = make('button', { type: 'button', className: 'primary' }, 'It fits');
  const mm = () => (CARD_MM[0] * innerWidth) / slider.valueAsNumber;
  const fit = () => {
    outline.style.width = `${slider.valueAsNumber}px`;
    outline.style.height = `${(slider.valueAsNumber * CARD_MM[1]) / CARD_MM[0]}px`;
    slider.ariaValueText = `screen ${Math.round(mm())} mm wide`;
  };
  const finish = () => {
    const width = mm();
    stage.close();
    done(width);
  };
  await stage.open(HINT, (event) => {
    if (event.key === 'Enter' && event.target !== take) finish();
  });
  slider.value = (CARD_MM[0] * innerWidth) / guessMm;
  slider.addEventListener('input', fit);
  take.addEventListener('click', finish);
  stage.say('Hold a bank card against the screen and fit the outline to it.', 'top');
  stage.layer.append(outline, make('div', { className: 'card-form' }, slider, take));
  fit();
  slider.focus();
}
