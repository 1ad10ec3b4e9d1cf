/* One study to the server, its report back as it is written. Knows HTTP, and nothing of the page. */

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
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
    401: "This server needs an API key, or does not know this one. Enter the key and write the draft again.",
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
  let detail = response.statusText || "no reason was given";
  try {
    detail = (await response.json()).error.message;
  } catch {
    /* not our server's answer: a proxy's, say */
  }
  return new Refused(response.status, explained(response.status, detail, response.headers.get("Retry-After")));
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

/* Ask for the report of `files`, which are sent without their names. `onText` gets each new piece; the answer is the
   whole record, as `/v1/reports` gives it. Throws `Refused`, and what `fetch` throws. */
export async function writeReport({ files, indication, key, signal, onText }) {
  const form = new FormData();
  files.forEach((file, at) => form.append("images", file, `view${at + 1}`));
  if (indication) form.append("indication", indication);
  const headers = { Accept: "text/event-stream" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch("/v1/reports", { method: "POST", body: form, headers, signal, credentials: "omit" });
  if (!response.ok) throw await refusal(response);
  let record = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") break;
    const event = JSON.parse(data);
    if (event.error) throw new Refused(0, `The draft broke off: ${event.error.message}. Nothing of it was kept.`);
    if (event.delta !== undefined) onText(event.delta);
    else record = event;
  }
  if (!record) throw new Refused(0, "The connection ended before the draft did. Nothing of it was kept.");
  return record;
}
