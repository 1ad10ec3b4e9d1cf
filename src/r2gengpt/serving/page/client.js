/* What the page asks of the server: reports as they come, maps, previews, documents. Knows HTTP, not the page. */

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
    408: "Sending this took too long. Check the connection and try again.",
    413: `This is too large for this server: ${detail}.`,
    429: `The server is busy: all its places are taken. Try again ${wait(retry)}.`,
    503: `The server is not ready: ${detail}. Try again ${wait(retry)}.`,
    504: "It took too long and was given up. Try again when the server is less busy.",
  };
  const other = status >= 500 ? `The server failed (${status})` : "The server refused this";
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

/* Signs that no key of a server has; most of them no header can carry, and `fetch` throws as without a connection. */
const OF_NO_KEY = /[^ -~]/;

/* Ask a route. Throws `Refused`, and what `fetch` throws. */
async function send(method, route, { key, signal, accept = "application/json", type, ticket, body }) {
  if (OF_NO_KEY.test(key)) throw new Refused(401, explained(401));
  const headers = { Accept: accept };
  if (type) headers["Content-Type"] = type;
  if (ticket) headers["X-Ticket"] = ticket;
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(route, { method, body, headers, signal, credentials: "omit" });
  if (!response.ok) throw await refusal(response);
  return response;
}

const post = (route, body, options) => send("POST", route, { ...options, body });
const read = async (route, options = {}) => (await send("GET", route, options)).json();

/* A form of files, which are sent without their names, and of texts, of which empty ones are left out. */
function formOf(files, texts, prior = []) {
  const form = new FormData();
  files.forEach((file, at) => form.append("images", file, `view${at + 1}`));
  prior.forEach((file, at) => form.append("prior_images", file, `prior${at + 1}`));
  for (const [name, value] of Object.entries(texts)) if (value) form.append(name, String(value));
  return form;
}

/* {films: [{name, title, caption}], credits: [paragraph]}; one of these as a file. Throw as `send`. */
export const exampleFilms = () => read("/page/examples.json");
export async function exampleFilm(name) {
  const blob = await (await send("GET", `/page/examples/${encodeURIComponent(name)}`, { accept: "image/*" })).blob();
  return new File([blob], name, { type: blob.type });
}

/* The model and its card; where a request is, {place, seconds_left}. Throw as `send`. */
export const modelCard = (key) => read("/v1/card", { key });
export const queueOf = (ticket, key, signal) => read(`/v1/queue/${ticket}`, { key, signal });

/* A DICOM film as the server shows it, its view, what may mislead in it, and whose it is. Throws as `send`. */
export async function previewOf({ file, choice, key }) {
  const told = await (await post("/v1/preview?patient=true", formOf([file], choice), { key })).json();
  const bytes = Uint8Array.from(atob(told.png), (letter) => letter.charCodeAt(0));
  const picture = new Blob([bytes], { type: "image/png" });
  return { picture, name: told.view, warning: told.warnings.join("; "), patient: told.patient ?? null };
}

/* What runs the model, each with whether it is loaded: {torch: "loading"}. Throws as `send`. */
export const runtimesOf = async (signal) => (await read("/ready", { signal })).runtimes ?? {};

/* Maps of what each sentence of `report` rests on. A study is {files, context, choice, key}; maps are of its own images
   and not of an earlier study. Throws as `send`. */
export async function mapsOf({ files, context, choice, key }, report, signal) {
  const { prior_report: _report, prior_days: _days, ...told } = context;
  const form = formOf(files, { ...told, report, ...choice });
  return (await post("/v1/evidence", form, { key, signal })).json();
}

/* A text as a PDF with the notice and `foot` on each page, and the letters that became "?". Throws as `send`. */
export async function pdfOf(report, foot, key) {
  const [body, type] = [JSON.stringify({ report, foot }), "application/json"];
  const response = await post("/v1/pdf", body, { key, accept: "application/pdf", type });
  const missing = decodeURIComponent(response.headers.get("X-Replaced") ?? "");
  return { pdf: await response.blob(), missing: [...missing] };
}

/* A text and what is known of it, {film_findings, review, regions, edited}, as a document of DICOM images; `asked` is
   its {type, form}. Throws as `send`. */
export async function documentOf({ files, choice, key }, report, known, asked) {
  const sent = formOf(files, { report, known: JSON.stringify(known), ...choice });
  const path = asked.form ? `/v1/documents?form=${asked.form}` : "/v1/documents";
  return (await post(path, sent, { key, accept: asked.type })).blob();
}

/* Keep what a reader made of a draft: {receipt, verdict, key, text, reason, note}. Throws as `send`. */
export async function keepVerdict(said, key) {
  return (await post("/v1/verdicts", JSON.stringify(said), { key, type: "application/json" })).json();
}

/* Ask for the report of a study; `prior`: the files of the study before; `ticket` is for `queueOf`. `onText` gets each new piece, `onNote` what is doubtful
   about whose images these are; the answer is the whole record, as `/v1/reports` gives it. Throws as `send`. */
export async function writeReport({ files, prior, context, choice, key, ticket }, signal, onText, onNote) {
  const form = formOf(files, { ...context, ...choice }, prior);
  const response = await post("/v1/reports", form, { key, signal, accept: "text/event-stream", ticket });
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
