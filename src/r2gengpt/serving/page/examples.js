/* Example films that come with the server, to be clicked. Opens none itself. */

import { exampleFilm, exampleFilms } from "./client.js";
import { $, complainOfFiles, element } from "./elements.js";
import { study } from "./state.js";

function card(film, open) {
  const made = document.createElement("button");
  made.type = "button";
  const picture = document.createElement("img");
  Object.assign(picture, { src: `/page/examples/${encodeURIComponent(film.name)}`, alt: "", loading: "lazy" });
  made.append(picture, element("strong", film.title), element("small", film.caption));
  made.addEventListener("click", () => open(film));
  const item = document.createElement("li");
  item.append(made);
  return item;
}

/* Show the films; `opened` is called with the file of one that is clicked, and what is known of it. */
export async function showExamples(opened) {
  let told;
  try {
    told = await exampleFilms();
  } catch {
    return; // the page works without them
  }
  const open = async (film) => {
    const { views } = study;
    try {
      const file = await exampleFilm(film.name);
      if (study.views === views) opened(file, film.caption); // no new study was begun meanwhile
    } catch {
      complainOfFiles("The example film did not come. Check that the server is running, and try again.");
    }
  };
  $("example-list").replaceChildren(...told.films.map((film) => card(film, open)));
  $("example-credits").replaceChildren(...told.credits.map((words) => element("p", words, "hint")));
  $("examples").hidden = told.films.length === 0;
}
