/* A question about a DICOM file: which of its frames, or whether to open it all the same. Opens nothing itself. */

import { $ } from "./elements.js";

let reply = null;

function close(found) {
  $("ask").hidden = true;
  reply?.(found);
  reply = null;
}

/* What the reader wants of a file that was refused: {frame}, {force}, or null to leave it out. */
export function ask(name, refused) {
  const byFrame = refused.code === "frame_needed";
  const which = `${name} has ${refused.frames} frames. Which one shall be opened?`;
  const why = refused.detail.replace(/^image \S+: /, "").replace(/ \(force.*$/, "");
  $("ask-words").textContent = byFrame ? which : `${name} may be no chest film: ${why}. Open it all the same?`;
  for (const id of ["frame", "frame-label"]) $(id).hidden = !byFrame;
  Object.assign($("frame"), { value: "1", max: String(refused.frames) });
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
