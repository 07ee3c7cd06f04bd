/** The server's routes. A failure is an Error whose message a person can act on. */

export const AWAY = 'The server does not answer. Is it still running?';
const NO_TOKEN = 'The server needs its token: reload the page and enter the token as the password.';

/** An answer of the server that is no success. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Ask the server; `body` is sent as JSON. Returns the text of the answer. */
export async function ask(method, path, body = undefined) {
  const json = body === undefined ? {} : { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, { method, ...json });
  } catch {
    throw new ApiError(0, AWAY);
  }
  const text = await answer.text();
  if (!answer.ok) throw new ApiError(answer.status, answer.status === 401 ? NO_TOKEN : detail(text, answer));
  return text;
}

/** The same, where the answer is JSON. */
export async function askJson(method, path, body = undefined) {
  return JSON.parse(await ask(method, path, body));
}

function detail(text, answer) {
  try {
    return `The server says: ${JSON.parse(text).detail}`;
  } catch {
    return `The server says: ${answer.status} ${answer.statusText}`;
  }
}
