// An injection at the C-arm: frames are shown as the clock runs, until somebody stops it.
"use strict";
const exercise = document.getElementById("exercise");
if (exercise) {
  const one = (name) => exercise.querySelector(name);
  const all = (name) => [...exercise.querySelectorAll(name)];
  const shown = JSON.parse(exercise.dataset.frames);
  const last = shown.age_s.length - 1;
  const start = one("[data-start]"), stop = one("button[data-stop]"), again = one("[data-again]");
  const slider = one("#moment"), replay = one(".replay"), alarm = one("[data-alarm]");
  const fault = document.querySelector("[data-fault]"), result = document.getElementById("result");
  const views = all("figure[data-view]").map((figure) => ({
    key: figure.dataset.view,
    pixels: Number(figure.dataset.pixels),
    pen: figure.querySelector("canvas").getContext("2d"),
    off: figure.querySelector(".off"),
    tick: one(`input[name=view][value="${figure.dataset.view}"]`),
    strip: Object.assign(new Image(), { src: figure.dataset.strip }),
    marks: null,
    places: [],
  }));
  let began = null, speed = 1, truth = null;

  const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  const frameAt = (age) => {
    let k = 0;
    while (k < last && shown.age_s[k + 1] <= age) k += 1;
    return k;
  };
  const nearest = (age) => {
    const k = frameAt(age);
    return k < last && shown.age_s[k + 1] - age < age - shown.age_s[k] ? k + 1 : k;
  };
  const mlAt = (age) => {
    const k = Math.min(frameAt(age), last - 1);
    const part = (age - shown.age_s[k]) / (shown.age_s[k + 1] - shown.age_s[k]);
    return shown.injected_ml[k] + Math.min(Math.max(part, 0), 1) * (shown.injected_ml[k + 1] - shown.injected_ml[k]);
  };

  const number = (pen, view, [mark, row, column]) => {
    const scale = pen.canvas.width / view.pixels;
    const x = Math.min((column + 9) * scale, pen.canvas.width - 26), y = Math.max((row - 7) * scale, 16);
    pen.font = "bold 22px sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillStyle = "#10161c";
    pen.fillRect(x - 13, y - 14, 26, 28);
    pen.fillStyle = "#fff";
    pen.fillText(String(mark), x, y + 1);
  };
  const draw = (frame) => {
    for (const view of views) {
      const { pen, pixels } = view, side = pen.canvas.width;
      pen.clearRect(0, 0, side, side);
      view.off.hidden = view.tick.checked;
      if (!view.tick.checked && !truth) continue;
      pen.drawImage(view.strip, 0, frame * pixels, pixels, pixels, 0, 0, side, side);
      if (!view.marks || !one("[data-marks]").checked) continue;
      pen.drawImage(view.marks, 0, frame * pixels, pixels, pixels, 0, 0, side, side);
      for (const place of view.places[frame]) number(pen, view, place);
    }
  };
  const tell = (age) => {
    const frame = frameAt(age);
    one("[data-clock]").value = clock(age);
    one("[data-ml]").value = mlAt(age).toFixed(1);
    const state = shown.alarm[frame], chance = shown.chance[frame];
    const part = chance ? ` ${exercise.dataset.chance.replace("{share}", (100 * chance).toFixed(0))}` : "";
    const text = exercise.dataset[state] + part;
    if (alarm.textContent !== text) alarm.textContent = text;
    alarm.className = `alert forecast ${state}`;
    alarm.classList.toggle("silent", !one("[name=alarm]").checked);
  };
  const running = () => began !== null;
  const locked = (held) => {
    for (const tick of all("[name=view], [name=alarm], [data-speed]")) tick.disabled = held;
  };
  const reset = () => {
    began = null;
    truth = null;
    for (const view of views) Object.assign(view, { marks: null, places: [] });
    result.replaceChildren();
    replay.hidden = fault.hidden = true;
    start.disabled = false;
    stop.disabled = again.disabled = true;
    locked(false);
    draw(0);
    tell(shown.age_s[0]);
  };
  const age = () => shown.age_s[0] + (speed * (performance.now() - began)) / 1000;
  const step = () => {
    if (!running()) return;
    const now = age();
    if (now >= shown.age_s[last]) {
      end("");
      return;
    }
    draw(frameAt(now));
    tell(now);
    requestAnimationFrame(step);
  };
  const end = async (stopped) => {
    const at = stopped === "" ? shown.age_s[last] : Number(stopped);
    began = null;
    stop.disabled = true;
    locked(false);  // what is disabled is not sent
    one("[name=stopped_s]").value = stopped;
    const sent = new FormData(exercise);
    locked(true);
    tell(at);
    draw(frameAt(at));
    try {
      const answer = await fetch(exercise.action, { method: "POST", body: sent });
      if (!answer.ok) throw new Error(String(answer.status));
      await reveal(await answer.json(), nearest(at));
    } catch {
      fault.textContent = exercise.dataset.lost;
      fault.hidden = false;
    }
    again.disabled = false;
  };
  const reveal = async (told, frame) => {
    truth = told.truth;
    await Promise.all(views.map(async (view) => {
      view.marks = Object.assign(new Image(), { src: truth.marks[view.key] });
      view.places = truth.places[view.key];
      await view.marks.decode();
    }));
    result.innerHTML = told.html;
    replay.hidden = false;
    slider.max = String(last);
    slider.value = String(frame);
    look();
    const heading = document.getElementById("came-out");
    heading.focus({ preventScroll: true });
    for (const box of result.querySelectorAll(".scroll")) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  };
  const look = () => {
    const frame = Number(slider.value);
    const told = `${clock(shown.age_s[frame])} · ${shown.injected_ml[frame].toFixed(1)} ml · ${exercise.dataset.outside} ${truth.outside_ml[frame].toFixed(2)} ml`;
    one("[data-moment]").value = told;
    slider.setAttribute("aria-valuetext", told);
    draw(frame);
  };

  start.addEventListener("click", () => {
    speed = Number(one("[data-speed]").value);
    began = performance.now();
    start.disabled = true;
    stop.disabled = false;
    locked(true);
    stop.focus();
    step();
  });
  stop.addEventListener("click", () => { if (running()) end(age().toFixed(3)); });
  again.addEventListener("click", () => { reset(); start.focus(); });
  document.addEventListener("keydown", (event) => {
    if (event.code !== "Space" || !running()) return;
    event.preventDefault();
    end(age().toFixed(3));
  });
  exercise.addEventListener("submit", (event) => event.preventDefault());
  for (const tick of all("[name=view]")) {
    tick.addEventListener("change", () => {
      if (!views.some((view) => view.tick.checked)) tick.checked = true;
      draw(0);
    });
  }
  one("[name=alarm]").addEventListener("change", () => tell(shown.age_s[0]));
  one("[data-marks]").addEventListener("change", look);
  slider.addEventListener("input", look);
  exercise.hidden = false;
  Promise.all(views.map((view) => view.strip.decode())).then(reset, () => {
    fault.textContent = exercise.dataset.lost;
    fault.hidden = false;
  });
}
