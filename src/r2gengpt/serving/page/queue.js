/* Where the request is that the page waits for: its place in the queue, and the time left. Asks once a second. */

import { queueOf } from "./client.js";
import { $, say } from "./elements.js";
import { key } from "./state.js";

const EACH = 1000;

/* Seconds in words, in steps that do not pretend to know more. */
export function aboutSeconds(seconds) {
  if (seconds < 10) return `about ${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 90) return `about ${5 * Math.round(seconds / 5)} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}

function show({ place, seconds_left: seconds }) {
  if (place === null || (place && !$("written").hidden)) return; // told before its turn came
  const time = seconds === null || seconds <= 0 ? "" : aboutSeconds(seconds);
  const where = place ? `Place ${place} in the queue` : "";
  $("queue").textContent = [where, time].filter(Boolean).join(", ");
  if (place) say(`Waiting: place ${place} in the queue.`, { busy: true });
  else if ($("written").hidden) say("It is being written …", { busy: true });
}

/* A name for a request that nobody can guess; `crypto.randomUUID` is for secure pages only. */
export const newTicket = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/* Tell where the request of this ticket is, until `signal` is given up; then nothing of it stays. */
export async function follow(ticket, signal) {
  signal.addEventListener("abort", () => ($("queue").textContent = ""));
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, EACH));
    if (signal.aborted) break;
    try {
      const told = await queueOf(ticket, key(), signal);
      if (!signal.aborted) show(told);
    } catch {
      /* the request itself tells what is wrong */
    }
  }
}
