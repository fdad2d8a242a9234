// Panes that niivue draws: three planes on one canvas, and surfaces in three dimensions on another.
import { Placed, ras } from "./bench-geometry.js";
import { makeHead, makeSvg } from "./bench-marks.js";
import { told } from "./bench-still.js";

const PLANES = ["axial", "coronal", "sagittal"];
// Which axes of RAS lie across and up a tile of niivue's.
const TILE_AXES = { axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0] };
const BACK = [0.05, 0.06, 0.08, 1];

export function hasWebGL() {
  try {
    const canvas = document.createElement("canvas");
    const gl = canvas.getContext("webgl2");
    if (!gl) return false;
    const lose = gl.getExtension("WEBGL_lose_context");
    if (lose) lose.loseContext();
    return true;
  } catch (error) {
    return false;
  }
}

export async function program(address) {
  if (window.niivue) return window.niivue;
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.addEventListener("load", resolve);
    script.addEventListener("error", reject);
    script.src = address;
    document.head.append(script);
  });
  return window.niivue;
}

async function file(address, name) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) throw new Error(`${answer.status}`);
  return new File([await answer.blob()], name);
}

function labelColours(regions) {
  const map = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const region of regions) {
    map.R.push(region.colour[0]);
    map.G.push(region.colour[1]);
    map.B.push(region.colour[2]);
    map.A.push(255);
    map.I.push(region.number);
    map.labels.push(region.name);
  }
  return map;
}

export class NiivueStage {
  constructor(el, words, lib) {
    this.el = el;
    this.lib = lib;
    this.words = words;
    this.onDraw = () => {};
    this.canvas = document.createElement("canvas");
    this.canvas.className = "gl";
    this.canvas.setAttribute("aria-hidden", "true");
    el.prepend(this.canvas);
    this.panes = PLANES.map((plane) => {
      const pane = document.createElement("div");
      pane.className = "pane";
      pane.dataset.plane = plane;
      el.append(pane);
      const svg = makeSvg(pane);
      makeHead(pane, plane, words);
      return { el: pane, plane, svg };
    });
    this.images = new Map(); // stamp of a layer -> its NVImage, null while it comes
    this.zoomed = 1;
  }
  async open(scene, { ct, picture, image }) {
    const lib = this.lib;
    this.scene = scene;
    this.picture = picture || scene.picture;
    this.addresses = ct || scene.ct;
    // The same part of the same CT is not fetched again for another version.
    this.part = `${image || scene.image} ${scene.low} ${scene.high}`;
    this.at = this.at || scene.at;
    if (!this.nv) {
      this.nv = new lib.Niivue({
        backColor: BACK, crosshairWidth: 0, isRadiologicalConvention: true, sagittalNoseLeft: true,
        isSliceMM: true, isOrientationTextVisible: false, dragAndDropEnabled: false, interactive: false,
        multiplanarShowRender: lib.SHOW_RENDER.NEVER, isResizeCanvas: false, logLevel: "silent",
        isNearestInterpolation: false, loadingText: "",
      });
      this.nv.drawOpacity = 0.5;
      await this.nv.attachToCanvas(this.canvas);
      this.canvas.tabIndex = -1;
      const draw = this.nv.drawScene.bind(this.nv);
      this.nv.drawScene = () => { const out = draw(); this.placeAll(); return out; };
    }
    await this.load();
  }
  wanted() { return `${this.part} ${Boolean(this.whole)}`; }
  async load() {
    const address = typeof this.addresses === "string" ? this.addresses : this.addresses[this.whole ? "whole" : "around"];
    const wanted = this.wanted();
    if (wanted === this.loaded) return;
    const came = await file(address, "ct.nii.gz");
    const image = await this.lib.NVImage.loadFromFile({ file: came, name: "ct.nii.gz", colormap: "gray", trustCalMinMax: false });
    if (wanted !== this.wanted() || wanted === this.loaded) return; // it came too late, or twice
    while (this.nv.volumes.length) this.nv.removeVolume(this.nv.volumes[0]);
    this.images.clear();
    this.nv.drawBitmap = null;
    this.loaded = wanted;
    this.ct = image;
    this.nv.addVolume(image);
    this.grid = null;
    this.resize();
    if (this.window) this.setWindow(this.window);
    if (this.layers) await this.setLayers(this.layers);
    this.setAt(this.at);
  }
  async showWhole(whole) {
    this.whole = whole;
    this.zoomed = 1;
    this.looked = null;
    if (typeof this.addresses !== "string") await this.load();
  }
  setAt(mm) {
    this.at = mm;
    if (!this.ct) return;
    this.nv.scene.crosshairPos = this.nv.mm2frac(ras(mm));
    this.nv.drawScene();
  }
  setWindow(window) {
    this.window = window;
    if (!this.ct) return;
    this.ct.cal_min = window[0] - window[1] / 2;
    this.ct.cal_max = window[0] + window[1] / 2;
    this.nv.updateGLVolume();
  }
  async setLayers(layers) {
    this.layers = layers;
    if (!this.ct) return;
    const wanted = new Set(layers.map((l) => l.stamp));
    for (const [stamp, image] of this.images) {
      if (!wanted.has(stamp) && image) { this.nv.removeVolume(image); this.images.delete(stamp); }
    }
    for (const layer of layers) {
      if (layer.on && !this.images.has(layer.stamp)) {
        this.images.set(layer.stamp, null);
        const loaded = this.loaded;
        try {
          const came = await file(layer.url, "layer.nii.gz");
          const image = await this.lib.NVImage.loadFromFile({ file: came, name: "layer.nii.gz", opacity: layer.opacity });
          image.setColormapLabel(labelColours(layer.regions));
          if (loaded !== this.loaded) continue; // another CT came meanwhile, with its layers
          if (!this.layers.some((l) => l.stamp === layer.stamp)) { this.images.delete(layer.stamp); continue; }
          this.images.set(layer.stamp, image);
          this.nv.addVolume(image);
        } catch (error) {
          this.images.delete(layer.stamp);
          throw error;
        }
      }
      const image = this.images.get(layer.stamp);
      const now = this.layers.find((l) => l.stamp === layer.stamp); // it may have changed since
      if (image && now) image.opacity = now.on ? now.opacity : 0;
    }
    this.nv.updateGLVolume();
  }
  async read(mm) {
    if (!this.ct) return null;
    // Voxels that were joined and rounded to be sent are not the CT's.
    if (this.whole || this.scene.reduced) return told(this, mm);
    return { hu: this.hu(mm), names: this.names(mm) };
  }
  // The names of what lies at a point, of the layers that are shown.
  names(mm) {
    const out = [];
    for (const layer of this.layers || []) {
      const image = layer.on && this.images.get(layer.stamp);
      if (!image) continue;
      const vox = image.mm2vox(ras(mm));
      const value = inside(vox, image) ? image.getValue(vox[0], vox[1], vox[2]) : 0;
      const region = layer.regions.find((r) => r.number === Math.round(value));
      if (region) out.push(layer.alone ? region.name : `${layer.title}: ${region.name}`);
    }
    return out;
  }
  hu(mm) {
    const vox = this.ct.mm2vox(ras(mm));
    return inside(vox, this.ct) ? Math.round(this.ct.getValue(vox[0], vox[1], vox[2])) : null;
  }
  zoom(factor) {
    this.zoomed = Math.min(12, Math.max(1, this.zoomed * factor));
    this.looked = this.zoomed > 1 ? this.at : null;
    this.frame();
  }
  pan(mm) {
    if (this.zoomed <= 1) return;
    this.looked = this.looked.map((v, k) => v - mm[k]);
    this.frame();
  }
  // What is in the middle: the zoom of niivue is about the origin of the scanner.
  frame() {
    const z = this.zoomed;
    const low = this.nv.volumeObject3D.extentsMin;
    const high = this.nv.volumeObject3D.extentsMax;
    const centre = z > 1 ? ras(this.looked) : null;
    const pan = [0, 1, 2].map((k) => (centre ? (low[k] + high[k]) / 2 - centre[k] * z : 0));
    this.nv.setPan2Dxyzmm([...pan, z]);
  }
  resize() {
    if (!this.nv) return;
    const own = this.el.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.el.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.el.clientHeight * ratio));
    const layout = [];
    for (const pane of this.panes) {
      const r = pane.el.getBoundingClientRect();
      pane.width = r.width;
      pane.height = r.height;
      pane.left = r.left - own.left - this.el.clientLeft;
      pane.top = r.top - own.top - this.el.clientTop;
      pane.placed = null;
      if (r.width < 2) continue;
      layout.push({ sliceType: PLANES.indexOf(pane.plane), position: [pane.left / this.el.clientWidth, pane.top / this.el.clientHeight, r.width / this.el.clientWidth, r.height / this.el.clientHeight] });
    }
    this.nv.uiData.dpr = ratio;
    this.nv.setCustomLayout(layout);
  }
  // Where niivue has put each tile, read back from it: letters and clicks follow the picture.
  placeAll() {
    const ratio = window.devicePixelRatio || 1;
    for (const pane of this.panes) {
      const tile = this.nv.screenSlices.find((s) => s.axCorSag === PLANES.indexOf(pane.plane));
      pane.placed = null;
      if (!tile || !tile.fovMM || pane.width < 2) continue;
      const [across, up, deep] = TILE_AXES[pane.plane];
      let [left, top, wide, high] = tile.leftTopWidthHeight;
      const isFlipped = wide < 0;
      if (isFlipped) { left += wide; wide = -wide; }
      const right = [0, 0, 0];
      const down = [0, 0, 0];
      const lps = [-1, -1, 1];
      right[across] = lps[across] * (isFlipped ? -1 : 1) * Math.sign(tile.fovMM[0]);
      down[up] = -lps[up] * Math.sign(tile.fovMM[1]);
      const corner = [0, 0, 0]; // RAS of the tile's upper left
      corner[across] = tile.leftTopMM[0] + (isFlipped ? tile.fovMM[0] : 0);
      corner[up] = tile.leftTopMM[1] + tile.fovMM[1];
      corner[deep] = ras(this.at)[deep];
      pane.box = [left / ratio - pane.left, top / ratio - pane.top, (left + wide) / ratio - pane.left, (top + high) / ratio - pane.top];
      pane.placed = new Placed({ origin: ras(corner), right, down, x: pane.box[0], y: pane.box[1], scale: wide / ratio / Math.abs(tile.fovMM[0]) });
    }
    this.onDraw();
  }
  // --- the brush: which voxels of the CT are lesion, as a drawing over it ---
  // Step and origin of the drawing's voxels, whose order is niivue's own.
  drawingGrid() {
    if (this.grid) return this.grid;
    const dims = this.nv.back.dims.slice(1, 4);
    const mm = (v) => { const p = this.nv.frac2mm(this.nv.vox2frac(v)); return [-p[0], -p[1], p[2]]; };
    const origin = mm([0, 0, 0]);
    const far = [0, 1, 2].map((k) => mm([0, 1, 2].map((j) => (j === k ? Math.max(1, dims[k] - 1) : 0))));
    const steps = far.map((p, k) => p.map((v, j) => (v - origin[j]) / Math.max(1, dims[k] - 1)));
    this.grid = { dims, origin, steps };
    return this.grid;
  }
  // Which voxels hold the lesion now, from its layer.
  lesionBitmap() {
    const { dims, origin, steps } = this.drawingGrid();
    const out = new Uint8Array(dims[0] * dims[1] * dims[2]);
    const layer = (this.layers || []).find((l) => l.kind === "lesion");
    const image = layer && this.images.get(layer.stamp);
    if (!image) return out;
    // Only where the lesion's own box lies: the CT has millions of voxels.
    const own = image.hdr.dims.slice(1, 4);
    const affine = image.hdr.affine;
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    const sizes = steps.map((s) => Math.hypot(...s));
    for (let corner = 0; corner < 8; corner += 1) {
      const v = [0, 1, 2].map((k) => ((corner >> k) & 1 ? own[k] - 1 : 0));
      const p = [0, 1, 2].map((r) => affine[r][0] * v[0] + affine[r][1] * v[1] + affine[r][2] * v[2] + affine[r][3]);
      const d = [-p[0] - origin[0], -p[1] - origin[1], p[2] - origin[2]];
      for (let k = 0; k < 3; k += 1) {
        const i = (d[0] * steps[k][0] + d[1] * steps[k][1] + d[2] * steps[k][2]) / (sizes[k] * sizes[k]);
        low[k] = Math.max(0, Math.min(low[k], Math.floor(i) - 1));
        high[k] = Math.min(dims[k] - 1, Math.max(high[k], Math.ceil(i) + 1));
      }
    }
    for (let z = low[2]; z <= high[2]; z += 1) {
      for (let y = low[1]; y <= high[1]; y += 1) {
        for (let x = low[0]; x <= high[0]; x += 1) {
          const p = [0, 1, 2].map((j) => origin[j] + x * steps[0][j] + y * steps[1][j] + z * steps[2][j]);
          const vox = image.mm2vox(ras(p));
          if (inside(vox, image) && image.getValue(vox[0], vox[1], vox[2]) > 0) out[x + dims[0] * (y + dims[1] * z)] = 1;
        }
      }
    }
    return out;
  }
  // The drawing anew: the lesion with strokes laid over it; null takes it away.
  paint(strokes) {
    if (!this.ct) return;
    if (!strokes) {
      if (this.nv.drawBitmap) { this.nv.drawBitmap.fill(0); this.nv.refreshDrawing(true); }
      this.base = null;
      return;
    }
    const of = `${this.loaded} ${((this.layers || []).find((l) => l.kind === "lesion") || {}).stamp}`;
    if (!this.base || this.baseOf !== of) { this.base = this.lesionBitmap(); this.baseOf = of; }
    if (!this.nv.drawBitmap) this.nv.createEmptyDrawing();
    this.nv.drawBitmap.set(this.base);
    for (const stroke of strokes) this.lay(stroke);
    this.nv.refreshDrawing(true);
  }
  lay({ points, normal, radius, adds }) {
    const { dims, origin, steps } = this.drawingGrid();
    const half = steps.reduce((sum, s) => sum + Math.abs(s[0] * normal[0] + s[1] * normal[1] + s[2] * normal[2]), 0) / 2;
    const sizes = steps.map((s) => Math.hypot(...s));
    const pieces = points.length > 1 ? points.slice(1).map((p, k) => [points[k], p]) : [[points[0], points[0]]];
    for (const [start, end] of pieces) {
      const low = [0, 0, 0];
      const high = [0, 0, 0];
      for (let k = 0; k < 3; k += 1) {
        const index = (p) => [0, 1, 2].reduce((sum, j) => sum + (p[j] - origin[j]) * steps[k][j], 0) / (sizes[k] * sizes[k]);
        const pad = (radius + half) / sizes[k];
        low[k] = Math.max(0, Math.floor(Math.min(index(start), index(end)) - pad));
        high[k] = Math.min(dims[k] - 1, Math.ceil(Math.max(index(start), index(end)) + pad));
      }
      const full = end.map((v, j) => v - start[j]);
      const lift = full[0] * normal[0] + full[1] * normal[1] + full[2] * normal[2];
      const way = full.map((v, j) => v - lift * normal[j]);
      const length2 = way[0] * way[0] + way[1] * way[1] + way[2] * way[2];
      for (let z = low[2]; z <= high[2]; z += 1) {
        for (let y = low[1]; y <= high[1]; y += 1) {
          for (let x = low[0]; x <= high[0]; x += 1) {
            const d = [0, 1, 2].map((j) => origin[j] + x * steps[0][j] + y * steps[1][j] + z * steps[2][j] - start[j]);
            const height = d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2];
            if (!(height > -half && height <= half)) continue;
            let flat = d.map((v, j) => v - height * normal[j]);
            if (length2 > 0) {
              const share = Math.min(1, Math.max(0, (flat[0] * way[0] + flat[1] * way[1] + flat[2] * way[2]) / length2));
              flat = flat.map((v, j) => v - share * way[j]);
            }
            if (flat[0] * flat[0] + flat[1] * flat[1] + flat[2] * flat[2] <= radius * radius) {
              this.nv.drawBitmap[x + dims[0] * (y + dims[1] * z)] = adds ? 1 : 0;
            }
          }
        }
      }
    }
  }
}

function inside(vox, image) {
  const dims = image.dimsRAS;
  return [0, 1, 2].every((k) => vox[k] >= 0 && vox[k] <= dims[k + 1] - 1);
}

// Bone, lesion and what was computed as surfaces; needles and the skin map with them.
export class Solid {
  constructor(el, words, lib) {
    this.lib = lib;
    this.pane = document.createElement("div");
    this.pane.className = "pane solid";
    this.pane.dataset.plane = "solid";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-label", words.solid);
    this.canvas.setAttribute("role", "img");
    const title = document.createElement("span");
    title.className = "pane-title";
    title.textContent = words.solid;
    this.pane.append(this.canvas, title);
    el.append(this.pane);
    this.meshes = new Map(); // name -> {mesh, address}
  }
  open() {
    this.opened = this.opened || this.begin();
    return this.opened;
  }
  async begin() {
    const nv = new this.lib.Niivue({
      backColor: BACK, dragAndDropEnabled: false, isResizeCanvas: false, logLevel: "silent", loadingText: "",
      isOrientCube: true, show3Dcrosshair: false, meshXRay: 0.05, clipPlaneHotKey: "", viewModeHotKey: "", cycleClipPlaneHotKey: "",
    });
    await nv.attachToCanvas(this.canvas);
    this.canvas.tabIndex = -1;
    this.nv = nv;
    nv.setSliceType(nv.sliceTypeRender);
    nv.setRenderAzimuthElevation(25, 25);
    this.resize();
  }
  resize() {
    if (!this.nv || this.pane.clientWidth < 2) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.pane.clientWidth * ratio);
    this.canvas.height = Math.round(this.pane.clientHeight * ratio);
    this.nv.uiData.dpr = ratio;
    this.nv.drawScene();
  }
  turn(degrees) {
    if (this.nv) this.nv.setRenderAzimuthElevation(this.nv.scene.renderAzimuth + degrees, this.nv.scene.renderElevation);
  }
  // What is to be seen: [{name, address or bytes, colour, opacity}], in that order.
  show(parts) {
    this.busy = (this.busy || Promise.resolve()).catch(() => {}).then(() => this.bring(parts));
    return this.busy;
  }
  async bring(parts) {
    const wanted = new Map(parts.map((p) => [p.name, p]));
    for (const [name, held] of [...this.meshes]) {
      if (wanted.has(name) && wanted.get(name).stamp === held.stamp) continue;
      this.meshes.delete(name);
      if (held.mesh) this.nv.removeMesh(held.mesh);
    }
    const bytes = (part) => part.bytes || file(part.address, "part.stl").then((came) => came.arrayBuffer());
    const missing = parts.filter((p) => !this.meshes.has(p.name));
    const came = await Promise.all(missing.map(bytes));
    for (const [k, part] of missing.entries()) {
      const held = { stamp: part.stamp, mesh: null };
      this.meshes.set(part.name, held);
      if (came[k].byteLength <= 84) continue; // no triangle
      const colour = new Uint8Array([...part.colour, 255]);
      held.mesh = await this.lib.NVMesh.readMesh(came[k], `${part.name}.stl`, this.nv.gl, part.opacity, colour, true);
      this.nv.addMesh(held.mesh);
    }
    const order = new Map();
    for (const [k, part] of parts.entries()) {
      const { mesh } = this.meshes.get(part.name);
      if (!mesh) continue;
      mesh.opacity = part.opacity;
      mesh.visible = part.opacity > 0;
      order.set(mesh, k);
    }
    this.nv.meshes.sort((one, other) => order.get(one) - order.get(other));
    this.nv.drawScene();
  }
}

// Points as small pyramids, for a surface of them: [[x, y, z] LPS] to STL in RAS.
export function pointsToStl(points, size) {
  const corners = [[0, 0, 1], [0.94, 0, -0.33], [-0.47, 0.82, -0.33], [-0.47, -0.82, -0.33]];
  const faces = [[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]];
  const out = new DataView(new ArrayBuffer(84 + 50 * faces.length * points.length));
  out.setUint32(80, faces.length * points.length, true);
  let at = 84;
  for (const point of points) {
    const p = ras(point);
    for (const face of faces) {
      at += 12;
      for (const corner of face) {
        for (let k = 0; k < 3; k += 1) { out.setFloat32(at, p[k] + size * corners[corner][k], true); at += 4; }
      }
      at += 2;
    }
  }
  return out.buffer;
}

export function bytesOf(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) out[i] = text.charCodeAt(i);
  return out.buffer;
}
