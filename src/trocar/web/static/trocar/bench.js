// The workbench: one crosshair, one window and one needle at a time over whichever panes there are.
// Panes are drawn by niivue or, without WebGL, by the server; what is done on them is the same.
import { add, dot, halfThickness, sub } from "./bench-geometry.js";
import { NiivueStage, Solid, bytesOf, hasWebGL, pointsToStl, program } from "./bench-niivue.js";
import { Along, StillStage } from "./bench-still.js";
import { COLOURS, draw, endAt, lengthOf } from "./bench-marks.js";

const root = document.getElementById("bench");
const $ = (id) => document.getElementById(id);
const words = JSON.parse($("bench-words").textContent);
const say = (name, values = {}) =>
  words[name].replace(/%\((\w+)\)s/g, (_, key) => values[key] ?? "").replace(/%%/g, "%");
const token = root.querySelector("[name=csrfmiddlewaretoken]").value;
const MINE = Number.MAX_SAFE_INTEGER; // the index of a needle that is not kept yet
const LATE_MS = 300; // how long the verdict of the place before may stand

const state = {
  mode: "look", at: null, window: null, layers: [], showNeedles: true, showBone: true, boneOpacity: 0.5,
  needle: null, // {index, entry, target, hub, outer, verdict, ...}: the one that is looked along or moved
  isMoving: false, // whether that needle may be kept
  setting: "", // the end that the next click sets
  end: "target", click: null, strokes: [], pen: true, radius: 3, pointer: null, skin: null,
};
let scene = JSON.parse($("scene").textContent);
let job = ""; // the address of the work that is followed
let stage; // of the CT before
let beside = null; // of the CT afterwards
let solid = null;
let lib = null;
const along = new Along($("obliques"), words);

// --- Talking to the server ----------------------------------------------------------------------

async function post(address, body) {
  let answer;
  try {
    answer = await fetch(address, {
      method: "POST", credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token }, body: JSON.stringify(body),
    });
  } catch (error) {
    throw Object.assign(new Error(words.lost), { told: {} });
  }
  const isJson = (answer.headers.get("Content-Type") || "").includes("json");
  const told = isJson ? await answer.json() : {};
  if (!answer.ok || !isJson) throw Object.assign(new Error(told.error || words.lost), { status: answer.status, told });
  return told;
}

function notice(text, tone = "caution") {
  const box = $("notice");
  root.dataset.told = "";
  box.hidden = !text;
  box.className = `alert ${tone}`;
  box.textContent = text;
}

// An edit; whoever made a version meanwhile is named, and what was done here stays.
async function edit(address, body, after) {
  const parent = scene.last;
  try {
    const told = await post(address, { ...body, version: scene.version, parent });
    await refresh();
    if (after) after();
    ask();
    notice(say("kept", told), "ok");
    return true;
  } catch (error) {
    if (error.status === 409 && error.told.conflict) {
      // The next version is shown, so that what is kept next is laid on top of it knowingly.
      await refresh();
      ask();
      notice(say("conflict", error.told.conflict), "stop");
    } else {
      notice(say("failed", { why: error.message }), "stop");
    }
    return false;
  }
}

// Another version, or the same anew, from its first needle on; one that is in hand stays there.
async function looked(version) {
  if (!state.isMoving) state.needle = null;
  await refresh(version);
  ask();
}

async function refresh(version) {
  const asked = version ? `?version=${version}` : scene.version === null && !job ? `?image=${scene.image}` : "";
  const answer = await fetch(root.dataset.side + asked, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) { notice(words.lost, "stop"); return; }
  const opened = new Set([...document.querySelectorAll("#side details[open]")].map((d) => d.dataset.needle));
  $("side").innerHTML = await answer.text();
  scene = JSON.parse($("scene").textContent);
  for (const one of document.querySelectorAll("#side details[data-needle]")) {
    if (opened.has(one.dataset.needle)) one.open = true;
  }
  await shown();
}

// --- What is shown ------------------------------------------------------------------------------

async function shown() {
  const held = new Map(state.layers.map((l) => [`${l.kind} ${l.from.replace(/\d+/, "")}`, l]));
  state.layers = scene.layers.map((layer) => {
    const old = held.get(`${layer.kind} ${layer.from.replace(/\d+/, "")}`);
    if (!old) return layer;
    // What became the result of another version is shown again only by who asks for it.
    return { ...layer, on: old.on && (old.other || !layer.other), opacity: old.opacity };
  });
  if (!state.at) state.at = scene.at;
  if (state.skin && state.skin.stamp !== String(scene.version)) {
    state.skin = null;
    root.querySelector("[data-view=skin]").setAttribute("aria-pressed", "false");
  }
  $("approval").textContent = scene.approval.text;
  $("approval").className = `pill ${scene.approval.tone}`;
  if (state.isMoving && state.needle) refind(state.needle);
  else if (state.needle) state.needle = scene.needles[state.needle.index] || null;
  if (!state.needle && scene.needles.length) state.needle = scene.needles[0];
  for (const button of document.querySelectorAll(".edits")) button.disabled = !scene.editable && button.dataset.mode !== "lesion";
  if (!scene.editable && state.mode !== "look") setMode("look");
  if (state.mode === "needle") warm();
  await stage.open(scene, {});
  if (beside) await openBeside();
  drawLayers();
  await layered();
  stage.setAt(state.at);
  paint();
  needled();
}

// Which needle of the version that is shown the one in hand was taken from; none: it is a new one.
function refind(needle) {
  const was = scene.needles.find((n) => String([n.entry, n.target]) === needle.was);
  const index = was ? was.index : MINE;
  const box = $("why-needle");
  if (index !== needle.index && box.value === say("moved", { number: needle.index + 1 })) {
    box.value = was ? say("moved", { number: index + 1 }) : words.added;
  }
  needle.index = index;
}

async function layered() {
  // Tables on the other CT lie in the same space: what is foretold is seen beside what came.
  try {
    await stage.setLayers(state.layers);
    if (beside) await beside.setLayers(state.layers);
  } catch (error) {
    notice(say("failed", { why: error.message }), "stop");
  }
  showAlong();
  root.dataset.state = "ready";
  await solids();
}

let solidsAsked = 0;

async function solids() {
  if (!solid) return;
  const asked = (solidsAsked += 1);
  await solid.open(); // after the slices, which are looked at first
  if (asked !== solidsAsked) return;
  const parts = [];
  for (const layer of state.layers) {
    if (!layer.on || layer.kind.startsWith("strain")) continue;
    for (const region of layer.regions) {
      if (!region.solid) continue;
      const isFar = layer.kind === "structures"; // what lies around is looked through
      const opacity = layer.kind === "lesion" ? 0.95 : Math.min(1, layer.opacity + (isFar ? 0 : 0.3));
      parts.push({ name: `${layer.kind} ${region.number}`, stamp: `${layer.stamp} ${region.number}`, address: region.surface, colour: region.colour, opacity });
    }
  }
  for (const needle of needlesShown()) {
    parts.push({ name: `needle ${needle.index}`, stamp: needle.stl + needle.verdict, bytes: bytesOf(needle.stl), colour: rgb(COLOURS[needle.verdict]), opacity: 1 });
  }
  if (state.skin) {
    for (const [verdict, points] of Object.entries(state.skin.by)) {
      const opacity = verdict === "stop" ? 0.3 : 1;
      if (points.length) parts.push({ name: `skin ${verdict}`, stamp: state.skin.stamp, bytes: pointsToStl(points, 1.2), colour: rgb(COLOURS[verdict]), opacity });
    }
  }
  // What one looks through comes last: it hides nothing then.
  if (scene.bone) parts.push({ name: "bone", ...scene.bone, colour: [236, 222, 190], opacity: state.showBone ? state.boneOpacity : 0 });
  parts.sort((a, b) => b.opacity - a.opacity);
  await solid.show(parts).catch((error) => notice(say("failed", { why: error.message }), "stop"));
  root.dataset.solid = "ready";
}

const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));

function needlesShown() {
  if (!state.showNeedles) return [];
  const all = scene.needles.filter((n) => !state.needle || n.index !== state.needle.index);
  return state.needle && state.needle.stl ? [...all, state.needle] : all;
}

function drawLayers() {
  const box = $("layers");
  box.replaceChildren();
  const rows = [
    ...state.layers.map((layer) => ({
      name: layer.title, from: layer.from, other: layer.other, on: layer.on, opacity: layer.opacity, regions: layer.regions,
      set: (on, opacity) => { layer.on = on; layer.opacity = opacity; },
    })),
    { name: words.needles, on: state.showNeedles, regions: Object.entries({ ok: 1, caution: 1, stop: 1 }).map(([v]) => ({ name: words[`verdict_${v}`], colour: rgb(COLOURS[v]) })), set: (on) => { state.showNeedles = on; } },
  ];
  if (state.skin) rows.push({ name: words.skin, on: true, fixed: true, regions: ["ok", "caution", "stop"].map((v) => ({ name: words[`skin_${v}`], colour: rgb(COLOURS[v]) })), set: () => {} });
  if (solid) rows.push({ name: words.bone, on: state.showBone, opacity: state.boneOpacity, regions: [], set: (on, opacity) => { state.showBone = on; state.boneOpacity = opacity; } });
  rows.forEach((row, k) => {
    const line = document.createElement("div");
    line.className = "layer";
    const label = document.createElement("label");
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.checked = row.on;
    tick.disabled = Boolean(row.fixed);
    tick.id = `layer-${k}`;
    label.append(tick, document.createTextNode(row.name));
    line.append(label);
    if (row.from) {
      const from = document.createElement("span");
      from.className = row.other ? "pill caution" : "small muted";
      from.textContent = row.from;
      line.append(from);
    }
    let slider = null;
    if (row.opacity !== undefined) {
      slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: 0.05, max: 1, step: 0.05, value: row.opacity });
      slider.setAttribute("aria-label", `${row.name}: ${words.opacity}`);
      line.append(slider);
    }
    const legend = document.createElement("ul");
    for (const region of row.regions) {
      const item = document.createElement("li");
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("class", "swatch");
      swatch.setAttribute("viewBox", "0 0 10 10");
      swatch.setAttribute("aria-hidden", "true");
      const fill = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [key, value] of Object.entries({ width: 10, height: 10, fill: `rgb(${region.colour.join(",")})` })) fill.setAttribute(key, value);
      swatch.append(fill);
      item.append(swatch, document.createTextNode(region.name));
      legend.append(item);
    }
    if (row.regions.length) line.append(legend);
    const changed = () => { row.set(tick.checked, slider ? Number(slider.value) : 1); layered(); marks(); };
    tick.addEventListener("change", changed);
    if (slider) slider.addEventListener("change", changed);
    box.append(line);
  });
}

// --- Marks over the panes -----------------------------------------------------------------------

function panesOf() {
  return [...stage.panes, ...(beside && !$("beside").hidden ? beside.panes : [])];
}

function marks() {
  const isWhole = state.needle && state.needle.entry && state.needle.target;
  const told = {
    at: state.at, needles: state.showNeedles ? scene.needles : [], chosen: state.showNeedles && isWhole ? state.needle : null,
    end: state.end, holds: state.isMoving, skin: state.skin && state.skin.points, click: state.mode === "lesion" ? state.click : null,
    radius: state.radius, pointer: state.mode === "brush" ? state.pointer : null, words,
    strokes: state.strokes, half: (normal) => halfThickness(normal, scene.spacing, scene.axes),
  };
  for (const pane of panesOf()) draw(pane, told);
  if (!along.el.hidden) for (const pane of along.panes) draw(pane, { ...told, at: null });
}

const inWords = (mm) => {
  const [l, p, h] = mm.map((v) => v.toFixed(1).replace("-", "−"));
  return say("place", { l, p, h });
};

function where() {
  const at = state.at;
  $("where").textContent = inWords(at);
  stage.read(at).then((found) => {
    if (!found || at !== state.at) return;
    const parts = [inWords(at)];
    if (found.hu !== null) parts.push(say("hu", { hu: String(found.hu).replace("-", "−") }));
    if (found.names.length) parts.push(found.names.join(", "));
    $("where").textContent = parts.join(" · ");
  }).catch(() => {});
}

function setAt(mm) {
  const [low, high] = [scene.whole_low, scene.whole_high];
  state.at = mm.map((v, k) => Math.min(high[k], Math.max(low[k], v)));
  stage.setAt(state.at);
  if (beside) beside.setAt(state.at);
  where();
}

function setWindow(window) {
  state.window = window;
  stage.setWindow(window);
  if (beside) beside.setWindow(window);
  for (const [k, name] of ["centre", "width"].entries()) {
    $(name).value = window[k];
    $(`${name}-number`).value = window[k];
  }
  for (const button of document.querySelectorAll("[data-window]")) {
    button.setAttribute("aria-pressed", String(scene.windows[button.dataset.window].every((v, k) => v === window[k])));
  }
  showAlong();
}

// --- Needles ------------------------------------------------------------------------------------

let asking = false;
let again = false;

// Numbers of the needle as it lies now: one question at a time, the newest wins.
async function ask() {
  if (asking) { again = true; return; }
  const needle = state.needle;
  again = false;
  // A needle of the plan keeps the verdict it was kept with.
  if (!state.isMoving || !needle || !needle.entry || !needle.target || lengthOf(needle) < 1) return;
  asking = true;
  const late = setTimeout(() => unsure(needle), LATE_MS);
  root.dataset.asking = "yes";
  try {
    const began = performance.now();
    const told = await post(root.dataset.measure, {
      version: scene.version, entry: needle.entry, target: needle.target,
      gauge: Number($("gauge").value) || null, route: $("route").value || null,
    });
    root.dataset.measured = String(Math.round(performance.now() - began));
    if (state.needle === needle) {
      const { html, numbers, ...rest } = told;
      // The ends stay where the hand is; all else is as the server measured it.
      Object.assign(needle, rest, { entry: needle.entry, target: needle.target, index: needle.index });
      $("live").innerHTML = html;
      root.dataset.verdict = needle.verdict;
      for (const button of root.querySelectorAll("[data-act=keep-needle]")) button.disabled = !state.isMoving;
      if (!dragging) showAlong();
      marks();
      await solids();
    }
  } catch (error) {
    if (state.needle === needle) $("live").textContent = error.message;
    unsure(needle);
  } finally {
    clearTimeout(late);
    asking = false;
    root.dataset.asking = "no";
    if (again) ask();
  }
}

// Nothing is known of where the needle lies now: what was told of another place does not stay.
function unsure(needle) {
  if (!state.isMoving || state.needle !== needle) return;
  needle.verdict = "unknown";
  root.dataset.verdict = "unknown";
  const line = $("live").querySelector(".verdict");
  if (line) { line.className = "verdict unknown"; line.textContent = "? …"; }
  marks();
  solids();
}

// The server makes its maps of a version with the first question; it is asked before a hand waits.
function warm() {
  if (scene.version === null || root.dataset.warm === String(scene.version)) return;
  root.dataset.warm = String(scene.version);
  const at = scene.at;
  const { entry, target } = scene.needles[0] || { entry: add(at, [0, 60, 0]), target: at };
  post(root.dataset.measure, { version: scene.version, entry, target }).catch(() => {});
}

function showAlong() {
  const needle = state.needle;
  if (!needle || !needle.along || !state.window) { along.hide(); return; }
  along.show(needle.along, { picture: scene.picture, window: state.window, layers: state.layers });
}

// After the needle that is looked at has become another one.
function needled() {
  const needle = state.needle;
  hint();
  const work = $("work");
  if (work) {
    for (const name of ["keep-needle", "drop-needle"]) work.querySelector(`[data-act=${name}]`).disabled = !state.isMoving || (name === "keep-needle" && !(needle && needle.along));
    if (!state.isMoving) $("live").replaceChildren();
  }
  root.dataset.verdict = needle ? needle.verdict || "" : "";
  showAlong();
  marks();
  solids();
}

function choose(index, isMoving) {
  const of = scene.needles[index];
  state.needle = isMoving ? { ...of, was: String([of.entry, of.target]) } : of;
  state.isMoving = isMoving;
  state.setting = "";
  if (isMoving) {
    setMode("needle");
    $("why-needle").value = say("moved", { number: index + 1 });
    $("gauge").value = of.gauge ?? ""; // it stays the needle that was chosen
    if ($("gauge").value !== String(of.gauge)) $("gauge").value = "";
    $("route").value = of.route;
    if ($("route").value !== of.route) $("route").value = "";
  }
  setAt(of.target);
  unfold(index);
  needled();
  if (isMoving) ask();
}

function newNeedle() {
  setMode("needle");
  state.needle = { index: MINE, entry: null, target: null, outer: 2, verdict: "unknown" };
  state.isMoving = true;
  state.setting = "entry";
  state.end = "entry";
  $("why-needle").value = words.added;
  $("route").value = "";
  ends();
  state.needle.entry = state.needle.target = null;
  needled();
}

function moveEnd(end, mm) {
  const needle = state.needle;
  needle[end] = mm;
  if (end === "entry") needle.hub = null;
  if (!needle.entry || !needle.target) {
    // Half of a needle: the other end waits at the same place until it is set.
    needle.entry = needle.entry || mm;
    needle.target = needle.target || mm;
  }
  marks();
  if (lengthOf(needle) >= 1) ask();
}

// A click sets the end that waits for one.
function setEnd(mm) {
  const end = state.setting || state.end;
  if (!state.needle || !state.isMoving) return;
  if (state.needle.index === MINE && end === "entry" && !state.needle.along) state.needle.target = mm;
  moveEnd(end, mm);
  state.setting = end === "entry" && state.setting ? "target" : "";
  state.end = state.setting || end;
  ends();
  setAt(mm);
  hint();
}

function ends() {
  for (const button of document.querySelectorAll("[data-end]")) {
    button.setAttribute("aria-pressed", String(button.dataset.end === state.end));
  }
}

function dropNeedle() {
  state.isMoving = false;
  state.setting = "";
  state.needle = scene.needles[0] || null;
  needled();
}

async function keepNeedle() {
  const needle = state.needle;
  const isNew = needle.index === MINE;
  const number = isNew ? scene.needles.length : needle.index;
  await edit(root.dataset.needle, {
    entry: needle.entry, target: needle.target, replacing: isNew ? null : needle.index,
    gauge: Number($("gauge").value) || null, route: $("route").value || null, why: $("why-needle").value,
  }, () => {
    state.isMoving = false;
    state.needle = scene.needles[number] || scene.needles[0] || null;
    unfold(number);
    needled();
  });
}

// The numbers of one needle, and of no other, are unfolded.
function unfold(index) {
  for (const one of document.querySelectorAll("#side details[data-needle]")) one.open = one.dataset.needle === String(index);
}

// --- The lesion ---------------------------------------------------------------------------------

function clickLesion(mm) {
  state.click = mm;
  $("click-at").textContent = inWords(mm);
  root.querySelector("[data-act=outline]").disabled = false;
  setAt(mm);
}

function paint() {
  const isDrawing = state.strokes.length > 0;
  stage.paint(isDrawing ? state.strokes : null);
  const work = $("work");
  if (!work) return;
  $("strokes").textContent = String(state.strokes.length);
  for (const name of ["keep-strokes", "undo-stroke", "clear-strokes"]) work.querySelector(`[data-act=${name}]`).disabled = !isDrawing;
  root.dataset.strokes = String(state.strokes.length);
}

function stroke(pane, mm) {
  state.strokes.push({ points: [mm], normal: pane.placed.normal, radius: state.radius, adds: state.pen });
  paint();
  marks();
}

async function keepStrokes() {
  const strokes = state.strokes;
  await edit(root.dataset.brush, { strokes, why: $("why-brush").value }, () => { state.strokes = []; paint(); });
}

// --- Work of minutes ----------------------------------------------------------------------------

async function submit(address, body) {
  const bar = $("job");
  delete bar.dataset.state; // that of the work before
  try {
    const told = await post(address, { ...body, version: scene.version, parent: scene.last });
    job = told.job;
  } catch (error) {
    if (error.status === 409 && error.told.conflict) { await refresh(); ask(); notice(say("conflict", error.told.conflict), "stop"); } else notice(say("failed", { why: error.message }), "stop");
    return;
  }
  bar.hidden = false;
  bar.querySelector("[data-see]").hidden = true;
  bar.querySelector("[data-act=stop-job]").hidden = false;
  follow(job);
}

async function follow(address) {
  const bar = $("job");
  const text = bar.querySelector("p");
  for (;;) {
    let told;
    try {
      const answer = await fetch(`${address}?json`, { credentials: "same-origin" });
      if (answer.redirected || (answer.status >= 400 && answer.status < 500)) { // asking again is no use
        if (job === address) { text.textContent = words.lost; bar.dataset.state = "lost"; }
        return;
      }
      told = await answer.json();
    } catch (error) {
      await new Promise((done) => { setTimeout(done, 2000); });
      continue;
    }
    if (job !== address) return;
    const percent = Math.round(100 * told.fraction);
    const far = told.seconds_left > 90;
    const left = told.seconds_left ? `, ${far ? say("left_min", { minutes: Math.round(told.seconds_left / 60) }) : say("left", { seconds: Math.round(told.seconds_left) })}` : "";
    text.textContent = told.step ? say("working", { step: told.step, percent }) + left : words.waits;
    bar.querySelector("progress").value = told.fraction;
    if (!["waiting", "running"].includes(told.state)) { await ended(told, address); return; }
    await new Promise((done) => { setTimeout(done, 700); });
  }
}

async function ended(told, address) {
  const bar = $("job");
  const text = bar.querySelector("p");
  const see = bar.querySelector("[data-see]");
  bar.querySelector("[data-act=stop-job]").hidden = true;
  bar.querySelector("progress").value = told.state === "done" ? 1 : 0;
  bar.dataset.state = told.state;
  if (told.state !== "done") { text.textContent = say("stopped", { why: told.error || told.state }); return; }
  const waits = told.result && told.result.waiting;
  text.textContent = waits ? words.waiting : words.done;
  if (waits || (told.target && told.result && !told.result.number)) {
    see.hidden = false;
    see.href = waits ? address : told.target;
    see.textContent = words.see;
  }
  if (!waits) {
    if (told.result && told.result.number) {
      state.click = null;
      if (!state.isMoving && !state.strokes.length) state.at = null;
    }
    await looked();
  }
}

// --- Hands on the panes -------------------------------------------------------------------------

let dragging = null;

function pointed(pane, event) {
  const box = pane.el.getBoundingClientRect();
  const px = [event.clientX - box.left - pane.el.clientLeft, event.clientY - box.top - pane.el.clientTop];
  return { px, mm: pane.placed.toMm(...px) };
}

// A point of the picture at the depth that an end already has.
const atDepth = (pane, mm, of) => add(mm, pane.placed.normal, pane.placed.height(of) - pane.placed.height(mm));

function down(pane, event, own) {
  if (!pane.placed || event.target.closest("button")) return;
  const { px, mm } = pointed(pane, event);
  own.el.focus({ preventScroll: true });
  event.preventDefault();
  pane.el.setPointerCapture(event.pointerId);
  if (event.button === 2) { dragging = { kind: "window", pane, from: px, window: state.window }; return; }
  if (own.pan && (event.button === 1 || event.shiftKey)) { dragging = { kind: "pan", pane, own, last: mm }; return; }
  const isPlanned = own !== beside; // nothing is planned on the CT afterwards
  if (isPlanned && state.mode === "needle" && state.isMoving) {
    const end = state.setting || !state.needle.target ? "" : endAt(pane.placed, state.needle, ...px);
    if (end) { state.end = end; ends(); dragging = { kind: "end", pane, end }; marks(); return; }
    if (state.setting) { setEnd(mm); return; }
  }
  if (isPlanned && state.mode === "lesion") { clickLesion(mm); return; }
  if (state.mode === "brush" && own === stage) { stroke(pane, mm); dragging = { kind: "brush", pane }; return; }
  dragging = { kind: "look", pane };
  setAt(mm);
}

function move(pane, event) {
  if (!pane.placed) return;
  if (!dragging || dragging.pane !== pane) {
    if (state.mode === "brush") { state.pointer = { pane, mm: pointed(pane, event).mm }; marks(); }
    return;
  }
  const { px, mm } = pointed(pane, event);
  if (dragging.kind === "look") setAt(mm);
  if (dragging.kind === "pan") {
    dragging.own.pan(sub(mm, dragging.last));
    dragging.last = pointed(pane, event).mm;
  }
  if (dragging.kind === "end") moveEnd(dragging.end, atDepth(pane, mm, state.needle[dragging.end]));
  if (dragging.kind === "brush") {
    state.pointer = { pane, mm };
    const points = state.strokes[state.strokes.length - 1].points;
    const step = sub(mm, points[points.length - 1]);
    if (Math.sqrt(dot(step, step)) >= state.radius / 4) { points.push(mm); paint(); }
    marks();
  }
  if (dragging.kind === "window") {
    const [x, y] = [px[0] - dragging.from[0], px[1] - dragging.from[1]];
    setWindow([Math.round(dragging.window[0] - 3 * y), Math.max(20, Math.round(dragging.window[1] + 4 * x))]);
  }
}

function up() {
  const was = dragging;
  dragging = null;
  if (was && was.kind === "end") { showAlong(); ask(); }
}

function wheeled(pane, event, own) {
  if (!pane.placed) return;
  event.preventDefault();
  if (event.ctrlKey) { own.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15); return; }
  page(pane, Math.sign(event.deltaY));
}

// One slice on: the way into the picture.
function page(pane, step) {
  const { normal } = pane.placed;
  setAt(add(state.at, normal, 2 * step * halfThickness(normal, scene.spacing, scene.axes)));
}

function handled(pane, own) {
  pane.el.addEventListener("pointerdown", (event) => down(pane, event, own));
  pane.el.addEventListener("pointermove", (event) => move(pane, event));
  pane.el.addEventListener("pointerup", up);
  pane.el.addEventListener("pointercancel", up);
  pane.el.addEventListener("pointerleave", () => { if (state.pointer && !dragging) { state.pointer = null; marks(); } });
  pane.el.addEventListener("contextmenu", (event) => event.preventDefault());
  if (own.zoom) pane.el.addEventListener("wheel", (event) => wheeled(pane, event, own), { passive: false });
  if (own.zoom) pane.el.addEventListener("dblclick", () => one(pane.plane));
}

// --- Keys ---------------------------------------------------------------------------------------

const WAYS = {
  ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const way = WAYS[event.key];
  if (way) {
    event.preventDefault();
    const step = event.shiftKey ? 0.2 : 1;
    if (state.mode === "needle" && state.isMoving && state.needle.entry && state.needle.target && !state.setting) {
      const mm = add(state.needle[state.end], way, step);
      moveEnd(state.end, mm);
      setAt(mm);
      if (!asking) showAlong();
    } else {
      setAt(add(state.at, way, step));
    }
    return;
  }
  const key = event.key.toLowerCase();
  const acts = {
    1: () => setMode("look"), 2: () => setMode("lesion"), 3: () => setMode("brush"), 4: () => setMode("needle"),
    b: () => setWindow(scene.windows.bone), s: () => setWindow(scene.windows.soft),
    n: () => $("work") && scene.editable && newNeedle(), e: () => { state.end = "entry"; ends(); marks(); }, t: () => { state.end = "target"; ends(); marks(); },
    ",": () => solid && solid.turn(-15), ".": () => solid && solid.turn(15),
    "+": () => stage.zoom(1.25), "=": () => stage.zoom(1.25), "-": () => stage.zoom(0.8), m: () => one(""), "?": help,
    "[": () => setRadius(state.radius - 0.5), "]": () => setRadius(state.radius + 0.5), x: () => setPen(!state.pen), u: undoStroke, enter: entered,
  };
  if (!acts[key]) return;
  event.preventDefault();
  acts[key]();
}

function entered() {
  if (state.mode === "lesion") clickLesion(state.at);
  if (state.mode === "needle" && state.isMoving) setEnd(state.at);
  if (state.mode === "brush") stroke(stage.panes.find((p) => p.placed), state.at);
}

// --- Tools --------------------------------------------------------------------------------------

function setMode(mode) {
  if (mode !== "look" && (!$("work") || !scene.editable)) return;
  if (mode === "brush" && scene.version === null) return;
  if (mode === "needle" && scene.version === null) return;
  state.mode = mode;
  root.dataset.mode = mode;
  for (const button of document.querySelectorAll("[data-mode]")) {
    if (button !== root) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }
  for (const part of document.querySelectorAll("#work [data-for]")) part.hidden = part.dataset.for !== mode;
  if (mode === "needle") warm();
  hint();
  marks();
}

function hint() {
  if (!$("hint")) return;
  const told = { look: words.look, lesion: words.click_lesion, brush: words.brush };
  let text = told[state.mode];
  if (state.mode === "needle") {
    text = state.setting ? words[`set_${state.setting}`] : state.isMoving ? words.drag : words.pick_needle;
  }
  $("hint").textContent = text;
}

function setRadius(mm) {
  state.radius = Math.min(15, Math.max(0.5, mm));
  $("radius").value = state.radius;
  $("radius-number").textContent = state.radius.toFixed(1);
  marks();
}

function setPen(adds) {
  state.pen = adds;
  for (const button of document.querySelectorAll("[data-pen]")) button.setAttribute("aria-pressed", String((button.dataset.pen === "add") === adds));
}

function undoStroke() {
  state.strokes.pop();
  paint();
  marks();
}

function help() {
  const box = $("help");
  box.hidden = !box.hidden;
  root.querySelector("[data-view=help]").setAttribute("aria-expanded", String(!box.hidden));
}

// One pane over the whole stage, then the next, then all of them again.
function one(plane) {
  const stages = $("stages");
  const order = ["axial", "coronal", "sagittal", ...(solid ? ["solid"] : []), ""];
  const now = stages.dataset.one || "";
  const next = plane ? (now ? "" : plane) : order[(order.indexOf(now) + 1) % order.length];
  stages.dataset.one = next;
  if (!next) delete stages.dataset.one;
  root.querySelector("[data-view=one]").setAttribute("aria-pressed", String(Boolean(next)));
  resized();
}

function resized() {
  stage.resize();
  if (beside && !$("beside").hidden) beside.resize();
  if (solid) solid.resize();
  showAlong();
  marks();
}

async function showSkin(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  state.skin = null;
  if (root.dataset.told === "skin") notice("");
  const { version } = scene;
  if (on && version !== null) {
    try {
      const answer = await fetch(`${root.dataset.skin}?version=${version}`, { credentials: "same-origin" });
      const told = await answer.json();
      if (version !== scene.version || button.getAttribute("aria-pressed") !== "true") {
        button.setAttribute("aria-pressed", "false");
        return; // of what is not looked at any more
      }
      if (!answer.ok) throw new Error(told.error || "");
      const by = { stop: [], caution: [], ok: [] };
      const points = told.points.map((mm, k) => ({ mm, verdict: told.names[told.verdicts[k]] }));
      for (const point of points) by[point.verdict].push(point.mm);
      state.skin = { points, by, stamp: String(version) };
      notice(say("reading", { ok: by.ok.length + by.caution.length, all: points.length }), "note");
      root.dataset.told = "skin";
    } catch (error) {
      button.setAttribute("aria-pressed", "false");
      notice(say("failed", { why: error.message }), "stop");
    }
  }
  drawLayers();
  marks();
  await solids();
}

async function openBeside() {
  const of = scene.after.find((a) => a.image === $("after-image").value) || scene.after[0];
  if (!of) return;
  $("registered").textContent = of.registered ? words.registered : words.not_registered;
  // Laid bone on bone it is another picture of the same CT.
  await beside.open(scene, { ct: of.ct, picture: of.picture, image: `${of.image} ${of.registered}` });
}

async function showBeside(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  $("beside").hidden = !on;
  $("stages").classList.toggle("two", on);
  if (on && !beside) {
    beside = makeStage($("after-stage"));
    for (const pane of beside.panes) handled(pane, beside);
    beside.onDraw = marks;
  }
  resized();
  if (on) {
    beside.at = state.at;
    await openBeside();
    beside.setWindow(state.window);
    await beside.setLayers(state.layers).catch((error) => notice(say("failed", { why: error.message }), "stop"));
    beside.setAt(state.at);
    resized();
  }
  $("beside").dataset.state = "ready";
}

async function showWhole(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  await stage.showWhole(on);
  paint();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !root.contains(button)) return;
  const { act, mode, view, pen, end, index } = button.dataset;
  if (button.dataset.step) {
    const pane = panesOf().find((p) => p.el.contains(button));
    if (pane && pane.placed) page(pane, Number(button.dataset.step));
    return;
  }
  if (button.dataset.window) setWindow(scene.windows[button.dataset.window]);
  if (mode) setMode(mode);
  if (pen) setPen(pen === "add");
  if (end) { state.end = end; if (state.setting) state.setting = end; ends(); hint(); marks(); if (state.needle && state.needle[end]) setAt(state.needle[end]); }
  const views = {
    one: () => one(""), whole: () => showWhole(button), after: () => showBeside(button), skin: () => showSkin(button), help,
    "zoom-in": () => stage.zoom(1.25), "zoom-out": () => stage.zoom(0.8),
  };
  if (view) views[view]();
  const number = Number(index) + 1;
  const acts = {
    choose: () => choose(Number(index), false), move: () => choose(Number(index), true),
    prefer: () => edit(root.dataset.prefer, { index: Number(index), why: reason(say("preferred", { number })) }, () => choose(0, false)),
    remove: () => edit(root.dataset.remove, { index: Number(index), why: reason(say("removed", { number })) }, dropNeedle),
    "new-needle": newNeedle, "keep-needle": keepNeedle, "drop-needle": dropNeedle,
    "keep-strokes": keepStrokes, "undo-stroke": undoStroke, "clear-strokes": () => { state.strokes = []; paint(); marks(); },
    outline: () => submit(root.dataset.outline, { image: scene.image, click: state.click, site: $("site").value, why: $("why-lesion").value }),
    "stop-job": () => fetch(`${job}cancel/`, { method: "POST", credentials: "same-origin", headers: { "X-CSRFToken": token } }),
  };
  if (act) acts[act]();
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!root.contains(form)) return;
  if (form.dataset.compute) {
    event.preventDefault();
    const given = {};
    for (const [name, value] of new FormData(form)) {
      const other = form.elements[name].dataset.else; // the reason of who writes none
      given[name] = value === "" && other ? other : form.elements[name].type === "number" ? (value === "" ? null : Number(value)) : value;
    }
    await submit(root.dataset.compute.replace("/kind/", `/${form.dataset.compute}/`), given);
  } else if (form.id === "versions") {
    event.preventDefault();
    await looked(new FormData(form).get("version"));
  } else if (form.dataset.post !== undefined) {
    event.preventDefault();
    const answer = await fetch(form.action, { method: "POST", credentials: "same-origin", body: new FormData(form), redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.ok) { notice(""); await looked(); } else {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const why = page.querySelector("[role=alert]");
      notice(say("failed", { why: why ? why.textContent : String(answer.status) }), "stop");
      await refresh();
    }
  }
});

// What was written beside the list of needles, else what is done.
const reason = (done) => ($("why-list") && $("why-list").value.trim()) || done;

function makeStage(el) {
  return lib ? new NiivueStage(el, words, lib) : new StillStage(el, words);
}

function noSolid() {
  const pane = document.createElement("div");
  pane.className = "pane empty";
  pane.textContent = words.no_solid;
  $("stage").append(pane);
}

async function start() {
  const isThere = Boolean(root.dataset.viewer);
  if (isThere && hasWebGL()) {
    notice(words.loading, "note");
    lib = await program(root.dataset.viewer).catch(() => null);
  }
  root.dataset.drawn = lib ? "niivue" : "still";
  notice(lib ? "" : isThere ? words.no_webgl : words.no_viewer);
  stage = makeStage($("stage"));
  if (lib) solid = new Solid($("stage"), words, lib);
  else noSolid();
  for (const pane of stage.panes) handled(pane, stage);
  for (const pane of along.panes) handled(pane, { el: $("stage") });
  stage.onDraw = () => { marks(); };
  state.at = scene.at;
  stage.at = scene.at;
  setWindow(scene.windows.bone);
  $("stage").addEventListener("keydown", keyed);
  for (const name of ["centre", "width"]) {
    const read = (box) => setWindow(name === "centre" ? [Number(box.value), state.window[1]] : [state.window[0], Math.max(20, Number(box.value))]);
    $(name).addEventListener("input", () => read($(name)));
    $(`${name}-number`).addEventListener("change", () => read($(`${name}-number`)));
  }
  if ($("work")) {
    $("radius").addEventListener("input", () => setRadius(Number($("radius").value)));
    for (const name of ["gauge", "route"]) $(name).addEventListener("change", ask);
  }
  if ($("after-image")) $("after-image").addEventListener("change", async () => { await openBeside(); resized(); });
  new ResizeObserver(resized).observe($("stages"));
  window.addEventListener("beforeunload", (event) => { if (state.strokes.length || state.isMoving) event.preventDefault(); });
  setMode("look");
  await shown();
  where();
}

start().catch((error) => {
  notice(say("failed", { why: error.message }), "stop");
  root.dataset.state = "failed";
});
