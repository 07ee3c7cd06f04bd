/** The report of an accuracy test as files. */

import { ask } from './api.js';
import { download } from './ui.js';

/** 'html' is a page that needs nothing else, 'json' all figures and samples. */
export async function saveReport(test, format) {
  const text = await ask('POST', `/v1/report?format=${format}`, test);
  download(`accuracy.${format}`, text, format === 'html' ? 'text/html' : 'application/json');
}
