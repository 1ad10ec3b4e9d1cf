/* A question about a film: which of its frames, or whether to go on though it may show no chest. Opens nothing itself. */

import { $ } from "./elements.js";

let reply = null;

function close(found) {
  $("ask").hidden = true;
  reply?.(found);
  reply = null;
}

const OPEN = { question: "Open it all the same?", yes: "Open it", no: "Leave it out" };

/* Whether a question waits for its answer; it gets the focus. */
export function isAsking() {
  if (reply) $($("frame").hidden ? "ask-skip" : "frame").focus();
  return Boolean(reply);
}

/* What the reader wants of a file that was refused: {frame}, {force}, or null to leave it out. */
export function ask(name, refused, { question, yes, no } = OPEN) {
  stopAsking();
  const byFrame = refused.code === "frame_needed";
  const which = `${name} has ${refused.frames} frames. Which one shall be opened?`;
  const why = refused.detail.replace(/^image \S+: /, "").replace(/ \(force.*$/, "");
  $("ask-words").textContent = byFrame ? which : `${name} may be no chest film: ${why}. ${question}`;
  for (const id of ["frame", "frame-label"]) $(id).hidden = !byFrame;
  Object.assign($("frame"), { value: "1", max: String(refused.frames) });
  Object.assign($("ask-open"), { textContent: yes });
  Object.assign($("ask-skip"), { textContent: no });
  $("ask").hidden = false;
  $(byFrame ? "frame" : "ask-skip").focus();
  return new Promise((resolve) => {
    reply = (found) => resolve(found && (byFrame ? { frame: Number($("frame").value) } : { force: true }));
  });
}

/* Nobody answers any more. */
export const stopAsking = () => close(false);

/* Wire the question's buttons; call once. */
export function listenToAnswers() {
  const open = () => ($("frame").hidden || $("frame").reportValidity()) && close(true);
  $("ask-open").addEventListener("click", open);
  $("frame").addEventListener("keydown", (event) => event.key === "Enter" && open());
  $("ask-skip").addEventListener("click", () => close(false));
}
