// What neither HTML nor htmx does: a table's row opens its first link, a form warns before it is left.
"use strict";
document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-opens]");
  if (!row || event.target.closest("a, button, input, select, label")) return;
  const link = row.querySelector("a");
  if (link) link.click();
});
let typed = false;
document.addEventListener("input", (event) => {
  if (event.target.closest("form[data-keep]")) typed = true;
});
document.addEventListener("submit", () => { typed = false; });
window.addEventListener("beforeunload", (event) => { if (typed) event.preventDefault(); });
// The first wrong answer is where the reader goes on.
document.addEventListener("DOMContentLoaded", () => {
  const wrong = document.querySelector(".field.wrong input, .field.wrong select, .field.wrong textarea");
  if (wrong) wrong.focus();
});
// A table wider than its box is scrolled with the arrow keys: only then does the box take the focus.
const reachable = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
for (const event of ["DOMContentLoaded", "htmx:afterSettle"]) document.addEventListener(event, reachable);
window.addEventListener("resize", reachable);
