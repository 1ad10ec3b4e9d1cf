/* The model's name and its card, before the first draft. Nothing is sent. */

import { Refused, modelCard } from "./client.js";
import { $, say } from "./elements.js";
import { markdown } from "./markdown.js";
import { draft, key } from "./state.js";

const AGAIN = 2000;
/* forms: for archives, which the server can give; context: the fields of a study beside its images that are read. */
export const model = { known: false, forms: [], context: [] };

function show({ name, vision_model: eyes, lm_model: writer, licence, card, forms, maps, context }) {
  Object.assign(model, { known: true, forms, context });
  $("model-name").textContent = name;
  const parts = [eyes, writer || "sentences of training reports"].filter(Boolean).join(" and ");
  $("model-parts").textContent = `${parts}${licence ? `, licence ${licence}` : ""}`;
  $("card").hidden = false;
  $("maps-choice").hidden = !maps;
  if (!maps) $("maps").checked = false;
  const text = card || "This model has no card: nothing is told of its data, its scores and its limits.";
  $("card-text").replaceChildren(...markdown(text));
}

/* Ask for the card; while the model is being loaded, ask again. With a key once there is one. */
export async function showCard(loaded = () => {}) {
  if (model.known) return;
  try {
    show(await modelCard(key()));
    loaded();
  } catch (error) {
    if (error.status === 503) {
      if (!draft.record && !draft.request) say("The model is being loaded …", { busy: true });
      setTimeout(() => showCard(loaded), AGAIN);
    } else if (error instanceof Refused && error.status === 401) {
      $("model-name").textContent = "told with an API key";
    } else $("model-name").textContent = "not known";
  }
}
