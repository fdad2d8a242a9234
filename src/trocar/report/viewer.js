// Opens the interactive viewer on demand. Everything it needs is in this page; nothing is fetched.
(function () {
  "use strict";
  const section = document.getElementById("viewer");
  if (!section) return;
  const button = document.getElementById("viewer-open");
  const status = document.getElementById("viewer-status");
  const stage = document.getElementById("viewer-stage");
  const say = (name) => section.dataset[name];

  function bytes(id) {
    const text = atob(document.getElementById(id).textContent.trim());
    const out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) out[i] = text.charCodeAt(i);
    return out;
  }

  async function unpacked(id) {
    const stream = new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  function hasWebGL() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl2"));
    } catch (error) {
      return false;
    }
  }

  async function program() {
    const code = new Blob([await unpacked("viewer-program")], { type: "text/javascript" });
    const address = URL.createObjectURL(code);
    await new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.addEventListener("load", resolve);
      script.addEventListener("error", reject);
      script.src = address;
      document.head.append(script);
    });
    URL.revokeObjectURL(address);
    return window.niivue;
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

  async function open() {
    button.disabled = true;
    if (!hasWebGL()) {
      status.textContent = say("noWebgl");
      return;
    }
    status.textContent = say("opening");
    const scene = JSON.parse(document.getElementById("viewer-scene").textContent);
    const lib = await program();
    stage.hidden = false;
    const nv = new lib.Niivue({
      backColor: [0.07, 0.09, 0.11, 1],
      crosshairColor: [0.25, 0.88, 1, 0.7],
      crosshairWidth: 0.6,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      isSliceMM: true,
      show3Dcrosshair: false,
      meshXRay: 0.25,
      meshThicknessOn2D: 2,
      multiplanarShowRender: lib.SHOW_RENDER.NEVER,
      dragAndDropEnabled: false,
      isResizeCanvas: true,
      logLevel: "silent",
    });
    await nv.attachToCanvas(document.getElementById("viewer-canvas"));
    const ct = await lib.NVImage.loadFromBase64({
      base64: document.getElementById("viewer-ct").textContent.trim(),
      name: "ct.nii.gz",
      colormap: "gray",
      cal_min: -500,
      cal_max: 1300,
      trustCalMinMax: false,
    });
    nv.addVolume(ct);
    const labels = await lib.NVImage.loadFromBase64({
      base64: document.getElementById("viewer-labels").textContent.trim(),
      name: "labels.nii.gz",
      opacity: 0.35,
    });
    labels.setColormapLabel(labelColours(scene.regions));
    nv.addVolume(labels);
    for (const needle of scene.needles) {
      const data = bytes("needle-" + needle.number + "-stl");
      const colour = needle.number === 1 ? [40, 215, 255, 255] : [190, 200, 210, 255];
      const mesh = await lib.NVMesh.readMesh(
        data.buffer, "needle" + needle.number + ".stl", nv.gl, 1, new Uint8Array(colour), true);
      nv.addMesh(mesh);
    }
    nv.setSliceType(nv.sliceTypeMultiplanar);

    function go(point) {
      nv.scene.crosshairPos = nv.mm2frac(point);
      nv.updateGLVolume();
      nv.createOnLocationChange();
    }
    function windowed(centre, width) {
      ct.cal_min = centre - width / 2;
      ct.cal_max = centre + width / 2;
      nv.updateGLVolume();
    }
    const actions = {
      bone: () => windowed(400, 1800),
      soft: () => windowed(40, 400),
      slices: () => {
        nv.opts.multiplanarShowRender = lib.SHOW_RENDER.NEVER;
        nv.drawScene();
      },
      solid: () => {
        nv.opts.multiplanarShowRender = lib.SHOW_RENDER.ALWAYS;
        nv.drawScene();
      },
      labels: (element) => {
        const on = element.getAttribute("aria-pressed") !== "true";
        element.setAttribute("aria-pressed", String(on));
        nv.setOpacity(1, on ? 0.35 : 0);
      },
    };
    for (const element of section.querySelectorAll("[data-act]")) {
      element.addEventListener("click", () => actions[element.dataset.act](element));
    }
    for (const element of section.querySelectorAll("[data-needle]")) {
      const needle = scene.needles[Number(element.dataset.needle) - 1];
      element.addEventListener("click", () => go(needle[element.dataset.place]));
    }
    const where = document.getElementById("viewer-where");
    nv.onLocationChange = (place) => {
      const [r, a, s] = place.mm;
      const hu = place.values && place.values[0] ? Math.round(place.values[0].value) : 0;
      where.textContent =
        "L " + (-r).toFixed(1) + "  P " + (-a).toFixed(1) + "  H " + s.toFixed(1) + " mm · " + hu + " HU";
    };
    if (scene.needles.length) go(scene.needles[0].tip);
    button.hidden = true;
    status.textContent = say("ready");
    section.dataset.state = "ready";
  }

  button.addEventListener("click", () => {
    open().catch(() => {
      status.textContent = say("failed");
      section.dataset.state = "failed";
    });
  });
})();
