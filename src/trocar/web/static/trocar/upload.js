// Sends a CT file by file, so that it is refused at its first wrong file and progress can be told.
"use strict";
(() => {
  const form = document.getElementById("upload");
  if (!form) return;
  const drop = document.getElementById("drop");
  const folder = document.getElementById("folder");
  const file = document.getElementById("file");
  const refused = document.getElementById("refused");
  const progress = document.getElementById("progress");
  const send = document.getElementById("send");
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const AT_ONCE = 3;
  const TRIES = 3;
  const PIECE = 8 << 20;
  let chosen = [];

  drop.hidden = false;

  const choose = (files) => {
    chosen = Array.from(files).filter((one) => one.size > 0);
    refused.hidden = true;
    const mb = chosen.reduce((sum, one) => sum + one.size, 0) / 2 ** 20;
    show(`${chosen.length} ${form.dataset.files}, ${mb.toFixed(1)} MB`, 0);
  };
  const show = (text, fraction) => {
    progress.hidden = false;
    progress.querySelector("p").textContent = text;
    progress.querySelector("progress").value = fraction;
  };
  const refuse = (text) => {
    refused.textContent = text;
    refused.hidden = false;
    send.disabled = false;
    refused.scrollIntoView({ block: "nearest" });
  };

  folder.addEventListener("change", () => choose(folder.files));
  file.addEventListener("change", () => choose(file.files));
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const entries = Array.from(event.dataTransfer.items)
      .map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    if (!entries.length) { choose(event.dataTransfer.files); return; }
    const found = [];
    for (const entry of entries) await walk(entry, found);
    choose(found);
  });
  async function walk(entry, found) {
    if (entry.isFile) {
      found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const one of some) await walk(one, found);
    }
  }

  async function post(address, body, headers) {
    const answer = await fetch(address, { method: "POST", body, headers: { "X-CSRFToken": token, ...headers }, credentials: "same-origin" });
    const told = (answer.headers.get("Content-Type") || "").includes("json") ? await answer.json() : {};
    if (!answer.ok) throw Object.assign(new Error(told.error || form.dataset.lost), { told: Boolean(told.error), status: answer.status });
    return told;
  }
  async function sent(address, one) {
    // What names somebody may stand in a file's name: its ending is all that is sent of it.
    const ending = (/(\.nii\.gz|\.[A-Za-z]+)$/.exec(one.name) || [""])[0];
    const headers = { "Content-Type": "application/octet-stream", "X-Ending": ending };
    for (let tried = 1; ; tried += 1) {
      try {
        for (let at = 0; at < one.size; at += PIECE) {
          await post(`${address}?at=${at}&of=${one.size}`, one.slice(at, at + PIECE), headers);
        }
        return;
      } catch (error) {
        if (error.told || tried === TRIES) throw error;
      }
    }
  }

  form.addEventListener("submit", async (event) => {
    if (!chosen.length) return;
    event.preventDefault();
    send.disabled = true;
    refused.hidden = true;
    try {
      const to = await post(form.dataset.begin, new FormData());
      const whole = chosen.reduce((sum, one) => sum + one.size, 0);
      const began = performance.now();
      let next = 0;
      let came = 0;
      let failed = null;
      let passed = 0; // what a disc holds beside its images
      let last = null;
      const worker = async () => {
        while (next < chosen.length && !failed) {
          const number = next;
          next += 1;
          try {
            await sent(`${to.file}${number}/`, chosen[number]);
          } catch (error) {
            if (error.status !== 415 || chosen.length === 1) {
              failed = failed || error;
              return;
            }
            passed += 1;
            last = error;
          }
          came += chosen[number].size;
          const left = ((performance.now() - began) / 1000) * (whole / came - 1);
          show(`${form.dataset.sending} ${number + 1} / ${chosen.length}, ${Math.ceil(left)} ${form.dataset.left}${passed ? `; ${passed} ${form.dataset.passed}` : ""}`, came / whole);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
      if (failed) throw failed;
      if (passed === chosen.length) throw last;
      const about = new FormData();
      for (const name of ["purpose", "date", "series"]) about.set(name, form.elements[name].value);
      about.set("passed", passed);
      const told = await post(to.end, about);
      window.location.assign(told.job);
    } catch (error) {
      refuse(error.message || form.dataset.lost);
    }
  });
})();
