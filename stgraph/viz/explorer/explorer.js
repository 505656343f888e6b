"use strict";
// The explorer: the space-time graph of one video, to turn, to slice and to ask. No library, no network.
// stgraphExplorer(root, data, {images}) builds everything inside root and returns a function that takes it away again.
const stgraphExplorer = (() => {
  const COUNT = new Intl.NumberFormat("en");
  const TYPES = { uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array };
  const TEXTURE_WIDTH = 256;
  const REASONS = {
    dropped: "Dropped: neither among the most central tokens of its community nor an event.",
    representative: "Kept: among the most central tokens of its community.",
    event: "Kept: it differs from its past, so it is an event token.",
    both: "Kept: among the most central tokens of its community, and an event token.",
    filled: "Kept: its importance won it a free place in the budget.",
    trimmed: "Dropped: it was a candidate, but more important candidates filled the budget.",
    separator: "Kept: a separator.",
  };
  const RANKED = {
    dropped: "Dropped: others came before it in the ranking of the method.",
    filled: "Kept: it is among the first in the ranking of the method.",
  };

  // -- reading the packed block ---------------------------------------------------------------------------------------

  async function unpack(data) {
    const bytes = Uint8Array.from(atob(data.packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const whole = new Uint8Array(await new Response(stream).arrayBuffer());
    const arrays = {};
    let start = 0;
    for (const [name, [type, count]] of Object.entries(data.layout)) {
      const width = TYPES[type].BYTES_PER_ELEMENT, out = new Uint8Array(count * width);
      for (let plane = 0; plane < width; plane++) {
        for (let i = 0, at = start + plane * count; i < count; i++) out[i * width + plane] = whole[at + i];
      }
      arrays[name] = new TYPES[type](out.buffer);
      start += count * width;
    }
    return arrays;
  }
  const summed = (steps) => {
    const out = new Int32Array(steps.length);
    for (let i = 0, sum = 0; i < steps.length; i++) out[i] = sum += steps[i];
    return out;
  };

  // -- small helpers --------------------------------------------------------------------------------------------------

  const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const short = (value) => (value === 0 ? "0" : Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5 ? value.toExponential(2) : String(Number(value.toPrecision(3))));
  const many = (count, noun) => `${COUNT.format(count)} ${noun}${count === 1 ? "" : "s"}`;
  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  const escaped = (text) => String(text).replace(/[&<>"]/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[letter]);
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // -- geometry: columns go right and away, rows down, time to the right ------------------------------------------------

  const multiply = (a, b) => {
    const out = new Float32Array(16);
    for (let c = 0; c < 4; c++) for (let r = 0; r < 4; r++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[k * 4 + r] * b[c * 4 + k];
      out[c * 4 + r] = sum;
    }
    return out;
  };

  // -- programs for the graphics card ------------------------------------------------------------------------------------

  // Every vertex has one texel of its place (frame, row, column) and one of its colour. The alpha of the colour says how
  // it is drawn: 0 not at all, then bits 1 = drawn, 2 = kept, 4 = event, 8 = lit, 16 = faded.
  const COMMON = `#version 300 es
    precision highp float; precision highp int; precision highp usampler2D;
    uniform mat4 camera; uniform vec3 scale, centre; uniform vec2 brush;
    uniform usampler2D places, colours;
    ivec2 texel(int id) { return ivec2(id % ${TEXTURE_WIDTH}, id / ${TEXTURE_WIDTH}); }
    vec4 project(uvec4 place) {
      vec3 p = (vec3(place.xyz) - centre) * scale;
      return camera * vec4(p.x, -p.y, p.z, 1.0);
    }
    bool outside(uvec4 place) { return float(place.x) < brush.x || float(place.x) > brush.y; }`;
  const POINTS = [COMMON + `
    uniform float size, least; out vec4 colour; flat out uint state; flat out float pixels;
    void main() {
      uvec4 place = texelFetch(places, texel(gl_VertexID), 0), look = texelFetch(colours, texel(gl_VertexID), 0);
      state = look.a; colour = vec4(vec3(look.rgb) / 255.0, 1.0);
      gl_Position = project(place);
      float wide = size / gl_Position.w * ((state & 2u) != 0u ? 1.0 : 0.62);
      if ((state & 4u) != 0u) wide *= 1.25;
      if ((state & 8u) != 0u) wide *= 1.2;
      pixels = max(wide, least); gl_PointSize = pixels;
      if (state == 0u || outside(place)) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
    }`, `#version 300 es
    precision highp float; precision highp int;
    in vec4 colour; flat in uint state; flat in float pixels; uniform vec3 event, ink, paper; out vec4 pixel;
    void main() {
      float r = length(gl_PointCoord - 0.5) * 2.0;
      if (r > 1.0) discard;
      float soft = 1.0 - 2.2 / pixels;
      vec3 shade = colour.rgb;
      if ((state & 16u) != 0u) shade = mix(shade, paper, 0.82);
      if ((state & 4u) != 0u && pixels > 4.0 && r > 0.58) shade = (state & 16u) != 0u ? mix(event, paper, 0.7) : event;
      else if ((state & 2u) != 0u && pixels > 5.0 && r > soft) shade = mix(shade, ink, (state & 16u) != 0u ? 0.12 : 0.55);
      float rim = clamp((1.0 - r) * pixels * 0.5 + 0.2, 0.0, 1.0);
      pixel = vec4(shade * rim, rim);
    }`];
  const LINES = [COMMON + `
    layout(location = 0) in uvec2 ends; layout(location = 1) in ivec2 about;  // about: level of the weight, kind
    uniform int least, way, kinds; uniform float levels, strength; uniform vec3 spatial, temporal, event, ink; out vec4 colour;
    void main() {
      int id = int(gl_VertexID % 2 == 0 ? ends.x : ends.y);
      uvec4 one = texelFetch(places, texel(int(ends.x)), 0), two = texelFetch(places, texel(int(ends.y)), 0);
      uvec4 look = texelFetch(colours, texel(id), 0), far = texelFetch(colours, texel(int(ends.y)), 0);
      uvec4 near = texelFetch(colours, texel(int(ends.x)), 0);
      float weight = float(about.x) / levels, low = float(least) / levels;
      float heavy = clamp((weight - low) / max(1e-3, 1.0 - low), 0.0, 1.0);
      bool broken = about.x < least;
      gl_Position = project(gl_VertexID % 2 == 0 ? one : two);
      vec3 shade = way == 0 ? vec3(look.rgb) / 255.0 : way == 1 ? (about.y == 1 ? temporal : spatial) : mix(spatial * 0.5 + 0.3, ink, heavy);
      float alpha = mix(0.25, 0.95, heavy) * strength;
      if ((near.a & 8u) != 0u && (far.a & 8u) != 0u) alpha = 0.95;
      if ((near.a & 16u) != 0u || (far.a & 16u) != 0u) alpha *= 0.10;
      if (broken) { shade = (far.a & 4u) != 0u && about.y == 1 ? event : ink; alpha = (far.a & 4u) != 0u ? 0.7 : 0.12; }
      bool gone = (kinds & (about.y == 1 ? 2 : 1)) == 0 || (broken && (kinds & 4) == 0);
      if (gone || near.a == 0u || far.a == 0u || outside(one) || outside(two)) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
      colour = vec4(shade * alpha, alpha);
    }`, `#version 300 es
    precision mediump float; in vec4 colour; out vec4 pixel; void main() { pixel = colour; }`];
  const SHEET = [COMMON + `
    uniform float frame, push; uniform vec2 area; out vec2 at;
    void main() {
      at = vec2(gl_VertexID & 1, gl_VertexID >> 1);
      vec3 p = (vec3(frame, at.y * area.y - 0.5, at.x * area.x - 0.5) - centre) * scale;
      gl_Position = camera * vec4(p.x, -p.y, p.z, 1.0);
      gl_Position.z += push / gl_Position.w;  // a little behind its tokens, whose discs are not parallel to it
    }`, `#version 300 es
    precision mediump float; in vec2 at; uniform sampler2D picture; out vec4 pixel;
    void main() { pixel = vec4(texture(picture, at).rgb, 1.0); }`];

  function program(gl, [vertex, fragment]) {
    const made = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
    const places = new Map();
    return { made, at: (name) => places.get(name) ?? places.set(name, gl.getUniformLocation(made, name)).get(name) };
  }

  // ====================================================================================================================

  return function explore(root, data, options = {}) {
    const began = performance.now();
    root.classList.add("stx");
    root.replaceChildren(element("p", { class: "stx-wait" }, "Unpacking the graph …"));
    const stop = new AbortController(), { signal } = stop;
    if (typeof DecompressionStream === "undefined") {
      root.replaceChildren(element("p", { class: "stx-wait" }, "This browser is too old for the explorer: it needs DecompressionStream (browsers since 2023)."));
      return () => {};
    }
    unpack(data).then((arrays) => signal.aborted || build(root, data, arrays, options, signal, began)).catch((error) => {
      root.replaceChildren(element("p", { class: "stx-wait" }, `The explorer could not start: ${error.message}`));
      throw error;
    });
    return () => stop.abort();
  };

  function build(root, data, arrays, options, signal, began) {
    const [totalFrames, rows, columns] = data.grid, [firstFrame, lastFrame] = data.span;
    const count = data.vertices, images = (options.images ?? data.images ?? []).map((src) => (src ? Object.assign(new Image(), { src }) : null));
    const patch = data.size[1] / rows / (data.size[0] / columns);  // height of a token over its width
    const place = summed(arrays.place), token = summed(arrays.token);
    const frame = new Uint16Array(count), row = new Uint16Array(count), column = new Uint16Array(count);
    const begin = new Int32Array(lastFrame - firstFrame + 2);
    const slot = new Map();
    for (let v = 0; v < count; v++) {
      const cell = place[v], across = columns + 1, area = (rows + 1) * across;
      frame[v] = firstFrame + Math.floor(cell / area);
      row[v] = Math.floor((cell % area) / across);
      column[v] = cell % across;
      begin[frame[v] - firstFrame + 1] = v + 1;
      slot.set(cell, v);
    }
    for (let f = 1; f < begin.length; f++) begin[f] = Math.max(begin[f], begin[f - 1]);
    const vertexAt = (f, r, c) => r < 0 || c < 0 || r > rows || c > columns ? undefined : slot.get(((f - firstFrame) * (rows + 1) + r) * (columns + 1) + c);
    const seconds = (f) => (data.seconds ? `${data.seconds[f].toFixed(2)} s` : `frame ${f}`);

    const edges = { from: new Int32Array(0), to: new Int32Array(0), kind: new Uint8Array(0), level: new Int16Array(0) };
    if (data.hasGraph) {
      edges.from = summed(arrays.edgeFrom);
      edges.to = edges.from.map((v, e) => v + arrays.edgeStep[e]);
      edges.kind = arrays.edgeKind;
      edges.level = arrays.edgeLevel;
    }
    const incident = [...Array(count)].map(() => []);
    for (let e = 0; e < edges.from.length; e++) {
      incident[edges.from[e]].push(e);
      incident[edges.to[e]].push(e);
    }
    const leaves = data.hasGraph ? summed(arrays.leaves) : null, joined = arrays.joined;
    const lowest = edges.level.reduce((least, level) => Math.min(least, level), data.levels);

    // -- the runs: one or two selections of the same tokens ---------------------------------------------------------

    const none = (array) => (array.BYTES_PER_ELEMENT === 4 ? 2 ** 32 - 1 : 2 ** 16 - 1);
    const scaled = (array, [low, high]) => Float32Array.from(array, (step) => low + (step / 65535) * (high - low));
    const palette = data.palette.map(rgb), alone = rgb(data.alone), heat = data.heat.map(rgb);
    const verdictColours = data.verdicts.map(({ colour }) => rgb(colour));
    const runs = data.runs.map((about, number) => {
      const take = (name) => arrays[`${number}.${name}`], code = take("verdict");
      const community = Int32Array.from(take("community"), (c) => (c === none(take("community")) ? -1 : c));
      const run = {
        about, community, verdict: code.map((c) => c & 15), candidate: code.map((c) => c >> 4), rank: take("rank"), sizes: take("sizes"), stay: take("stay"),
        centrality: scaled(take("centrality"), about.ranges.centrality), difference: scaled(take("difference"), about.ranges.difference), importance: scaled(take("importance"), about.ranges.importance),
        group: new Int32Array(count), size: new Int32Array(count), hue: new Uint16Array(count), level: null, communities: 0, texels: null,
      };
      // A community has the colour of its first vertex. Those of the run itself get the colours of the report.
      const seen = new Set();
      for (let v = 0; v < count; v++) {
        const c = community[v];
        run.hue[v] = c >= 0 && !seen.has(c) ? c % palette.length : Math.imul(v + 1, 2654435761) >>> 8 & 0xffff;
        run.hue[v] %= palette.length;
        seen.add(c);
      }
      return run;
    });
    const isKept = (run, v) => data.verdicts[run.verdict[v]].kept;
    const isEvent = (run, v) => (run.candidate[v] & 2) !== 0;

    // Communities of the run (level null) or of a threshold: group[v] is the smallest vertex of v's community.
    function regroup(run, level) {
      const { group, size } = run;
      size.fill(0);
      run.level = level;
      run.communities = 0;
      if (level === null) {
        const first = new Map();
        for (let v = 0; v < count; v++) {
          const c = run.community[v];
          if (c < 0) { group[v] = -1; continue; }
          if (!first.has(c)) { first.set(c, v); run.communities++; }
          group[v] = first.get(c);
          size[group[v]]++;
        }
        return;
      }
      // In the order of the leaves every community of every threshold is one stretch that starts with its smallest vertex.
      for (let i = 0, head = -1; i < count; i++) {
        if (i === 0 || joined[i] < level) { head = leaves[i]; run.communities++; }
        group[leaves[i]] = head;
        size[head]++;
      }
    }
    const sizeOf = (run, v) => (run.group[v] < 0 ? 0 : run.size[run.group[v]]);
    const communityColour = (run, v) => (run.group[v] < 0 || sizeOf(run, v) < 2 ? alone : palette[run.hue[run.group[v]]]);

    // -- state ----------------------------------------------------------------------------------------------------------

    // On a narrow page time leads more into the depth, so that the graph fills its stage.
    const start = () => (root.clientWidth && root.clientWidth < 760 ? { yaw: 1.08, pitch: 0.5 } : { yaw: 0.72, pitch: 0.34 });
    const levels = data.levels, own = runs[0].about.threshold;
    const state = {
      colour: runs.some((run) => run.community.some((c) => c >= 0)) || data.hasGraph ? "communities" : "verdicts",
      view: runs.length > 1 ? "side" : "0", level: null, slider: Math.round((own ?? 0.8) * levels),
      kept: true, dropped: true, spatial: true, temporal: true, weak: false, edgeColour: "community", pictures: images.length > 0,
      from: firstFrame, to: lastFrame, frame: busiest(), picked: -1, hover: -1, event: -1,
      ...start(), zoom: 1, pan: [0, 0],
    };
    function busiest() {
      if (data.events.length) return clamp(data.events.reduce((most, event) => (event.mass > most.mass ? event : most)).peak, firstFrame, lastFrame);
      let best = firstFrame, most = -1;
      for (let f = firstFrame; f <= lastFrame; f++) {
        const kept = runs[0].about.perFrame[f]?.reduce((sum, n, code) => sum + (data.verdicts[code].kept ? n : 0), 0) ?? 0;
        if (kept > most) [best, most] = [f, kept];
      }
      return best;
    }
    const shownRuns = () => (state.view === "side" ? runs : state.view === "difference" ? [runs[0]] : [runs[Number(state.view)]]);
    const focusRun = () => shownRuns()[0];

    // -- the page ---------------------------------------------------------------------------------------------------------

    const id = `stx${Math.random().toString(36).slice(2, 8)}`;
    const canvas = element("canvas", { class: "stx-scene", "aria-hidden": "true" });
    const overlay = element("canvas", {
      class: "stx-overlay", tabindex: "0", role: "application", "aria-roledescription": "space-time graph", "aria-describedby": `${id}keys`,
      "aria-label": `Space-time graph of ${many(count, "token")} in ${many(lastFrame - firstFrame + 1, "frame")} and ${many(edges.from.length, "edge")}`,
    });
    const tip = element("div", { class: "stx-tip", hidden: true });
    const names = element("div", { class: "stx-names" });
    const legend = element("div", { class: "stx-legend" });
    const warning = element("p", { class: "stx-warning", role: "note", hidden: true });
    const bars = element("canvas", { class: "stx-bars", "aria-hidden": "true" });
    const window_ = element("div", { class: "stx-window", "aria-hidden": "true" });
    const range = (label, attributes) => element("input", { type: "range", "aria-label": label, ...attributes });
    const from = range("First frame of the brush", { min: firstFrame, max: lastFrame, value: state.from, class: "stx-from" });
    const to = range("Last frame of the brush", { min: firstFrame, max: lastFrame, value: state.to, class: "stx-to" });
    const brushText = element("output", { class: "stx-brushtext" });
    const film = element("canvas", { class: "stx-film", role: "img", "aria-label": "Film strip of the brushed frames; a click asks a token" });
    const slider = range("Similarity threshold tau sim", { min: Math.max(-levels, lowest - (lowest % 10)), max: levels, step: Math.max(1, levels / 1000), value: state.slider, class: "stx-tau" });
    const sliderText = element("output", { class: "stx-tautext", "aria-live": "off" });
    const groupsText = element("p", { class: "stx-groups" });
    const asRun = element("button", { type: "button", class: "stx-asrun" }, "As in the run");
    const why = element("section", { class: "stx-why", "aria-live": "polite", "aria-label": "Why a token was kept or dropped" });
    const choice = (label, name, entries, change) => {
      const group = element("fieldset", { class: "stx-choice" }, element("legend", {}, label));
      for (const [value, text] of entries) {
        const input = element("input", { type: "radio", name: id + name, value, onchange: () => change(value) });
        input.checked = state[name] === value;
        group.append(element("label", {}, input, element("span", {}, text)));
      }
      return group;
    };
    const toggle = (name, text, colour) => {
      const input = element("input", { type: "checkbox", "data-toggle": name, onchange: () => set({ [name]: input.checked }) });
      input.checked = state[name];
      const key = colour ? element("i", { style: `background:${colour}` }) : "";
      return element("label", { class: "stx-toggle" }, input, key, text);
    };
    const hasCommunities = runs.some((run) => run.community.some((c) => c >= 0)) || data.hasGraph;
    const hasDifference = runs.some((run) => run.about.ranges.difference[1] > 0);
    const controls = element("div", { class: "stx-controls" });
    if (runs.length > 1) {
      controls.append(choice("Show", "view", [["side", "Side by side"], ["difference", "Difference"], ["0", runs[0].about.name], ["1", runs[1].about.name]], (view) => set({ view })));
    }
    controls.append(choice("Colour", "colour", [...(hasCommunities ? [["communities", "Communities"]] : []), ["verdicts", "Verdicts"], ...(hasDifference ? [["difference", "Difference"]] : [])], (colour) => set({ colour })));
    const tau = element("div", { class: "stx-threshold", role: "group", "aria-label": "Similarity threshold" },
      element("div", { class: "stx-line" }, element("b", {}, "τ_sim"), sliderText, asRun), slider, groupsText);
    if (data.hasGraph && hasCommunities) controls.append(tau);
    const show = element("fieldset", { class: "stx-choice stx-toggles" }, element("legend", {}, "Tokens and edges"), toggle("kept", "kept"), toggle("dropped", "dropped"));
    if (data.hasGraph) show.append(toggle("spatial", "spatial edges"), toggle("temporal", "temporal edges"), toggle("weak", "below τ_sim"));
    if (images.length) show.append(toggle("pictures", "frame picture"));
    controls.append(show);
    if (data.hasGraph) controls.append(choice("Edge colour", "edgeColour", [["community", "as tokens"], ["kind", "kind"], ["weight", "weight"]], (edgeColour) => set({ edgeColour })));
    const numbers = ["frame", "row", "column"].map((name, axis) => element("label", {}, name, element("input", { type: "number", name, min: axis ? 0 : firstFrame, max: axis ? data.grid[axis] - 1 : lastFrame, value: axis ? 0 : state.frame })));
    const ask = element("form", { class: "stx-ask", "aria-label": "Ask a token by its place", onsubmit: (event) => {
      event.preventDefault();
      const [f, r, c] = [...event.target.querySelectorAll("input")].map((input) => Number(input.value));
      const v = vertexAt(f, r, c);
      if (v === undefined) why.replaceChildren(element("p", {}, `There is no token at frame ${f}, row ${r}, column ${c}.`));
      else pick(v);
    } }, ...numbers, element("button", { type: "submit" }, "Ask"));
    const eventList = element("select", { "aria-label": "Go to an event", onchange: () => goTo(Number(eventList.value)) }, element("option", { value: -1 }, `Events (${data.events.length})`));
    data.events.forEach((event, i) => eventList.append(element("option", { value: i }, `${seconds(event.peak)} · ${many(event.size, "token")}`)));
    const reset = element("button", { type: "button", onclick: () => set({ ...start(), zoom: 1, pan: [0, 0], from: firstFrame, to: lastFrame, picked: -1, event: -1 }) }, "Reset the view");
    controls.append(element("div", { class: "stx-line" }, data.events.length ? eventList : "", reset), element("details", { class: "stx-place" }, element("summary", {}, "Ask a token by its place"), ask));
    const keys = element("p", { class: "stx-keys", id: `${id}keys` },
      "Drag turns, shift or two fingers move, the wheel or a pinch zooms, a click asks a token. ", element("span", {}, "Keys: arrows turn, + and − zoom, [ and ] move the brush, 0 resets; shift and arrows go to the next token, page up and page down to the next frame, Esc lets go."));
    const notes = element("ul", { class: "stx-notes" }, ...data.notes.map((text) => element("li", {}, text)));
    root.replaceChildren(
      element("div", { class: "stx-main" },
        element("div", { class: "stx-stage" }, canvas, overlay, names, legend, tip), warning,
        element("div", { class: "stx-time", role: "group", "aria-label": "Brush of frames" }, bars, window_, from, to), brushText,
        ...(images.length ? [film] : []), keys, notes),
      element("div", { class: "stx-side" }, controls, why),
    );

    // -- the graphics card ------------------------------------------------------------------------------------------------

    // Where WebGL2 is missing, or is itself drawn by the processor, our own raster draws the same picture.
    const renderer = (() => {
      const probe = document.createElement("canvas").getContext("webgl2");
      const told = probe?.getExtension("WEBGL_debug_renderer_info");
      const name = probe ? String(probe.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : probe.RENDERER)) : "";
      probe?.getExtension("WEBGL_lose_context")?.loseContext();
      return name;
    })();
    const software = /swiftshader|llvmpipe|software|basic render/i.test(renderer);
    const query = new URLSearchParams(location.search), wanted = query.has("webgl") || (renderer && !software && !query.has("nowebgl"));
    const gl = wanted ? canvas.getContext("webgl2", { antialias: !software, alpha: false, powerPreference: "high-performance" }) : null;
    let card = gl && prepare();
    const raster = gl ? null : stgraphRaster(canvas, { count, frame, row, column, edges });
    if (!renderer || query.has("nowebgl")) {
      warning.hidden = false;
      warning.textContent = "WebGL2 is missing in this browser, so the processor draws the graph: large ones are coarser while they move.";
    }
    canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); card = null; }, { signal });
    canvas.addEventListener("webglcontextrestored", () => { card = prepare(); runs.forEach((run) => (run.texels = null)); set({}); }, { signal });
    // Edges lie in an order of which every beginning is spread evenly: a slow machine draws a part of them while it moves.
    function strideOf(many) { return [7919, 7907, 7901].find((prime) => many % prime) ?? 1; }
    function prepare() {
      const height = Math.max(1, Math.ceil(count / TEXTURE_WIDTH)), padded = TEXTURE_WIDTH * height;
      const texture = (format, type, inner, values) => {
        const made = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, made);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
        gl.texImage2D(gl.TEXTURE_2D, 0, inner, TEXTURE_WIDTH, height, 0, format, type, values);
        return made;
      };
      const where = new Uint16Array(padded * 4);
      for (let v = 0; v < count; v++) where.set([frame[v], row[v], column[v], 0], v * 4);
      // Two vertices a line; both get the ends, the weight and the kind of their edge.
      const lines = new Uint32Array(edges.from.length * 4), about = new Int16Array(edges.from.length * 4);
      const many = edges.from.length, stride = strideOf(many);
      for (let at = 0, e = 0; at < many; at++, e = (e + stride) % many) {
        lines.set([edges.from[e], edges.to[e], edges.from[e], edges.to[e]], at * 4);
        about.set([edges.level[e], edges.kind[e], edges.level[e], edges.kind[e]], at * 4);
      }
      const buffer = (location, size, type, values) => {
        gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
        gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
        gl.enableVertexAttribArray(location);
        gl.vertexAttribIPointer(location, size, type, 0, 0);
      };
      const withLines = gl.createVertexArray(), empty = gl.createVertexArray();
      gl.bindVertexArray(withLines);
      buffer(0, 2, gl.UNSIGNED_INT, lines);
      buffer(1, 2, gl.SHORT, about);
      gl.bindVertexArray(null);
      return {
        points: program(gl, POINTS), lines: program(gl, LINES), sheet: program(gl, SHEET), withLines, empty, height, pictures: new Map(),
        places: texture(gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, gl.RGBA16UI, where),
        colours: runs.map(() => texture(gl.RGBA_INTEGER, gl.UNSIGNED_BYTE, gl.RGBA8UI, new Uint8Array(padded * 4))),
      };
    }
    function picture(f) {
      const image = images[f - firstFrame];
      if (!image || !image.complete || !image.naturalWidth) return null;
      if (!card.pictures.has(f)) {
        const made = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, made);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
        for (const [name, value] of [[gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]]) gl.texParameteri(gl.TEXTURE_2D, name, value);
        card.pictures.set(f, made);
      }
      return card.pictures.get(f);
    }

    // -- colours ----------------------------------------------------------------------------------------------------------

    const comparison = Object.fromEntries(Object.entries(data.comparison).map(([name, colour]) => [name, rgb(colour)]));
    function look(run, v) {
      if (state.view === "difference") {
        const a = isKept(runs[0], v), b = isKept(runs[1], v);
        return comparison[a && b ? "both" : a ? "first" : b ? "second" : "neither"];
      }
      if (state.colour === "verdicts") return verdictColours[run.verdict[v]];
      if (state.colour === "difference") return heat[Math.round(clamp(run.difference[v] / (run.about.ranges.difference[1] || 1), 0, 1) * (heat.length - 1))];
      return communityColour(run, v);
    }
    function recolour(run) {
      const texels = (run.texels ??= new Uint8Array(TEXTURE_WIDTH * Math.max(1, Math.ceil(count / TEXTURE_WIDTH)) * 4));
      const lit = state.picked >= 0 ? run.group[state.picked] : -2, different = state.view === "difference";
      for (let v = 0; v < count; v++) {
        const kept = different ? isKept(runs[0], v) || isKept(runs[1], v) : isKept(run, v);
        const event = !different && isEvent(run, v) && kept;
        let bits = (kept ? state.kept : state.dropped) ? 1 : 0;
        if (bits) bits |= (kept ? 2 : 0) | (event ? 4 : 0);
        const quiet = different ? !kept : state.colour === "difference" && run.difference[v] < 0.04 * run.about.ranges.difference[1];
        if (bits && quiet && state.picked < 0) bits |= 16;
        if (bits && state.picked >= 0) bits |= v === state.picked || (lit >= 0 && run.group[v] === lit) ? 8 : 16;
        const [r, g, b] = look(run, v), at = v * 4;
        texels[at] = r; texels[at + 1] = g; texels[at + 2] = b; texels[at + 3] = bits;
      }
      run.dressed = null;
      if (!card) return;
      gl.bindTexture(gl.TEXTURE_2D, card.colours[runs.indexOf(run)]);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, TEXTURE_WIDTH, card.height, gl.RGBA_INTEGER, gl.UNSIGNED_BYTE, texels);
    }

    // -- camera -------------------------------------------------------------------------------------------------------------

    const wide = Math.max(columns, rows * patch);
    function geometry(aspect) {
      const n = state.to - state.from + 1;
      const step = n > 1 ? Math.min((Math.max(1, aspect) * 1.5 * wide) / (n - 1), 1.25 * wide) : 1;
      const scale = [step, patch, 1], centre = [(state.from + state.to) / 2, (rows - 1) / 2, (columns - 1) / 2];
      const half = [((n - 1) * step) / 2 + 0.5, (rows * patch) / 2, columns / 2];
      const [sy, cy, sp, cp] = [Math.sin(state.yaw), Math.cos(state.yaw), Math.sin(state.pitch), Math.cos(state.pitch)];
      const view = new Float32Array([cy, sp * sy, -cp * sy, 0, 0, cp, sp, 0, sy, -sp * cy, cp * cy, 0, 0, 0, 0, 1]);
      // How far the box reaches to the side, up and to the front: what is shown fits, whatever the turn.
      const reach = [0, 1, 2].map((axis) => half.reduce((sum, h, k) => sum + Math.abs(view[k * 4 + axis]) * h, 0));
      const lens = 2.6;
      const corners = Array.from({ length: 8 }, (_, corner) => [0, 1, 2].map((axis) => half.reduce((sum, h, k) => sum + view[k * 4 + axis] * (corner >> k & 1 ? h : -h), 0)));
      // The distance at which the box fills the room, found in a few steps, and the shift that puts it into the middle.
      const room = Math.min(0.5, (legend.clientHeight + 24) / Math.max(1, overlay.clientHeight));
      let away = 4 * Math.hypot(...half), shift = [0, 0];
      for (let step = 0; step < 5; step++) {
        const x = corners.map((p) => (lens * p[0]) / (aspect * (away - p[2]))), y = corners.map((p) => (lens * p[1]) / (away - p[2]));
        const [left, right, bottom, top] = [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
        shift = [(left + right) / 2, (bottom + top) / 2 - room];
        away = Math.max(reach[2] * 1.05, away * Math.max((right - left) / 1.82, (top - bottom) / (1.9 - 2 * room)));
      }
      view[12] = state.pan[0] * away * 0.4; view[13] = state.pan[1] * away * 0.4; view[14] = -away / state.zoom;
      const near = Math.max(0.05, away / state.zoom - reach[2] - 2), far = away / state.zoom + reach[2] + 4;
      const lensMatrix = new Float32Array([lens / aspect, 0, 0, 0, 0, lens, 0, 0, shift[0], shift[1], (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0]);
      return { camera: multiply(lensMatrix, view), scale, centre, lens, push: (2 * far * near) / (far - near) };
    }
    function projector(area) {
      const { camera: m, scale, centre } = geometry(area.width / area.height);
      return (f, r, c) => {
        const x = (f - centre[0]) * scale[0], y = -(r - centre[1]) * scale[1], z = (c - centre[2]) * scale[2];
        const w = m[3] * x + m[7] * y + m[11] * z + m[15];
        return [area.x + ((m[0] * x + m[4] * y + m[8] * z + m[12]) / w + 1) / 2 * area.width, area.y + (1 - ((m[1] * x + m[5] * y + m[9] * z + m[13]) / w + 1) / 2) * area.height, w];
      };
    }
    const areas = () => {
      const parts = shownRuns().length, w = overlay.clientWidth, h = overlay.clientHeight, tall = w < 560 && parts > 1;
      return shownRuns().map((run, i) => ({ run, x: tall ? 0 : (w / parts) * i, y: tall ? (h / parts) * i : 0, width: tall ? w : w / parts, height: tall ? h / parts : h }));
    };

    // -- drawing ------------------------------------------------------------------------------------------------------------

    const colourOf = (name) => getComputedStyle(root).getPropertyValue(name).trim();
    const theme = {};
    function readTheme() {
      for (const name of ["paper", "ink", "soft", "line", "event", "spatial", "temporal", "light"]) theme[name] = colourOf(`--stx-${name}`);
    }
    const unit = (colour) => rgb(colour).map((channel) => channel / 255);
    const stats = { last: 0, frames: 0, firstPicture: 0, draw: 0, least: Infinity, film: 0 };  // milliseconds
    let asked = 0, settling = 0, moving = false, quality = 1;
    function move() {
      moving = true;
      clearTimeout(settling);
      settling = setTimeout(() => { moving = false; paintFilm(); redraw(); }, 250);
      redraw();
    }
    const redraw = () => { asked ||= requestAnimationFrame(() => { asked = 0; paint(); }); };
    const sheets = () => {
      if (!state.pictures) return [];
      if (state.to - state.from < 6) return Array.from({ length: state.to - state.from + 1 }, (_, i) => state.from + i);
      return state.frame >= state.from && state.frame <= state.to ? [state.frame] : [];
    };
    function resize(target, ratio) {
      const w = Math.round(target.clientWidth * ratio), h = Math.round(target.clientHeight * ratio);
      if (target.width !== w || target.height !== h) { target.width = w; target.height = h; }
    }
    function paint() {
      const start = performance.now(), ratio = Math.min(2, devicePixelRatio || 1);
      // While it moves, the picture is as fine as this machine can draw in time: fewer edges, then fewer pixels.
      const took = gl ? start - stats.last : stats.draw;
      if (moving && took < 400) quality = clamp(quality * (took > (gl ? 45 : 24) ? 0.75 : took < (gl ? 25 : 14) ? 1.2 : 1), 0.02, 1);
      stats.last = start;
      resize(canvas, moving ? Math.min(ratio, Math.max(0.5, 2 * quality)) : ratio);
      if (card) paintCard(); else if (raster) paintRaster();
      paintOverlay(ratio);
      stats.draw = performance.now() - start;
      if (!moving) stats.least = Math.min(stats.least, stats.draw);
      stats.frames++;
      if (!stats.firstPicture) {
        stats.firstPicture = performance.now() - began;
        root.dataset.ready = gl ? "webgl" : "processor";
      }
    }
    function paintCard() {
      const ratio = canvas.width / Math.max(1, canvas.clientWidth);
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.disable(gl.SCISSOR_TEST);
      gl.clearColor(...unit(theme.paper), 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      for (const { run, x, y, width, height } of areas()) {
        gl.viewport(x * ratio, canvas.height - (y + height) * ratio, width * ratio, height * ratio);
        const { camera, scale, centre, lens, push } = geometry(width / height);
        const use = ({ made, at }) => {
          gl.useProgram(made);
          gl.uniformMatrix4fv(at("camera"), false, camera);
          gl.uniform3fv(at("scale"), scale);
          gl.uniform3fv(at("centre"), centre);
          gl.uniform2f(at("brush"), state.from, state.to);
          gl.activeTexture(gl.TEXTURE0); gl.bindTexture(gl.TEXTURE_2D, card.places); gl.uniform1i(at("places"), 0);
          gl.activeTexture(gl.TEXTURE1); gl.bindTexture(gl.TEXTURE_2D, card.colours[runs.indexOf(run)]); gl.uniform1i(at("colours"), 1);
        };
        gl.enable(gl.DEPTH_TEST);
        gl.enable(gl.BLEND);
        gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
        gl.bindVertexArray(card.empty);
        use(card.sheet);
        for (const f of sheets()) {
          gl.activeTexture(gl.TEXTURE2);
          const image = picture(f);
          if (!image) continue;
          gl.bindTexture(gl.TEXTURE_2D, image);
          gl.uniform1i(card.sheet.at("picture"), 2);
          gl.uniform1f(card.sheet.at("frame"), f);
          gl.uniform1f(card.sheet.at("push"), push * 0.6);
          gl.uniform2f(card.sheet.at("area"), columns, rows);
          gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
        }
        use(card.points);
        gl.uniform1f(card.points.at("size"), Math.min(1, patch) * 0.62 * lens * 0.5 * height * ratio);
        gl.uniform1f(card.points.at("least"), 1.5 * ratio);
        for (const name of ["event", "ink", "paper"]) gl.uniform3fv(card.points.at(name), unit(theme[name]));
        gl.drawArrays(gl.POINTS, 0, count);
        if (edges.from.length && state.view !== "difference" && (state.spatial || state.temporal)) {
          gl.bindVertexArray(card.withLines);
          gl.depthMask(false);
          use(card.lines);
          const { at } = card.lines;
          gl.uniform1i(at("least"), threshold());
          gl.uniform1i(at("way"), ["community", "kind", "weight"].indexOf(state.edgeColour));
          gl.uniform1i(at("kinds"), (state.spatial ? 1 : 0) | (state.temporal ? 2 : 0) | (state.weak ? 4 : 0));
          gl.uniform1f(at("levels"), levels);
          gl.uniform1f(at("strength"), state.to - state.from < 12 ? 0.95 : 0.55);
          for (const name of ["spatial", "temporal", "event", "ink"]) gl.uniform3fv(at(name), unit(theme[name]));
          gl.drawArrays(gl.LINES, 0, 2 * Math.ceil(edges.from.length * (moving ? quality : 1)));
          gl.depthMask(true);
        }
      }
    }
    const threshold = () => state.level ?? Math.round((focusRun().about.threshold ?? own ?? 0.8) * levels);

    // By the processor: the same scene, from the same numbers.
    function paintRaster() {
      const ratio = canvas.width / Math.max(1, canvas.clientWidth), shades = {};
      for (const name of ["paper", "ink", "event"]) shades[name] = rgb(theme[name]);
      const first = begin[state.from - firstFrame], last = begin[state.to - firstFrame + 1];
      const views = areas().map(({ run, x, y, width, height }) => {
        const box = { x: Math.round(x * ratio), y: Math.round(y * ratio), width: Math.floor(width * ratio), height: Math.floor(height * ratio) };
        const seen = sheets().map((f) => ({ f, image: images[f - firstFrame] })).filter(({ image }) => image?.complete && image.naturalWidth);
        run.dressed ??= { ...raster.dress(run.texels, shades), lines: linesOf(run) };
        const { camera, scale, centre, lens } = geometry(width / height);
        return {
          box, camera, scale, centre, rows, columns, first, last, sheets: seen, texels: run.texels, dressed: run.dressed, lines: run.dressed.lines,
          size: Math.min(1, patch) * 0.62 * lens * 0.5 * height * ratio, least: 1.5 * ratio,
        };
      });
      raster.draw(views, shades, !moving, moving ? Math.min(1, 2 * quality) : 1);
    }
    // The edges that are shown, each with its colour and its opacity: what the program LINES does.
    function linesOf(run) {
      if (!edges.from.length || state.view === "difference" || !(state.spatial || state.temporal)) return null;
      const edge = new Int32Array(edges.from.length), colour = new Int32Array(edge.length), share = new Int16Array(edge.length), { texels } = run;
      const ink = rgb(theme.ink), kinds = [rgb(theme.spatial), rgb(theme.temporal)], event = rgb(theme.event), light = kinds[0].map((value) => value * 0.5 + 76);
      const least = threshold(), strength = state.to - state.from < 12 ? 0.95 : 0.55, room = Math.max(1e-3, 1 - least / levels);
      const many = edge.length, stride = strideOf(many);
      let shown = 0;
      for (let at = 0, e = 0; at < many; at++, e = (e + stride) % many) {
        const a = edges.from[e], b = edges.to[e], kind = edges.kind[e], broken = edges.level[e] < least, near = texels[a * 4 + 3], far = texels[b * 4 + 3];
        if (!(kind ? state.temporal : state.spatial) || (broken && !state.weak) || !near || !far) continue;
        if (Math.min(frame[a], frame[b]) < state.from || Math.max(frame[a], frame[b]) > state.to) continue;
        const heavy = clamp((edges.level[e] - least) / levels / room, 0, 1), struck = broken && (far & 4) !== 0 && kind === 1;
        let alpha = near & far & 8 ? 0.95 : (0.25 + 0.7 * heavy) * strength, shade = null;
        if ((near | far) & 16) alpha *= 0.1;
        if (broken) [shade, alpha] = struck ? [event, 0.7] : [ink, 0.12];
        else if (state.edgeColour === "kind") shade = kinds[kind];
        else if (state.edgeColour === "weight") shade = light.map((value, k) => value + (ink[k] - value) * heavy);
        edge[shown] = e;
        colour[shown] = shade ? (255 << 24) | (shade[2] << 16) | (shade[1] << 8) | shade[0]
          : (255 << 24) | ((texels[a * 4 + 2] + texels[b * 4 + 2]) >> 1 << 16) | ((texels[a * 4 + 1] + texels[b * 4 + 1]) >> 1 << 8) | (texels[a * 4] + texels[b * 4]) >> 1;
        share[shown++] = Math.round(256 * alpha);
      }
      return { edge: edge.subarray(0, shown), colour, share };
    }

    function paintOverlay(ratio) {
      resize(overlay, ratio);
      const pen = overlay.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, overlay.clientWidth, overlay.clientHeight);
      for (const area of areas()) {
        const at = projector(area), low = [-0.5, rows - 0.5, columns - 0.5];
        pen.save();
        pen.beginPath(); pen.rect(area.x, area.y, area.width, area.height); pen.clip();
        // The time axis along the lower front edge, with a tick where a second is written.
        pen.strokeStyle = theme.soft; pen.fillStyle = theme.soft; pen.lineWidth = 1; pen.globalAlpha = 0.75;
        const line = (points) => { pen.beginPath(); points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y))); pen.stroke(); };
        const front = Math.cos(state.yaw) >= 0 ? columns - 0.2 : -0.8;
        line([at(state.from, rows - 0.2, front), at(state.to, rows - 0.2, front)]);
        pen.font = "11px system-ui, sans-serif"; pen.textAlign = "center"; pen.textBaseline = "top";
        const ticks = Math.max(1, Math.min(state.to - state.from, Math.floor(area.width / 110)));
        const written = []; // no label over another one or outside; both ends come first
        const [start, stop] = [at(state.from, rows - 0.2, front), at(state.to, rows - 0.2, front)];
        const inner = at((state.from + state.to) / 2, (low[0] + low[1]) / 2, (low[2] - 0.5) / 2), steep = Math.abs(stop[1] - start[1]) > 0.6 * Math.abs(stop[0] - start[0]);
        const away = (start[0] + stop[0]) / 2 < inner[0] ? -1 : 1; // beside a steep axis, below a flat one
        for (const k of [0, ticks, ...Array.from({ length: ticks - 1 }, (_, i) => i + 1)]) {
          const f = Math.round(state.from + ((state.to - state.from) * k) / ticks), [x, y] = at(f, rows - 0.2, front);
          line(steep ? [[x, y], [x + 4 * away, y]] : [[x, y], [x, y + 4]]);
          const half = pen.measureText(seconds(f)).width / 2 + 3, top = steep ? y - 6 : y + 6;
          const middle = Math.min(Math.max(steep ? x + away * (half + 5) : x, area.x + half), area.x + area.width - half);
          if (written.some(([left, right, taken]) => middle - half < right && middle + half > left && Math.abs(taken - top) < 14)) continue;
          written.push([middle - half, middle + half, top]);
          pen.fillText(seconds(f), middle, top);
        }
        pen.globalAlpha = 1;
        for (const f of sheets()) {
          pen.strokeStyle = theme.line;
          line([at(f, low[0], -0.5), at(f, low[0], low[2]), at(f, low[1], low[2]), at(f, low[1], -0.5), at(f, low[0], -0.5)]);
        }
        const chosen = data.events[state.event];
        if (chosen) {
          const [top, left, bottom, right] = chosen.box.map((value) => value - 0.5), [a, b] = [Math.max(chosen.first, state.from) - 0.4, Math.min(chosen.last, state.to) + 0.4];
          if (a <= b) {
            pen.strokeStyle = theme.event; pen.lineWidth = 2;
            for (const f of [a, b]) line([at(f, top, left), at(f, top, right), at(f, bottom, right), at(f, bottom, left), at(f, top, left)]);
            for (const [r, c] of [[top, left], [top, right], [bottom, right], [bottom, left]]) line([at(a, r, c), at(b, r, c)]);
          }
        }
        for (const v of [state.picked, state.hover]) if (v >= 0 && frame[v] >= state.from && frame[v] <= state.to) {
          const [x, y] = at(frame[v], row[v], column[v]);
          if (v === state.picked) for (const e of incident[v]) {
            const far = edges.from[e] === v ? edges.to[e] : edges.from[e], weak = edges.level[e] < threshold();
            if (frame[far] < state.from || frame[far] > state.to) continue;
            const end = at(frame[far], row[far], column[far]);
            pen.lineWidth = weak ? 2 : 2 + 3 * Math.max(0, edges.level[e] / levels);
            for (const [colour, extra] of [[theme.paper, 3], [edges.kind[e] ? theme.temporal : theme.spatial, 0]]) {
              pen.save(); pen.lineWidth += extra; pen.strokeStyle = colour; pen.setLineDash(weak ? [3, 4] : []); line([[x, y], end]); pen.restore();
            }
          }
          for (const [colour, width] of [[theme.paper, 5], [theme.ink, 2]]) {
            pen.strokeStyle = colour; pen.lineWidth = width;
            pen.beginPath(); pen.arc(x, y, 8, 0, 7); pen.stroke();
          }
        }
        pen.restore();
      }
    }

    // -- time bars and film strip ---------------------------------------------------------------------------------------------

    function paintBars() {
      const ratio = Math.min(2, devicePixelRatio || 1);
      resize(bars, ratio);
      const pen = bars.getContext("2d"), w = bars.clientWidth, h = bars.clientHeight, n = lastFrame - firstFrame + 1, run = focusRun();
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, w, h);
      const kept = [], events = [];
      for (let f = firstFrame; f <= lastFrame; f++) {
        const counts = run.about.perFrame[f] ?? [];
        kept.push(counts.reduce((sum, k, code) => sum + (data.verdicts[code].kept ? k : 0), 0));
        events.push(counts.reduce((sum, k, code) => sum + (["event", "both"].includes(data.verdicts[code].name) ? k : 0), 0));
      }
      const most = Math.max(1, ...kept), slotWidth = w / n;
      for (let i = 0; i < n; i++) {
        const inside = firstFrame + i >= state.from && firstFrame + i <= state.to;
        pen.globalAlpha = inside ? 1 : 0.3;
        pen.fillStyle = theme.light; pen.fillRect(i * slotWidth + 0.5, h - (kept[i] / most) * (h - 4), Math.max(1, slotWidth - 1), (kept[i] / most) * (h - 4));
        pen.fillStyle = theme.event; pen.fillRect(i * slotWidth + 0.5, h - (events[i] / most) * (h - 4), Math.max(1, slotWidth - 1), (events[i] / most) * (h - 4));
      }
      pen.globalAlpha = 1;
      pen.fillStyle = theme.ink;
      pen.fillRect((state.frame - firstFrame + 0.5) * slotWidth - 0.75, 0, 1.5, h);
      window_.style.left = `${((state.from - firstFrame) / n) * 100}%`;
      window_.style.width = `${((state.to - state.from + 1) / n) * 100}%`;
    }
    let cells = [];
    function paintFilm() {
      if (!images.length) return;
      const ratio = Math.min(2, devicePixelRatio || 1), w = film.clientWidth, gap = 4, n = state.to - state.from + 1;
      const want = clamp(Math.round(w / 118), 1, n), width = Math.min(220, (w - gap * (want - 1)) / want), height = (width * data.size[1]) / data.size[0];
      film.style.height = `${height + 16}px`;
      resize(film, ratio);
      const pen = film.getContext("2d"), run = focusRun(), lit = state.picked >= 0 ? run.group[state.picked] : -2;
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, w, height + 16);
      let chosen = Array.from({ length: want }, (_, k) => state.from + Math.round(want > 1 ? (k * (n - 1)) / (want - 1) : (n - 1) / 2));
      if (state.frame >= state.from && state.frame <= state.to && !chosen.includes(state.frame)) {
        const nearest = chosen.reduce((best, f, i) => (Math.abs(f - state.frame) < Math.abs(chosen[best] - state.frame) ? i : best), 0);
        chosen[nearest] = state.frame;
      }
      cells = chosen.map((f, k) => ({ f, x: k * (width + gap), width, height }));
      for (const { f, x } of cells) {
        const image = images[f - firstFrame];
        if (image?.complete && image.naturalWidth) pen.drawImage(image, x, 0, width, height);
        const [cw, ch] = [width / columns, height / rows];
        const members = [];
        for (let v = begin[f - firstFrame]; v < begin[f - firstFrame + 1]; v++) {
          if (row[v] >= rows || column[v] >= columns) continue;
          const edge = (value) => Math.round(value * ratio) / ratio, left = edge(x + column[v] * cw), top = edge(row[v] * ch);
          const box = [left, top, edge(x + (column[v] + 1) * cw) - left, edge((row[v] + 1) * ch) - top], [r, g, b] = look(run, v), kept = state.view === "difference" ? isKept(runs[0], v) || isKept(runs[1], v) : isKept(run, v);
          if (lit >= 0) {
            if (run.group[v] === lit) members.push([v, box]);
            else { pen.fillStyle = "rgb(8 10 14 / .72)"; pen.fillRect(...box); }
          } else if (state.colour === "communities" && state.view !== "difference") {
            pen.fillStyle = `rgb(${r} ${g} ${b} / ${kept ? 0.6 : 0.42})`; pen.fillRect(...box);
          } else {
            pen.fillStyle = kept || state.colour === "difference" ? `rgb(${r} ${g} ${b} / .45)` : "rgb(8 10 14 / .68)"; pen.fillRect(...box);
          }
        }
        for (const [v, box] of members) {
          const [r, g, b] = communityColour(run, v);
          pen.fillStyle = `rgb(${r} ${g} ${b} / .25)`; pen.fillRect(...box);
          pen.fillStyle = "#fff";
          for (const [dr, dc, side] of [[-1, 0, [box[0], box[1], box[2], 1.5]], [1, 0, [box[0], box[1] + box[3] - 1.5, box[2], 1.5]], [0, -1, [box[0], box[1], 1.5, box[3]]], [0, 1, [box[0] + box[2] - 1.5, box[1], 1.5, box[3]]]]) {
            const next = vertexAt(f, row[v] + dr, column[v] + dc);
            if (next === undefined || run.group[next] !== lit) pen.fillRect(...side);
          }
        }
        if (state.picked >= 0 && frame[state.picked] === f) {
          const v = state.picked;
          pen.strokeStyle = "#000"; pen.lineWidth = 3.5; pen.strokeRect(x + column[v] * cw, row[v] * ch, cw, ch);
          pen.strokeStyle = "#fff"; pen.lineWidth = 1.8; pen.strokeRect(x + column[v] * cw, row[v] * ch, cw, ch);
        }
        pen.fillStyle = f === state.frame ? theme.ink : theme.soft;
        pen.font = `${f === state.frame ? "600 " : ""}11px system-ui, sans-serif`; pen.textBaseline = "top"; pen.textAlign = "left";
        pen.fillText(seconds(f), x, height + 3);
      }
    }

    // -- words ----------------------------------------------------------------------------------------------------------------

    const swatch = (colour) => `<i style="background:rgb(${colour.join(" ")})"></i>`;
    function describe() {
      const run = focusRun(), shown = state.level ?? null;
      const value = shown === null ? run.about.threshold : shown / levels;
      let largest = 0, single = 0;
      for (let v = 0; v < count; v++) if (run.group[v] === v) { largest = Math.max(largest, run.size[v]); if (run.size[v] === 1) single++; }
      sliderText.textContent = value === null ? "of the run" : value.toFixed(3);
      groupsText.textContent = `${many(run.communities, "communit").replace(/communits$/, "communities").replace(/communit$/, "community")}, ${COUNT.format(single)} of one token, largest ${COUNT.format(largest)} (${((100 * largest) / Math.max(1, count)).toFixed(1)}\u00a0%)${shown !== null && run.about.community && run.about.community !== "components" ? ", connected components at this threshold" : ""}`;
      slider.setAttribute("aria-valuetext", `${(slider.value / levels).toFixed(3)}: ${run.communities} communities`);
      asRun.setAttribute("aria-pressed", shown === null);
      const n = state.to - state.from + 1;
      brushText.textContent = `${many(n, "frame")}: ${state.from} to ${state.to}, ${seconds(state.from)} to ${seconds(state.to)}`;
      from.setAttribute("aria-valuetext", `frame ${state.from}, ${seconds(state.from)}`);
      to.setAttribute("aria-valuetext", `frame ${state.to}, ${seconds(state.to)}`);
      names.replaceChildren(...(runs.length > 1 ? areas().map(({ run: { about }, x, y }) => element("span", { style: `left:${x + 12}px;top:${y + 10}px` },
        state.view === "difference" ? `${runs[0].about.name} and ${runs[1].about.name}` : `${about.name}: ${COUNT.format(about.kept)} of ${COUNT.format(about.tokens)} kept`)) : []));
      legend.innerHTML = legendText(run);
    }
    function legendText(run) {
      const entry = (colour, text) => `<span>${swatch(colour)}${escaped(text)}</span>`, list = [];
      if (state.view === "difference") {
        let both = 0, a = 0, b = 0;
        for (let v = 0; v < count; v++) { const [x, y] = [isKept(runs[0], v), isKept(runs[1], v)]; if (x && y) both++; else if (x) a++; else if (y) b++; }
        return entry(comparison.both, `kept by both ${COUNT.format(both)}`) + entry(comparison.first, `only ${runs[0].about.name} ${COUNT.format(a)}`) + entry(comparison.second, `only ${runs[1].about.name} ${COUNT.format(b)}`) + entry(comparison.neither, "by neither");
      }
      if (state.colour === "verdicts") {
        const counts = new Map();
        for (let v = 0; v < count; v++) counts.set(run.verdict[v], (counts.get(run.verdict[v]) ?? 0) + 1);
        data.verdicts.forEach(({ name }, code) => { if (counts.get(code)) list.push(entry(verdictColours[code], `${name} ${COUNT.format(counts.get(code))}`)); });
      } else if (state.colour === "difference") {
        list.push(`<span class="stx-ramp" style="background:linear-gradient(90deg,${data.heat.join(",")})"></span><span>0 to ${short(run.about.ranges.difference[1])}</span>`);
      } else list.push("<span>one colour = one community</span>", entry(alone, "alone"), "<span>large = kept, small = dropped</span>");
      if (state.colour !== "verdicts" && run.candidate.some((c) => c & 2)) list.push(`<span><i class="stx-ring"></i>event</span>`);
      if (state.edgeColour === "kind" && data.hasGraph) list.push(`<span><i style="background:${theme.spatial}"></i>spatial edge</span><span><i style="background:${theme.temporal}"></i>temporal edge</span>`);
      return list.join("");
    }
    function explain() {
      const v = state.picked;
      if (v < 0) {
        why.innerHTML = `<h3>Ask a token</h3><p>Click a token, in the graph or in the film strip. It says why it was kept or dropped, and its community lights up in all frames.</p>`;
        return;
      }
      why.innerHTML = shownRuns().map((run) => answer(run, v)).join("") + neighbours(v);
    }
    function answer(run, v) {
      const verdict = data.verdicts[run.verdict[v]], reason = (run.about.hasCandidates ? null : RANKED[verdict.name]) ?? REASONS[verdict.name];
      const facts = [["Frame, row, column", `${frame[v]}, ${row[v]}, ${column[v]}`], ["Time", seconds(frame[v])]];
      if (run.group[v] >= 0) {
        let first = frame[v], last = frame[v];
        for (let u = 0; u < count; u++) if (run.group[u] === run.group[v]) { first = Math.min(first, frame[u]); last = Math.max(last, frame[u]); }
        const name = run.level === null ? `${swatch(communityColour(run, v))}${run.community[v]}` : `${swatch(communityColour(run, v))}at τ_sim ${(run.level / levels).toFixed(3)}`;
        facts.push(["Community", name], ["Tokens in it", COUNT.format(sizeOf(run, v))], ["Its frames", first === last ? first : `${first} to ${last}`]);
      }
      if (run.community[v] >= 0) {
        facts.push(["Centrality", `${run.centrality[v].toFixed(3)}`], ["Rank in it", `${COUNT.format(run.rank[v] + 1)} of ${COUNT.format(run.sizes[run.community[v]])}`], ["Representatives", `the first ${COUNT.format(run.stay[run.community[v]])}`]);
      }
      if (run.about.ranges.difference[1] > 0) facts.push(["Difference from its past", run.difference[v].toFixed(3)]);
      const margin = run.importance[v] - run.about.lowestKept;
      if (!run.about.hasCandidates || run.candidate[v]) facts.push(["Importance", short(run.importance[v])], ["Lowest importance kept", `${short(run.about.lowestKept)}: ${short(Math.abs(margin))} ${margin < 0 ? "below" : "above"}`]);
      const title = runs.length > 1 ? `${escaped(run.about.name)}: ${verdict.name}` : `Token ${COUNT.format(token[v])}: ${verdict.name}`;
      return `<h3>${swatch(verdictColours[run.verdict[v]])}${title}</h3><p>${reason}</p><dl>${facts.map(([name, text]) => `<dt>${name}</dt><dd>${text}</dd>`).join("")}</dl>`;
    }
    function neighbours(v) {
      if (!data.hasGraph) return "";
      const list = incident[v].map((e) => ({ far: edges.from[e] === v ? edges.to[e] : edges.from[e], kind: edges.kind[e], level: edges.level[e] })).sort((a, b) => b.level - a.level);
      const name = ({ far, kind }) => {
        if (kind) return frame[far] < frame[v] ? "before" : "after";
        return row[far] < row[v] ? "above" : row[far] > row[v] ? "below" : column[far] < column[v] ? "left" : "right";
      };
      const line = (edge) => `<tr><td><button type="button" data-vertex="${edge.far}">${name(edge)}</button></td><td>${edge.kind ? "temporal" : "spatial"}</td><td>${(edge.level / levels).toFixed(3)}</td><td>${edge.level >= threshold() ? "stays" : "removed"}</td></tr>`;
      return `<table><caption>Its ${many(list.length, "edge")}</caption><thead><tr><th scope="col">to</th><th scope="col">kind</th><th scope="col">cosine</th><th scope="col">at τ_sim</th></tr></thead><tbody>${list.map(line).join("")}</tbody></table>`;
    }
    why.addEventListener("click", (event) => {
      const button = event.target.closest("[data-vertex]");
      if (button) pick(Number(button.dataset.vertex));
    }, { signal });

    // -- changes of state ---------------------------------------------------------------------------------------------------------

    function set(changes) {
      Object.assign(state, changes);
      if ("level" in changes) for (const run of runs) regroup(run, state.level);
      from.value = state.from; to.value = state.to;
      for (const name of ["view", "colour", "edgeColour"]) for (const input of controls.querySelectorAll(`input[name="${id + name}"]`)) input.checked = input.value === state[name];
      slider.value = state.level ?? Math.round((focusRun().about.threshold ?? own ?? 0.8) * levels);
      for (const input of controls.querySelectorAll("[data-toggle]")) input.checked = state[input.dataset.toggle];
      if (runs.length > 1) controls.querySelector(`input[name="${id}colour"]`).closest("fieldset").hidden = state.view === "difference";
      tau.hidden = state.view === "difference" || state.colour !== "communities";
      for (const run of shownRuns()) recolour(run);
      describe();
      if (!("hover" in changes && Object.keys(changes).length === 1)) explain();
      paintBars();
      // On a slow machine the film strip follows when the hand rests.
      if (!moving || stats.film < 4) {
        const start = performance.now();
        paintFilm();
        stats.film = performance.now() - start;
      }
      redraw();
    }
    function moved(changes) { set(changes); move(); }
    function turn(changes) { Object.assign(state, changes); state.zoom = clamp(state.zoom, 0.4, 30); state.pitch = clamp(state.pitch, -1.5, 1.5); move(); }
    function pick(v) {
      if (v < 0) { set({ picked: -1 }); return; }
      const changes = { picked: v, frame: frame[v] };
      if (frame[v] < state.from || frame[v] > state.to) Object.assign(changes, { from: Math.min(state.from, frame[v]), to: Math.max(state.to, frame[v]) });
      set(changes);
    }
    function goTo(number) {
      const event = data.events[number];
      if (!event) { set({ event: -1 }); return; }
      const around = Math.max(2, Math.round((event.last - event.first) / 2));
      set({ event: number, picked: -1, frame: clamp(event.peak, firstFrame, lastFrame), from: clamp(event.first - around, firstFrame, lastFrame), to: clamp(event.last + around, firstFrame, lastFrame) });
    }
    function brush(a, b) {
      const n = b - a;
      if (a < firstFrame) [a, b] = [firstFrame, firstFrame + n];
      if (b > lastFrame) [a, b] = [lastFrame - n, lastFrame];
      moved({ from: Math.max(firstFrame, a), to: Math.min(lastFrame, b) });
    }
    from.addEventListener("input", () => moved({ from: Math.min(Number(from.value), state.to) }), { signal });
    to.addEventListener("input", () => moved({ to: Math.max(Number(to.value), state.from) }), { signal });
    slider.addEventListener("input", () => moved({ level: Number(slider.value) }), { signal });
    asRun.addEventListener("click", () => { set({ level: null }); }, { signal });

    // The brush is dragged as a whole by its middle, and a click beside it moves it there.
    let drag = null;
    const frameAt = (event) => { const box = bars.getBoundingClientRect(); return clamp(firstFrame + Math.floor(((event.clientX - box.left) / box.width) * (lastFrame - firstFrame + 1)), firstFrame, lastFrame); };
    bars.parentElement.addEventListener("pointerdown", (event) => {
      if (event.target === from || event.target === to) return;
      const f = frameAt(event), n = state.to - state.from;
      if (f < state.from || f > state.to) brush(f - Math.floor(n / 2), f - Math.floor(n / 2) + n);
      drag = { f, from: state.from, to: state.to, moved: false };
      bars.parentElement.setPointerCapture(event.pointerId);
    }, { signal });
    bars.parentElement.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const by = frameAt(event) - drag.f;
      if (by) drag.moved = true;
      if (drag.moved) brush(drag.from + by, drag.to + by);
    }, { signal });
    bars.parentElement.addEventListener("pointerup", (event) => { if (drag && !drag.moved) set({ frame: frameAt(event) }); drag = null; }, { signal });

    film.addEventListener("click", (event) => {
      const cell = cells.find(({ x, width }) => event.offsetX >= x && event.offsetX < x + width);
      if (!cell) return;
      const v = event.offsetY < cell.height ? vertexAt(cell.f, Math.floor((event.offsetY / cell.height) * rows), Math.floor(((event.offsetX - cell.x) / cell.width) * columns)) : undefined;
      if (v === undefined || v === state.picked) set({ frame: cell.f, picked: -1 });
      else pick(v);
    }, { signal });

    // -- turning, moving, zooming, asking ------------------------------------------------------------------------------------------

    function vertexNear(x, y, within) {
      let best = -1, nearest = Infinity;
      for (const area of areas()) {
        if (x < area.x || x > area.x + area.width || y < area.y || y > area.y + area.height) continue;
        const at = projector(area);
        for (let v = 0; v < count; v++) {
          if (frame[v] < state.from || frame[v] > state.to || !area.run.texels[v * 4 + 3]) continue;
          const [px, py, depth] = at(frame[v], row[v], column[v]), off = Math.hypot(px - x, py - y);
          const faded = area.run.texels[v * 4 + 3] & 16 ? 1e4 : 0;  // lit tokens first, then the front ones
          if (off < within && depth + off * 0.05 + faded < nearest) [best, nearest] = [v, depth + off * 0.05 + faded];
        }
      }
      return best;
    }
    const touches = new Map();
    let turned = 0;
    const spot = (event) => { const box = overlay.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    overlay.addEventListener("pointerdown", (event) => { touches.set(event.pointerId, spot(event)); overlay.setPointerCapture(event.pointerId); turned = touches.size > 1 ? 99 : 0; tip.hidden = true; }, { signal });
    overlay.addEventListener("pointermove", (event) => {
      const now = spot(event), before = touches.get(event.pointerId);
      if (!before) {
        const v = vertexNear(...now, 9);
        if (v !== state.hover) {
          state.hover = v;
          tip.hidden = v < 0;
          if (v >= 0) {
            const run = focusRun();
            tip.textContent = `${seconds(frame[v])} · row ${row[v]}, column ${column[v]} · ${data.verdicts[run.verdict[v]].name}${run.group[v] >= 0 ? ` · community of ${COUNT.format(sizeOf(run, v))}` : ""}`;
            tip.style.left = `${clamp(now[0] + 14, 0, Math.max(0, overlay.clientWidth - 250))}px`;
            tip.style.top = `${now[1] + 16}px`;
          }
          redraw();
        }
        return;
      }
      const [dx, dy] = [now[0] - before[0], now[1] - before[1]], size = Math.min(overlay.clientWidth, overlay.clientHeight);
      if (touches.size === 2) {
        const other = [...touches].find(([key]) => key !== event.pointerId)[1];
        const grown = Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
        turn({ zoom: state.zoom * grown, pan: [state.pan[0] + dx / size / 2, state.pan[1] - dy / size / 2] });
      } else if (event.shiftKey || event.buttons & 2) turn({ pan: [state.pan[0] + (2 * dx) / size / state.zoom, state.pan[1] - (2 * dy) / size / state.zoom] });
      else turn({ yaw: state.yaw - (dx / size) * 2.4, pitch: state.pitch + (dy / size) * 2.4 });
      turned += Math.abs(dx) + Math.abs(dy);
      touches.set(event.pointerId, now);
    }, { signal });
    const release = (event) => {
      if (touches.delete(event.pointerId) && event.type === "pointerup" && turned < 5) {
        const v = vertexNear(...spot(event), event.pointerType === "touch" ? 20 : 12);
        pick(v === state.picked ? -1 : v);
      }
    };
    overlay.addEventListener("pointerup", release, { signal });
    overlay.addEventListener("pointercancel", release, { signal });
    overlay.addEventListener("pointerleave", () => { state.hover = -1; tip.hidden = true; redraw(); }, { signal });
    overlay.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    overlay.addEventListener("wheel", (event) => { event.preventDefault(); turn({ zoom: state.zoom * Math.exp(-event.deltaY * 0.0015) }); }, { signal, passive: false });
    overlay.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key], v = state.picked;
      const next = (df, dr, dc) => {
        const to = v < 0 ? vertexAt(state.frame, Math.floor(rows / 2), Math.floor(columns / 2)) : vertexAt(frame[v] + df, row[v] + dr, column[v] + dc);
        if (to !== undefined) pick(to);
      };
      if (step && event.shiftKey) next(0, ...step);
      else if (step) turn({ yaw: state.yaw + step[1] * 0.1, pitch: state.pitch - step[0] * 0.1 });
      else if (event.key === "PageDown") next(1, 0, 0);
      else if (event.key === "PageUp") next(-1, 0, 0);
      else if (event.key === "+" || event.key === "=") turn({ zoom: state.zoom * 1.15 });
      else if (event.key === "-") turn({ zoom: state.zoom / 1.15 });
      else if (event.key === "[") brush(state.from - 1, state.to - 1);
      else if (event.key === "]") brush(state.from + 1, state.to + 1);
      else if (event.key === "0") reset.click();
      else if (event.key === "Escape") set({ picked: -1, event: -1 });
      else return;
      event.preventDefault();
      event.stopPropagation();
    }, { signal });

    // -- start ------------------------------------------------------------------------------------------------------------------------

    const refresh = () => { root.classList.toggle("stx-narrow", root.clientWidth < 760); readTheme(); set({}); };
    for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", refresh, { signal });
    const watcher = new ResizeObserver(() => { if (root.clientWidth) refresh(); });
    watcher.observe(root);
    signal.addEventListener("abort", () => { watcher.disconnect(); gl?.getExtension("WEBGL_lose_context")?.loseContext(); root.replaceChildren(); });
    root.classList.toggle("stx-narrow", root.clientWidth < 760);
    readTheme();
    set({ level: null });
    let filming = 0;
    for (const image of images) if (image && !image.complete) image.addEventListener("load", () => { filming ||= setTimeout(() => { filming = 0; paintFilm(); redraw(); }, 30); });

    const pace = (time, change) => new Promise((done) => {
      const pixel = new Uint8Array(4);
      let start = 0, frames = 0;
      const step = () => {
        const now = performance.now();
        start ||= now;
        if (now - start >= time) { done((1000 * frames) / (now - start)); return; }
        change(frames++);
        cancelAnimationFrame(asked); asked = 0;
        paint();
        gl?.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits until the picture is there
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    });
    // For tests and measurements: what is shown, and how fast it can be drawn anew.
    root.explorer = {
      state, stats, data, set, pick, renderer, draw: paint,
      colours: () => Array.from(focusRun().texels.subarray(0, count * 4)),
      groups: () => Array.from(focusRun().group),
      screen: (v) => { const area = areas()[0]; return projector(area)(frame[v], row[v], column[v]).slice(0, 2); },
      // Frames a second while it turns, and while τ_sim is dragged.
      turning: (time) => pace(time, () => turn({ yaw: state.yaw + 0.02 })),
      dragging: (time) => pace(time, (n) => moved({ level: Math.round(levels * (0.9 + 0.1 * Math.sin(n / 9))) })),
      recolouring(times) {
        const start = performance.now();
        for (let i = 0; i < times; i++) { for (const run of runs) regroup(run, Math.round(levels * (0.5 + (0.5 * i) / times))); for (const run of shownRuns()) recolour(run); }
        set({ level: null });
        return (performance.now() - start) / times;
      },
    };
  }
})();
