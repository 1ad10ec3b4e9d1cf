/* Light and dark: the system's, until the button says otherwise. Stores nothing. */

const button = document.getElementById("theme");

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}

function name() {
  button.textContent = dark() ? "Light colours" : "Dark colours";
}

/* Wire the button; call once. */
export function listenToTheme() {
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
}
