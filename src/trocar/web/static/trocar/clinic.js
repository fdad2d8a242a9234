// Enter keeps a follow-up from every field but a long text; a clock counts from the cement's mixing.
"use strict";
document.addEventListener("keydown", (event) => {
  const form = event.target.closest("form[data-enter-saves]");
  if (!form || event.key !== "Enter" || event.isComposing) return;
  if (event.target.matches("textarea, button, a")) return;
  event.preventDefault();
  form.requestSubmit(form.querySelector("button[data-plain]"));
});
const clock = document.querySelector("[data-clock]");
if (clock) {
  const shown = clock.querySelector("output");
  let began = null;
  const seconds = () => Math.round((Date.now() - began) / 1000);
  clock.hidden = false;
  clock.querySelector("[data-start]").addEventListener("click", () => {
    if (began === null) setInterval(() => { shown.value = String(seconds()); }, 500);
    began = Date.now();
    shown.value = "0";
  });
  clock.querySelector("[data-now]").addEventListener("click", () => {
    const lines = document.querySelectorAll("#injection_events-lines .line-of");
    const last = lines[lines.length - 1];
    if (began === null || !last) return;
    const cell = last.querySelector('input[name$="-second"]');
    if (!cell.value) cell.value = String(seconds());
    last.querySelector('select[name$="-event"]').focus();
  });
}
