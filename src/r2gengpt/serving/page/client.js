/* One study to the server; its report back as it is written, maps of it, previews. Knows HTTP, not the page. */

export class Refused extends Error {
  /* `code` and `frames`: what the server says of a DICOM file that it would read if it were asked otherwise. */
  constructor(status, words, { code = null, frames = 0, detail = "" } = {}) {
    super(words);
    Object.assign(this, { status, code, frames, detail });
  }
}

/* Seconds in words, for "try again in …". */
function wait(header) {
  const seconds = Number(header);
  return header && Number.isFinite(seconds) ? `in ${seconds} second${seconds === 1 ? "" : "s"}` : "in a moment";
}

/* What a refusal means to who reads the page. */
function explained(status, detail, retry) {
  const words = {
    401: "This server needs an API key, or does not know this one. Enter the key and try again.",
    408: "Sending the images took too long. Check the connection and try again.",
    413: `The images are too large for this server: ${detail}.`,
    429: `The server is busy: all its places are taken. Try again ${wait(retry)}.`,
    503: `The server is not ready: ${detail}. Try again ${wait(retry)}.`,
    504: "The draft took too long and was given up. Try again when the server is less busy.",
  };
  const other = status >= 500 ? `The server failed (${status})` : "The server refused this study";
  return words[status] ?? `${other}: ${detail}.`;
}

async function refusal(response) {
  let [detail, code] = [response.statusText || "no reason was given", null];
  try {
    ({ message: detail, code } = (await response.json()).error);
  } catch {
    /* not our server's answer: a proxy's, say */
  }
  const words = explained(response.status, detail, response.headers.get("Retry-After"));
  return new Refused(response.status, words, { code, detail, frames: Number(response.headers.get("X-Frames")) });
}

/* The data of server-sent events, one after the other. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += value;
      for (let end = held.indexOf("\n\n"); end >= 0; end = held.indexOf("\n\n")) {
        const block = held.slice(0, end);
        held = held.slice(end + 2);
        if (block.startsWith("data: ")) yield block.slice(6);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/* Post a form to a route: `files`, which are sent without their names, and texts, of which empty ones are left out.
   Throws `Refused`, and what `fetch` throws. */
async function post(route, { files, texts, key, signal, accept }) {
  const form = new FormData();
  files.forEach((file, at) => form.append("images", file, `view${at + 1}`));
  for (const [name, value] of Object.entries(texts)) if (value) form.append(name, String(value));
  const headers = { Accept: accept };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(route, { method: "POST", body: form, headers, signal, credentials: "omit" });
  if (!response.ok) throw await refusal(response);
  return response;
}

/* A DICOM film as the server shows it, the name of its view, and what may mislead in it. Throws as `post`. */
export async function previewOf({ file, choice, key }) {
  const response = await post("/v1/preview", { files: [file], texts: choice, key, accept: "image/png" });
  const [name, warning] = ["X-View", "X-Warning"].map((header) => response.headers.get(header) ?? "");
  return { picture: await response.blob(), name, warning };
}

/* Maps of what each sentence of `report` rests on. A study is {files, indication, choice, key}. Throws as `post`. */
export async function mapsOf({ files, indication, choice, key }, report, signal) {
  const texts = { indication, report, ...choice };
  return (await post("/v1/evidence", { files, texts, key, signal, accept: "application/json" })).json();
}

/* Ask for the report of a study. `onText` gets each new piece, `onNote` what is doubtful about whose images these are;
   the answer is the whole record, as `/v1/reports` gives it. Throws as `post`. */
export async function writeReport({ files, indication, choice, key }, signal, onText, onNote) {
  const texts = { indication, ...choice };
  const response = await post("/v1/reports", { files, texts, key, signal, accept: "text/event-stream" });
  let record = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") break;
    const event = JSON.parse(data);
    if (event.error) throw new Refused(0, `The draft broke off: ${event.error.message}. Nothing of it was kept.`);
    if (event.note) onNote(event.note);
    if (event.delta !== undefined) onText(event.delta);
    else record = event;
  }
  if (!record) throw new Refused(0, "The connection ended before the draft did. Nothing of it was kept.");
  return record;
}
