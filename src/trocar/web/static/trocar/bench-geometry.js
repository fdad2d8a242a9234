// Points and cuts in LPS millimetres. A cut is {centre, right, down, side}, as the server tells it.
export const add = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
export const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const norm = (a) => Math.hypot(a[0], a[1], a[2]);
export const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const ras = (p) => [-p[0], -p[1], p[2]];

// The side of the patient a direction points to, strongest first, as on the sheets.
export function letters(direction) {
  const pairs = ["RL", "AP", "FH"];
  return [0, 1, 2].filter((k) => Math.abs(direction[k]) >= 0.3)
    .sort((a, b) => Math.abs(direction[b]) - Math.abs(direction[a]))
    .map((k) => pairs[k][direction[k] > 0 ? 1 : 0]).join("").slice(0, 2);
}

// Where a cut is on the screen: pixels of its pane to LPS and back.
export class Placed {
  constructor({ origin, right, down, x, y, scale }) {
    Object.assign(this, { origin, right, down, x, y, scale });
    this.normal = cross(down, right);
  }
  toMm(px, py) {
    return add(add(this.origin, this.right, (px - this.x) / this.scale), this.down, (py - this.y) / this.scale);
  }
  toPx(mm) {
    const d = sub(mm, this.origin);
    return [this.x + dot(d, this.right) * this.scale, this.y + dot(d, this.down) * this.scale];
  }
  height(mm) {
    return dot(sub(mm, this.origin), this.normal);
  }
}

// How thick the voxels of a grid are across a cut, half of it.
export function halfThickness(normal, spacing, axes) {
  return axes.reduce((sum, axis, k) => sum + Math.abs(dot(normal, axis)) * spacing[k], 0) / 2;
}
