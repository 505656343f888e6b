"use strict";
(() => {
  document.documentElement.classList.add("script-on");
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const [frames, rows, columns] = data.grid;
  const MODES = ["frame", "kept", "verdicts", "communities", "difference"];
  const COUNT = new Intl.NumberFormat("en");

  const unpack = ({ dtype, base64 }) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const type = { uint8: Uint8Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array }[dtype];
    return new type(bytes.buffer);
  };
  const token = Object.fromEntries(Object.entries(data.tokens).map(([name, packed]) => [name, unpack(packed)]));
  const images = data.frames.map(({ image }) => Object.assign(new Image(), { src: image }));
  const ready = (image) => image.complete && image.naturalWidth > 0;
  const highest = token.difference.reduce((most, value) => Math.max(most, value), Math.max(1e-6, data.difference.threshold ?? 0));
  const hasDifference = data.difference.mean !== null || token.difference.some((value) => value > 0);

  // -- state: what is shown, kept in the address so that a view can be linked ------------------------------------------

  const state = { mode: data.mode, place: 0, hover: -1, token: -1, event: -1, playing: 0 };
  const nearest = (frame) => {
    let best = 0;
    data.frames.forEach((entry, place) => {
      if (Math.abs(entry.frame - frame) < Math.abs(data.frames[best].frame - frame)) best = place;
    });
    return best;
  };
  const current = () => data.frames[state.place];
  const numberOf = (i) => {
    const { token: start, first } = data.frames.find(({ last }) => i < last);
    return start + i - first;
  };

  function readAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (MODES.includes(wanted.get("mode"))) state.mode = wanted.get("mode");
    if (wanted.has("frame")) state.place = nearest(Number(wanted.get("frame")) || 0);
    const pinned = wanted.has("token") ? Number(wanted.get("token")) : NaN;
    const place = data.frames.findIndex(({ token, first, last }) => pinned >= token && pinned < token + last - first);
    state.token = place < 0 ? -1 : pinned - data.frames[place].token + data.frames[place].first;
    if (place >= 0) state.place = place;
  }
  function writeAddress() {
    const pinned = state.token >= 0 ? `&token=${numberOf(state.token)}` : "";
    history.replaceState(null, "", `#mode=${state.mode}&frame=${current().frame}${pinned}`);
  }
  function show(changes) {
    if ("place" in changes) {
      changes.place = Math.max(0, Math.min(data.frames.length - 1, changes.place));
      if (changes.place !== state.place) state.hover = -1;
    }
    Object.assign(state, changes);
    writeAddress();
    draw();
  }

  // -- picture ---------------------------------------------------------------------------------------------------------

  const canvas = $("picture");
  const pen = canvas.getContext("2d");
  const EDGE = columns + 1;
  const placeOf = (i) => [Math.floor(token.cell[i] / EDGE), token.cell[i] % EDGE];
  const isKept = (i) => data.verdicts[token.verdict[i]].kept;
  const isEvent = (i) => ["event", "both"].includes(data.verdicts[token.verdict[i]].name);
  const communityColour = (community) =>
    data.sizes[community] > 1 ? data.communityColours[community % data.communityColours.length] : data.aloneColour;
  const heatColour = (value) => data.heat[Math.round(Math.max(0, Math.min(1, value / highest)) * (data.heat.length - 1))];

  function box(i) {
    const [row, column] = placeOf(i);
    const x = Math.round((column * canvas.width) / columns), y = Math.round((row * canvas.height) / rows);
    return [x, y, Math.round(((column + 1) * canvas.width) / columns) - x, Math.round(((row + 1) * canvas.height) / rows) - y];
  }

  // Lines between tokens of different ``group``, each in the colour of the token it belongs to.
  function outline(members, group, colour, width) {
    const groups = new Map(members.map((i) => [token.cell[i], group(i)]));
    for (const i of members) {
      if (group(i) === null) continue;
      const [x, y, w, h] = box(i), cell = token.cell[i];
      const sides = [[cell - EDGE, x, y, w, width], [cell + EDGE, x, y + h - width, w, width], [cell - 1, x, y, width, h], [cell + 1, x + w - width, y, width, h]];
      pen.fillStyle = colour(i);
      for (const [neighbour, ...line] of sides) if (groups.get(neighbour) !== group(i)) pen.fillRect(...line);
    }
  }

  function paint() {
    const width = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
    canvas.width = width;
    canvas.height = Math.max(1, Math.round((width * data.size[1]) / data.size[0]));
    if (!ready(images[state.place])) return;
    pen.drawImage(images[state.place], 0, 0, canvas.width, canvas.height);
    const { first, last } = current();
    const members = [];
    for (let i = first; i < last; i++) {
      const [row, column] = placeOf(i);
      if (row < rows && column < columns) members.push(i);
    }
    const line = Math.max(1, Math.round(canvas.width / 480));
    const darken = (area, strength) => {
      pen.globalCompositeOperation = "saturation";
      pen.fillStyle = "#000";
      pen.fillRect(...area);
      pen.globalCompositeOperation = "source-over";
      pen.fillStyle = `rgb(9 11 14 / ${strength})`;
      pen.fillRect(...area);
    };
    const dim = (strength) => members.forEach((i) => isKept(i) || darken(box(i), strength));
    if (state.mode === "kept") {
      dim(0.78);
    } else if (state.mode === "verdicts") {
      dim(0.7);
      const colour = (i) => data.verdicts[token.verdict[i]].colour;
      for (const i of members) if (isKept(i)) {
        pen.fillStyle = colour(i) + "3A";
        pen.fillRect(...box(i));
      }
      const grouped = (i) => (isKept(i) || data.verdicts[token.verdict[i]].name === "trimmed" ? token.verdict[i] : null);
      outline(members, grouped, (i) => colour(i) + (isKept(i) ? "" : "90"), line);
    } else if (state.mode === "communities") {
      const looked = state.hover >= 0 ? state.hover : state.token;
      const focus = looked >= first && looked < last && token.community[looked] >= 0 ? token.community[looked] : null;
      for (const i of members) {
        const community = token.community[i];
        if (community < 0) continue;
        const faded = focus !== null && focus !== community;
        pen.fillStyle = communityColour(community) + (faded ? "40" : "A0");
        pen.fillRect(...box(i));
      }
      outline(members, (i) => token.community[i], () => "rgb(0 0 0 / .5)", line);
      for (const i of members) if (isKept(i)) {
        const [x, y, w, h] = box(i);
        pen.beginPath();
        pen.arc(x + w / 2, y + h / 2, Math.max(1.5, Math.min(w, h) / 9), 0, 7);
        pen.fillStyle = "#fff";
        pen.fill();
      }
    } else if (state.mode === "difference") {
      darken([0, 0, canvas.width, canvas.height], 0.45);
      for (const i of members) {
        pen.globalAlpha = 0.85 * Math.sqrt(Math.min(1, token.difference[i] / highest));
        pen.fillStyle = heatColour(token.difference[i]);
        pen.fillRect(...box(i));
      }
      pen.globalAlpha = 1;
      outline(members, (i) => (isEvent(i) ? 1 : null), () => data.verdicts[2].colour, line);
    }
    const chosen = data.events[state.event];
    if (chosen && chosen.first <= current().frame && current().frame <= chosen.last) {
      const [top, left, bottom, right] = chosen.box;
      const [sx, sy] = [canvas.width / columns, canvas.height / rows];
      pen.setLineDash([5 * line, 4 * line]);
      pen.strokeStyle = "#fff";
      pen.lineWidth = 1.5 * line;
      pen.strokeRect(left * sx + line, top * sy + line, (right - left) * sx - 2 * line, (bottom - top) * sy - 2 * line);
      pen.setLineDash([]);
    }
    for (const i of [state.token, state.hover]) if (i >= first && i < last) {
      const [x, y, w, h] = box(i);
      pen.strokeStyle = "#fff";
      pen.lineWidth = 2 * line;
      pen.strokeRect(x, y, w, h);
    }
  }

  function tokenAt(event) {
    const area = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - area.left) / area.width) * columns);
    const row = Math.floor(((event.clientY - area.top) / area.height) * rows);
    const { first, last } = current();
    for (let i = first; i < last; i++) if (token.cell[i] === row * EDGE + column) return i;
    return -1;
  }

  // -- why a token was kept or dropped ---------------------------------------------------------------------------------

  const REASONS = {
    dropped: "Dropped: neither among the most central of its community nor an event.",
    representative: "Kept: among the most central tokens of its community.",
    event: "Kept: it differs from its past.",
    both: "Kept: among the most central tokens of its community, and an event.",
    filled: "Kept: its importance won it a free place in the budget.",
    trimmed: "Dropped: a candidate, but more important ones filled the budget.",
    separator: "Kept: a separator.",
  };
  const swatch = (colour) => `<span class="key" style="background:${colour}"></span>`;
  const number = (value) => {
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  };

  function explain() {
    const { first, last } = current();
    const i = state.hover >= 0 ? state.hover : state.token;
    $("why").innerHTML = i >= first && i < last ? tokenText(i) : legend();
  }
  function tokenText(i) {
    const verdict = data.verdicts[token.verdict[i]], community = token.community[i], [row, column] = placeOf(i);
    const facts = [["Frame, row, column", `${current().frame}, ${row}, ${column}`]];
    if (community >= 0) {
      facts.push(["Community", `${swatch(communityColour(community))}${community}`]);
      facts.push(["Tokens in it", COUNT.format(data.sizes[community])]);
      facts.push(["Centrality", number(token.centrality[i])]);
    }
    if (hasDifference) facts.push(["Difference", number(token.difference[i])]);
    facts.push(["Importance", number(token.importance[i])]);
    facts.push([token.margin[i] < 0 ? "Below the last kept by" : "Above the last kept by", number(Math.abs(token.margin[i]))]);
    const list = facts.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join("");
    return `<h3>${swatch(verdict.colour)}Token ${numberOf(i)}: ${verdict.name}</h3><p>${REASONS[verdict.name]}</p><dl>${list}</dl>`;
  }
  function legend() {
    const line = (colour, name, value) => `<li>${swatch(colour)}<span>${name}</span><span>${value}</span></li>`;
    const counts = data.kept[current().frame];
    if (state.mode === "communities" && data.sizes.length) {
      const { first, last } = current(), here = new Map();
      for (let i = first; i < last; i++) {
        const community = token.community[i];
        if (community >= 0) here.set(community, (here.get(community) || 0) + 1);
      }
      const largest = [...here].filter(([c]) => data.sizes[c] > 1).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
      const alone = [...here].filter(([c]) => data.sizes[c] === 1).length;
      const items = largest.slice(0, 7).map(([c, n]) => line(communityColour(c), `community ${c}`, `${n} here, ${COUNT.format(data.sizes[c])} in all`));
      if (alone) items.push(line(data.aloneColour, "alone", alone));
      return `<h3>${here.size} communities in this frame</h3><ul class="legend">${items.join("")}</ul><p>One colour is one community, in all frames. A white dot is a kept token.</p>`;
    }
    if (state.mode === "difference") {
      const threshold = data.difference.threshold === null ? "" : `<p>Tokens above ${number(data.difference.threshold)} are events; kept ones are outlined.</p>`;
      return `<h3>Difference from the past</h3><div class="ramp" style="background:linear-gradient(90deg,${data.heat.join()})"></div><div class="ends"><span>0</span><span>${number(highest)}</span></div>${threshold}`;
    }
    const items = data.legend.filter((v) => data.verdicts[v].count).map((v) => line(data.verdicts[v].colour, data.verdicts[v].name, `${counts[v]} of ${COUNT.format(data.verdicts[v].count)}`));
    const total = counts.reduce((a, b) => a + b, 0), kept = counts.reduce((sum, n, v) => sum + (data.verdicts[v].kept ? n : 0), 0);
    return `<h3>${kept} of ${total} tokens kept in this frame</h3><ul class="legend">${items.join("")}</ul><p>Point at a token to see why.</p>`;
  }

  // -- charts ----------------------------------------------------------------------------------------------------------

  const FACE = { left: 44, right: 14, top: 8, bottom: 22 };
  const svg = (width, height, body) => `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" aria-hidden="true">${body}</svg>`;
  const keys = (...entries) => `<div class="keys">${entries.map(([colour, name]) => `<span>${swatch(colour)}${name}</span>`).join("")}</div>`;
  const path = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");

  function niceStep(span, most) {
    const rough = span / most, power = 10 ** Math.floor(Math.log10(rough));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
  }
  function ticks(from, to, most) {
    if (!(to > from)) return [from];
    const step = niceStep(to - from, most), out = [];
    for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) out.push(Number((k * step).toPrecision(12)));
    return out;
  }
  const heightAxis = (values, y, width, face, form = COUNT.format) => values.map((value) =>
    `<line class="rule" x1="${face.left}" x2="${width - face.right}" y1="${y(value)}" y2="${y(value)}"/><text x="${face.left - 7}" y="${y(value) + 4}" text-anchor="end">${form(value)}</text>`).join("");

  // Frames are equally wide slots; the seconds are written where they fall.
  const slots = (width, face) => {
    const slot = (width - face.left - face.right) / frames;
    return { slot, x: (frame) => face.left + frame * slot, middle: (frame) => face.left + (frame + 0.5) * slot };
  };
  function timeAxis(width, height, face) {
    const { middle } = slots(width, face), [from, to] = [data.seconds[0], data.seconds[frames - 1]];
    return ticks(from, to, Math.max(2, width / 90)).map((second) => {
      let after = data.seconds.findIndex((s) => s >= second - 1e-6);
      if (after < 0) after = frames - 1;
      const before = Math.max(0, after - 1), gap = data.seconds[after] - data.seconds[before];
      const at = gap > 0 ? after - (data.seconds[after] - second) / gap : after;
      return `<text x="${middle(at)}" y="${height - 5}" text-anchor="middle">${Number(second.toFixed(3))} s</text>`;
    }).join("");
  }
  const timed = (width, height, face, tip) => {
    const { slot, x } = slots(width, face);
    const areas = Array.from({ length: frames }, (_, t) => `<rect class="pick" data-frame="${t}" x="${x(t)}" y="0" width="${slot}" height="${height - face.bottom}"><title>${tip(t)}</title></rect>`).join("");
    return `<line class="head" y1="${face.top}" y2="${height - face.bottom}"/>${areas}`;
  };
  const seconds = (t) => `${data.seconds[t].toFixed(2)} s`;

  const charts = {
    difference(width) {
      const height = 220, face = { ...FACE, top: 16 }, { mean, high, marked, threshold } = data.difference;
      const { slot, x, middle } = slots(width, face), floor = height - face.bottom;
      const most = 1.06 * Math.max(0.1, threshold ?? 0, ...(high ?? [0]));
      const y = (value) => floor - (value / most) * (floor - face.top), crowd = Math.max(1, ...marked);
      const bars = marked.map((n, t) => n ? `<rect x="${x(t) + slot * 0.12}" y="${floor - (n / crowd) * 0.5 * (floor - face.top)}" width="${slot * 0.76}" height="${(n / crowd) * 0.5 * (floor - face.top)}" fill="var(--event)" opacity=".45"/>` : "");
      const spans = data.events.map((e) => `<rect x="${x(e.first)}" y="2" width="${slot * (e.last - e.first + 1)}" height="7" fill="var(--event)" opacity=".35"/>`);
      const line = (values, colour) => values ? `<path d="${path(values.map((v, t) => [middle(t), y(v)]))}" fill="none" stroke="${colour}" stroke-width="2" stroke-linejoin="round"/>` : "";
      const cut = threshold === null ? "" : `<line class="threshold" x1="${face.left}" x2="${width - face.right}" y1="${y(threshold)}" y2="${y(threshold)}"/>`;
      const axis = heightAxis(high ? ticks(0, most, 4) : [], y, width, face, String);
      const names = high ? [["var(--high)", "95th percentile"], ["var(--mean)", "mean"]] : [];
      const tip = (t) => `${seconds(t)}: ${high ? `mean ${number(mean[t])}, 95th percentile ${number(high[t])}, ` : ""}${marked[t]} event tokens`;
      if (threshold !== null) names.push(["var(--soft)", `${data.difference.name} = ${number(threshold)}`]);
      return keys(...names, ["var(--event)", `event tokens, at most ${Math.max(...marked)} in a frame`]) +
        svg(width, height, axis + spans.join("") + bars.join("") + line(high, "var(--high)") + line(mean, "var(--mean)") + cut + timeAxis(width, height, face) + timed(width, height, face, tip));
    },
    kept(width) {
      const height = 190, face = FACE, { slot, x } = slots(width, face), floor = height - face.bottom;
      const shown = data.legend.filter((v) => data.verdicts[v].kept && data.verdicts[v].count);
      const sums = data.kept.map((counts) => shown.reduce((sum, v) => sum + counts[v], 0)), most = Math.max(1, ...sums);
      const y = (value) => floor - (value / most) * (floor - face.top);
      const bars = data.kept.map((counts, t) => {
        let sum = 0;
        return shown.map((v) => {
          sum += counts[v];
          return counts[v] ? `<rect x="${x(t) + slot * 0.08}" y="${y(sum)}" width="${slot * 0.84}" height="${y(sum - counts[v]) - y(sum)}" fill="${data.verdicts[v].colour}"/>` : "";
        }).join("");
      });
      const tip = (t) => `${seconds(t)}: ${sums[t]} kept (${shown.map((v) => `${data.kept[t][v]} ${data.verdicts[v].name}`).join(", ")})`;
      return keys(...shown.map((v) => [data.verdicts[v].colour, data.verdicts[v].name])) +
        svg(width, height, heightAxis(ticks(0, most, 4), y, width, face) + bars.join("") + timeAxis(width, height, face) + timed(width, height, face, tip));
    },
    sizes(width) {
      const sorted = [...data.sizes].sort((a, b) => b - a), height = 210, face = FACE, floor = height - face.bottom;
      const decades = Math.max(0.3, Math.log10(sorted[0])), ranks = Math.max(0.3, Math.log10(sorted.length));
      const x = (rank) => face.left + (Math.log10(rank) / ranks) * (width - face.left - face.right);
      const y = (size) => floor - ((Math.log10(size) + 0.12) / (decades + 0.12)) * (floor - face.top);
      const corners = [];
      sorted.forEach((size, i) => {
        if (i === 0 || size !== sorted[i - 1]) corners.push([x(i + 1), y(size)]);
        if (i === sorted.length - 1 || size !== sorted[i + 1]) corners.push([x(i === sorted.length - 1 ? i + 1 : i + 2), y(size)]);
      });
      const powers = (limit) => [1, 10, 100, 1e3, 1e4, 1e5].filter((p) => p <= limit);
      const area = `<path d="${path([...corners, [corners.at(-1)[0], floor], [corners[0][0], floor]])}Z" fill="var(--spatial)" opacity=".14"/><path d="${path(corners)}" fill="none" stroke="var(--spatial)" stroke-width="2"/>`;
      const across = powers(sorted.length).map((p) => `<text x="${x(p)}" y="${height - 5}" text-anchor="middle">${COUNT.format(p)}</text>`).join("");
      return svg(width, height, heightAxis(powers(sorted[0]), y, width, face) + area + across);
    },
    weights(width) {
      const { edges, spatial, temporal, lines } = data.weights, height = 210, face = { ...FACE, top: 20 }, floor = height - face.bottom;
      const top = Math.log10(1 + Math.max(1, ...spatial, ...temporal)), from = edges[0];
      const x = (w) => face.left + ((w - from) / (1 - from)) * (width - face.left - face.right);
      const y = (n) => floor - (Math.log10(1 + n) / top) * (floor - face.top);
      const steps = (counts, colour) => {
        const corners = counts.flatMap((n, i) => [[x(edges[i]), y(n)], [x(edges[i + 1]), y(n)]]);
        return `<path d="${path([[x(from), floor], ...corners, [x(1), floor]])}Z" fill="${colour}" opacity=".14"/><path d="${path(corners)}" fill="none" stroke="${colour}" stroke-width="1.6"/>`;
      };
      const cuts = lines.filter(({ value }) => value >= from).map(({ value, label }) => `<line class="threshold" x1="${x(value)}" x2="${x(value)}" y1="${face.top - 4}" y2="${floor}"/><text x="${x(value)}" y="${face.top - 8}" text-anchor="middle">${label} ${number(value)}</text>`).join("");
      const across = ticks(from, 1, width / 80).map((w) => `<text x="${x(w)}" y="${height - 5}" text-anchor="middle">${w}</text>`).join("");
      const powers = [10, 100, 1e3, 1e4, 1e5].filter((p) => Math.log10(1 + p) <= top);
      return keys(["var(--spatial)", "spatial"], ["var(--temporal)", "temporal"]) +
        svg(width, height, heightAxis(powers, y, width, face) + steps(spatial, "var(--spatial)") + steps(temporal, "var(--temporal)") + cuts + across);
    },
  };

  const STRIP = { left: 0, right: 0, top: 2, bottom: 0 };
  function drawStrip() {
    const strip = $("strip"), width = strip.clientWidth;
    const { slot, x } = slots(width, STRIP), crowd = Math.max(1, ...data.difference.marked), base = 34;
    const bars = data.difference.marked.map((n, t) => n ? `<rect x="${x(t) + slot * 0.12}" y="${base - (n / crowd) * (base - 4)}" width="${slot * 0.76}" height="${(n / crowd) * (base - 4)}" fill="var(--event)"/>` : "");
    const ruler = `<line class="rule" x1="0" x2="${width}" y1="${base}" y2="${base}"/>`;
    strip.innerHTML = `<canvas></canvas>${svg(width, base, bars.join("") + ruler + timed(width, base, STRIP, (t) => `${seconds(t)}: ${data.difference.marked[t]} event tokens`))}`;
    const film = strip.firstChild, scale = window.devicePixelRatio || 1;
    film.width = width * scale;
    film.height = 46 * scale;
    film.style.height = "46px";
    film.dataset.film = "";
    drawFilm();
  }
  function drawFilm() {
    const film = $("strip").firstChild, brush = film.getContext("2d");
    const thumbs = Math.max(1, Math.min(data.frames.length, Math.round(film.clientWidth / 70)));
    for (let k = 0; k < thumbs; k++) {
      const image = images[nearest(((k + 0.5) / thumbs) * frames - 0.5)];
      if (!ready(image)) continue;
      const w = film.width / thumbs, h = film.height;
      const cover = Math.min(image.naturalWidth / w, image.naturalHeight / h), [sw, sh] = [w * cover, h * cover];
      brush.drawImage(image, (image.naturalWidth - sw) / 2, (image.naturalHeight - sh) / 2, sw, sh, k * w, 0, w - 1, h);
    }
  }

  function drawCharts() {
    for (const element of document.querySelectorAll("[data-chart]")) {
      const name = element.dataset.chart, face = element.closest("[data-needs]");
      const empty = { sizes: !data.sizes.length, weights: !data.weights, difference: !hasDifference }[name];
      if (face) face.hidden = Boolean(empty);
      if (!empty) element.innerHTML = charts[name](element.clientWidth);
    }
    drawStrip();
    drawHeads();
  }
  function drawHeads() {
    for (const head of document.querySelectorAll(".head")) {
      const inStrip = head.closest("#strip"), chart = head.ownerSVGElement;
      const { middle } = slots(chart.viewBox.baseVal.width, inStrip ? STRIP : FACE);
      head.setAttribute("x1", middle(current().frame));
      head.setAttribute("x2", middle(current().frame));
    }
  }

  // -- all together ----------------------------------------------------------------------------------------------------

  function draw() {
    paint();
    explain();
    drawHeads();
    for (const button of document.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", button.dataset.mode === state.mode);
    for (const row of document.querySelectorAll("[data-event]")) row.classList.toggle("on", Number(row.dataset.event) === state.event);
    $("slider").value = state.place;
    $("clock").textContent = `frame ${current().frame} · ${seconds(current().frame)}`;
    $("play").textContent = state.playing ? "❚❚" : "▶";
  }
  function play(on) {
    clearInterval(state.playing);
    const span = data.seconds[frames - 1] - data.seconds[0];
    const pause = Math.max(60, Math.min(600, (1000 * span) / Math.max(1, data.frames.length - 1)));
    state.playing = on ? setInterval(() => show({ place: (state.place + 1) % data.frames.length }), pause) : 0;
    draw();
  }

  $("slider").max = data.frames.length - 1;
  $("slider").addEventListener("input", () => show({ place: Number($("slider").value) }));
  $("play").addEventListener("click", () => play(!state.playing));
  for (const button of document.querySelectorAll("[data-mode]")) {
    const useless = (button.dataset.mode === "communities" && !data.sizes.length) || (button.dataset.mode === "difference" && !hasDifference);
    button.hidden = useless;
    button.addEventListener("click", () => show({ mode: button.dataset.mode }));
  }
  canvas.addEventListener("pointermove", (event) => {
    const over = tokenAt(event);
    if (over !== state.hover) show({ hover: over });
  });
  canvas.addEventListener("pointerleave", () => show({ hover: -1 }));
  canvas.addEventListener("click", (event) => {
    const over = tokenAt(event);
    show({ token: over === state.token ? -1 : over });
  });
  document.addEventListener("click", (event) => {
    const area = event.target.closest("[data-frame]"), film = event.target.closest("[data-film]"), row = event.target.closest("[data-event]");
    if (area) show({ place: nearest(Number(area.dataset.frame)) });
    if (film) show({ place: nearest(Math.floor((event.offsetX / film.clientWidth) * frames)) });
    if (row) {
      const chosen = Number(row.dataset.event);
      show({ event: chosen, token: -1, place: nearest(data.events[chosen].peak) });
      open(0);
      $("viewer").scrollIntoView({ behavior: "smooth", block: "nearest" });
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, pre, .stx, .scroll:focus")) return;
    if (event.key === "Enter" && event.target.closest("[data-event]")) event.target.click();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) show({ place: state.place + step });
    else if (event.key === " " && event.target.tagName !== "BUTTON") play(!state.playing);
    else if (event.key === "Escape") show({ token: -1, event: -1, hover: -1 });
    else if (MODES[event.key - 1]) show({ mode: MODES[event.key - 1] });
    else return;
    event.preventDefault();
  });
  $("copy").addEventListener("click", async () => {
    const select = () => getSelection().selectAllChildren($("config"));
    await navigator.clipboard?.writeText($("config").textContent).then(() => ($("copy").textContent = "Copied"), select) ?? select();
  });
  window.addEventListener("hashchange", () => { readAddress(); draw(); });

  function drawAll() {
    drawCharts();
    drawThumbs();
    cueScrolling();
    draw();
  }
  // -- tabs: the frames, and the space-time graph, which is built when it is first looked at -------------------------

  const tabs = ["frames", "graph"].map((name) => $(`tab-${name}`));
  const panels = [$("viewer"), $("graph")];
  let explored = false;
  function open(place) {
    tabs.forEach((tab, i) => { tab.setAttribute("aria-selected", i === place); tab.tabIndex = i === place ? 0 : -1; panels[i].hidden = i !== place; });
    if (place === 0) { drawAll(); return; }
    if (explored) return;
    explored = true;
    const graph = JSON.parse($("explorer-data").textContent), [first, last] = graph.span;
    const pictures = Array.from({ length: last - first + 1 }, (_, i) => data.frames[nearest(first + i)].image);
    stgraphExplorer($("explorer"), graph, { images: pictures });
  }
  if ($("explorer-data").textContent === "null") tabs[0].parentElement.hidden = true;
  tabs.forEach((tab, i) => tab.addEventListener("click", () => open(i)));
  tabs[0].parentElement.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: 1 }[event.key];
    if (!step) return;
    const next = tabs[1 - tabs.indexOf(document.activeElement)];
    next.focus();
    next.click();
    event.stopPropagation();
    event.preventDefault();
  });

  function drawThumbs() {
    for (const thumb of document.querySelectorAll("[data-thumb]")) {
      const event = data.events[thumb.dataset.thumb], image = images[nearest(event.peak)], pen = thumb.getContext("2d");
      thumb.height = Math.round((thumb.width * data.size[1]) / data.size[0]);
      if (ready(image)) pen.drawImage(image, 0, 0, thumb.width, thumb.height);
      const [top, left, bottom, right] = event.box, [sx, sy] = [thumb.width / columns, thumb.height / rows];
      for (const [colour, width] of [["#fff", 4], [data.verdicts[2].colour, 2]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.strokeRect(left * sx + 1, top * sy + 1, (right - left) * sx - 2, (bottom - top) * sy - 2);
      }
    }
  }
  function cueScrolling() {
    for (const area of document.querySelectorAll(".scroll")) area.parentElement.classList.toggle("overflows", area.scrollWidth > area.clientWidth + 2);
  }

  state.place = nearest(data.start);
  readAddress();
  drawAll();
  let filming = 0;
  for (const [place, image] of images.entries()) {
    if (ready(image)) continue;
    image.addEventListener("load", () => {
      if (place === state.place) paint();
      filming ||= requestAnimationFrame(() => {
        filming = 0;
        drawFilm();
        drawThumbs();
      });
    });
  }
  let width = document.body.clientWidth;
  window.addEventListener("resize", () => {
    if (document.body.clientWidth !== width) drawAll();
    width = document.body.clientWidth;
  });
})();
