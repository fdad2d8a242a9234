// Panes of pictures that the server draws: where there is no WebGL, and along the needle always.
import { Placed, add, dot, sub } from "./bench-geometry.js";
import { makeHead, makeSvg } from "./bench-marks.js";

const PLANES = ["axial", "coronal", "sagittal"];
const LEAST_PX = 32;
const MOST_PX = 640;

// One square picture; the newest asked for wins, at most one is under way.
class Still {
  constructor(parent, plane, words) {
    this.el = document.createElement("div");
    this.el.className = "pane still-pane";
    this.el.dataset.plane = plane;
    this.plane = plane;
    this.img = document.createElement("img");
    this.img.alt = words[plane];
    this.el.append(this.img);
    this.svg = makeSvg(this.el);
    if (PLANES.includes(plane)) makeHead(this.el, plane, words);
    else this.title(words[plane]);
    this.hasLetters = true;
    parent.append(this.el);
    this.wanted = "";
    this.shown = "";
    for (const kind of ["load", "error"]) this.img.addEventListener(kind, () => this.next());
  }
  title(word) {
    const title = document.createElement("span");
    title.className = "pane-title";
    title.textContent = word;
    this.el.append(title);
  }
  measure() {
    this.width = this.el.clientWidth;
    this.height = this.el.clientHeight;
    this.size = Math.min(this.width, this.height);
  }
  place(cut) {
    const scale = this.size / cut.side;
    this.cut = cut;
    this.box = [(this.width - this.size) / 2, (this.height - this.size) / 2, (this.width + this.size) / 2, (this.height + this.size) / 2];
    this.placed = new Placed({ origin: cut.centre, right: cut.right, down: cut.down, x: this.width / 2, y: this.height / 2, scale });
  }
  show(address) {
    this.wanted = address;
    if (!this.busy) this.load();
  }
  load() {
    if (this.wanted === this.shown) return;
    this.busy = true;
    this.shown = this.wanted;
    this.img.src = this.wanted;
  }
  next() {
    this.busy = false;
    this.el.dataset.state = "drawn";
    this.load();
  }
}

function addressOf(base, cut, { px, window, layers, of }) {
  const told = new URLSearchParams();
  const text = (v) => v.map((c) => c.toFixed(3)).join(",");
  told.set("centre", text(cut.centre));
  told.set("right", cut.right.map((c) => c.toFixed(6)).join(","));
  told.set("down", cut.down.map((c) => c.toFixed(6)).join(","));
  told.set("side", cut.side.toFixed(3));
  told.set("px", String(Math.max(64, Math.min(MOST_PX, Math.round(px)))));
  told.set("window", window.join(","));
  told.set("layers", layers.filter((l) => l.on).map((l) => `${l.key}:${l.opacity.toFixed(2)}`).join(","));
  if (of) told.set("of", of); // the server draws by what is kept; a browser takes another picture
  return `${base}?${told}`;
}

// What lies at a point, by the server from the CT itself; null when a newer question was asked.
export async function told(stage, mm) {
  const asked = (stage.asked = (stage.asked || 0) + 1);
  await new Promise((done) => { setTimeout(done, 120); });
  if (asked !== stage.asked) return null;
  const layers = (stage.layers || []).filter((l) => l.on).map((l) => `${l.key}:1`).join(",");
  const given = new URLSearchParams({ at: mm.map((v) => v.toFixed(3)).join(","), layers });
  const answer = await fetch(`${stage.picture.replace(/\.png$/, ".json")}?${given}`, { credentials: "same-origin" });
  return asked === stage.asked && answer.ok ? answer.json() : null;
}

// Three planes of one CT, with the calls of the WebGL stage.
export class StillStage {
  constructor(el, words) {
    this.el = el;
    this.el.classList.add("still");
    this.panes = PLANES.map((plane) => new Still(el, plane, words));
    this.onDraw = () => {};
    this.zoomed = 1;
  }
  async open(scene, { picture, image }) {
    this.scene = scene;
    this.of = image;
    this.picture = picture || scene.picture;
    this.setWhole(this.whole || false);
    this.at = this.at || scene.at;
    this.layers = [];
  }
  setWhole(whole) {
    this.whole = whole;
    const [low, high] = whole ? [this.scene.whole_low, this.scene.whole_high] : [this.scene.low, this.scene.high];
    this.middle = low.map((v, k) => (v + high[k]) / 2);
    this.wide = Math.max(...low.map((v, k) => high[k] - v)) * 1.02;
  }
  cutOf(plane) {
    const base = this.scene.panes[plane];
    const normal = [0, 1, 2].map((k) => (Math.abs(base.right[k]) + Math.abs(base.down[k]) < 0.5 ? 1 : 0));
    const centre = this.zoomed > 1 ? this.looked || this.at : this.middle;
    return { right: base.right, down: base.down, side: this.wide / this.zoomed, centre: add(centre, normal, dot(sub(this.at, centre), normal)) };
  }
  setAt(mm) { this.at = mm; this.render(); }
  setWindow(window) { this.window = window; this.render(); }
  async setLayers(layers) { this.layers = layers; this.render(); }
  zoom(factor) {
    this.zoomed = Math.min(12, Math.max(1, this.zoomed * factor));
    this.looked = this.zoomed > 1 ? this.at : null;
    this.render();
  }
  pan(mm) { if (this.zoomed > 1) { this.looked = add(this.looked || this.at, mm, -1); this.render(); } }
  async showWhole(whole) { this.setWhole(whole); this.render(); }
  read(mm) { return told(this, mm); }
  paint() {}
  resize() { this.render(); }
  render() {
    if (!this.window || !this.layers) return;
    for (const pane of this.panes) {
      pane.measure();
      if (pane.size < LEAST_PX) continue; // not shown, or not laid out yet
      pane.place(this.cutOf(pane.plane));
      pane.show(addressOf(this.picture, pane.cut, { px: pane.size * devicePixelRatio, window: this.window, layers: this.layers, of: this.of }));
    }
    this.onDraw();
  }
}

// The two cuts that hold a needle.
export class Along {
  constructor(el, words) {
    this.el = el;
    this.panes = [0, 1].map((k) => new Still(el, `along${k}`, words));
  }
  show(cuts, { picture, window, layers }) {
    this.el.hidden = false;
    this.panes.forEach((pane, k) => {
      pane.measure();
      if (pane.size < LEAST_PX) return;
      pane.place(cuts[k]);
      pane.show(addressOf(picture, cuts[k], { px: pane.size * devicePixelRatio, window, layers }));
    });
  }
  hide() { this.el.hidden = true; }
}
