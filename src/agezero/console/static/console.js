"use strict";
// What the pages can't do without a script, and no more: say that the stream of events is lost, and copy what is shown once.
const link = () => document.getElementById("link");
document.addEventListener("htmx:sseError", () => { const told = link(); if (told) told.hidden = false; });
document.addEventListener("htmx:sseOpen", () => { const told = link(); if (told) told.hidden = true; });
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(text.textContent.trim());
    button.textContent = "Copied";
  } catch {
    window.getSelection().selectAllChildren(text);
    button.textContent = "Selected: press Ctrl+C";
  }
});
