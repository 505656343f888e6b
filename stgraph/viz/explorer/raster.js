"use strict";
// The graph drawn by the processor: for browsers without WebGL2, and where WebGL2 itself is drawn by the processor, which
// takes ten times as long. stgraphRaster(canvas, model) returns { draw, dress }. It draws what the programs of
// the graphics card draw: frame pictures, discs, and edges that discs hide.
const stgraphRaster = (() => {
  const SUBPIXELS = 4;  // places within a pixel, along each axis, at which a disc is drawn
  const pack = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
  const mix = (one, two, share) => one.map((value, k) => Math.round(value + (two[k] - value) * share));
  // A packed colour over another; share from 0 to 256.
  function over(below, colour, share) {
    const rb = below & 0xff00ff, g = below & 0xff00;
    return -16777216 | ((rb + (Math.imul((colour & 0xff00ff) - rb, share) >> 8)) & 0xff00ff) | ((g + (Math.imul((colour & 0xff00) - g, share) >> 8)) & 0xff00);
  }

  // The pixels of a disc: their places, their shares of the pixel, and whether they belong to its rim.
  function stamp(size, kept, event, left, top) {
    const reach = Math.ceil(size / 2) + 1, soft = 1 - 2.2 / size, dx = [], dy = [], share = [], onRim = [];
    for (let y = -reach; y <= reach; y++) for (let x = -reach; x <= reach; x++) {
      const r = Math.hypot(x + 0.5 - left, y + 0.5 - top) / (size / 2);
      if (r > 1) continue;
      dx.push(x); dy.push(y);
      share.push(Math.round(256 * Math.min(1, Math.max(0, (1 - r) * size * 0.5 + 0.2))));
      onRim.push(event && size > 4 ? r > 0.58 : kept && !event && size > 5 && r > soft);
    }
    return { reach, dx: Int16Array.from(dx), dy: Int16Array.from(dy), share: Int16Array.from(share), onRim: Uint8Array.from(onRim) };
  }

  return function raster(canvas, { count, frame, row, column, edges }) {
    const pen = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    const x = new Float32Array(count), y = new Float32Array(count), near = new Float32Array(count);  // near: 1 / w, 0 where not drawn
    const stamps = new Map(), images = new Map();
    let picture = null, pixels = null, depth = null;

    function start(paper) {
      if (picture?.width !== canvas.width || picture?.height !== canvas.height) {
        picture = new ImageData(Math.max(1, canvas.width), Math.max(1, canvas.height));
        pixels = new Int32Array(picture.data.buffer);
        depth = new Float32Array(pixels.length);
      }
      pixels.fill(paper);
      depth.fill(0);
    }

    // Where the tokens lie on the picture. They come frame by frame, so those of a brush are one stretch.
    function project({ box, camera: m, scale, centre, first, last, texels }) {
      for (let v = first; v < last; v++) {
        const p = (frame[v] - centre[0]) * scale[0], q = (centre[1] - row[v]) * scale[1], s = (column[v] - centre[2]) * scale[2];
        const w = m[3] * p + m[7] * q + m[11] * s + m[15];
        near[v] = w > 0.05 && texels[v * 4 + 3] ? 1 / w : 0;
        x[v] = box.x + ((m[0] * p + m[4] * q + m[8] * s + m[12]) / w + 1) * 0.5 * box.width;
        y[v] = box.y + (1 - (m[1] * p + m[5] * q + m[9] * s + m[13]) / w) * 0.5 * box.height;
      }
    }

    // A picture in its frame. From a pixel to its place in the picture leads the inverse of a 3 × 3 matrix, whose last
    // row gives 1 / w.
    function sheet({ box, camera: m, scale, centre, rows, columns }, f, image, fine) {
      const at = (r, c) => {
        const p = (f - centre[0]) * scale[0], q = (centre[1] - r) * scale[1], s = (c - centre[2]) * scale[2];
        const w = m[3] * p + m[7] * q + m[11] * s + m[15];
        return [(m[0] * p + m[4] * q + m[8] * s + m[12] + w) * 0.5 * box.width + box.x * w, (w - (m[1] * p + m[5] * q + m[9] * s + m[13])) * 0.5 * box.height + box.y * w, w];
      };
      const corner = at(-0.5, -0.5), right = at(-0.5, columns - 0.5), below = at(rows - 0.5, -0.5), far = at(rows - 0.5, columns - 0.5);
      if ([corner, right, below, far].some((p) => p[2] < 0.05)) return;
      const [a, d, g] = right.map((value, k) => value - corner[k]), [b, e, h] = below.map((value, k) => value - corner[k]), [c, l, n] = corner;
      const whole = a * (e * n - l * h) - b * (d * n - l * g) + c * (d * h - e * g);
      if (Math.abs(whole) < 1e-6) return;
      const [ux, uy, u1] = [e * n - l * h, c * h - b * n, b * l - c * e].map((value) => (value / whole) * image.width);
      const [vx, vy, v1] = [l * g - d * n, a * n - c * g, c * d - a * l].map((value) => (value / whole) * image.height);
      const [tx, ty, t1] = [d * h - e * g, b * g - a * h, a * e - b * d].map((value) => value / whole);
      const xs = [corner, right, below, far].map((p) => p[0] / p[2]), ys = [corner, right, below, far].map((p) => p[1] / p[2]);
      const [x0, x1] = [Math.max(box.x, Math.floor(Math.min(...xs))), Math.min(box.x + box.width, Math.ceil(Math.max(...xs)))].map(Math.round);
      const [y0, y1] = [Math.max(box.y, Math.floor(Math.min(...ys))), Math.min(box.y + box.height, Math.ceil(Math.max(...ys)))].map(Math.round);
      const { data, width, height } = image;
      for (let py = y0; py < y1; py++) for (let px = x0, k = py * canvas.width + x0; px < x1; px++, k++) {
        const t = tx * (px + 0.5) + ty * (py + 0.5) + t1, u = (ux * (px + 0.5) + uy * (py + 0.5) + u1) / t, v = (vx * (px + 0.5) + vy * (py + 0.5) + v1) / t;
        if (u < 0 || v < 0 || u >= width || v >= height) continue;
        const z = 1 / (1 / t + 0.6);  // a little behind its tokens, whose discs are not parallel to it
        if (z <= depth[k]) continue;
        depth[k] = z;
        if (!fine) { pixels[k] = data[(v | 0) * width + (u | 0)]; continue; }
        const left = Math.max(0, Math.min(width - 1.001, u - 0.5)), top = Math.max(0, Math.min(height - 1.001, v - 0.5)), i = left | 0, j = (top | 0) * width;
        const across = ((left - i) * 256) | 0, down = ((top - (top | 0)) * 256) | 0, next = Math.min(i + 1, width - 1), under = Math.min(j + width, (height - 1) * width);
        pixels[k] = over(over(data[j + i], data[j + next], across), over(data[under + i], data[under + next], across), down);
      }
    }

    // The packed colour of each disc and of its rim, made once for each change of colours.
    function dress(texels, theme) {
      const fill = new Int32Array(count), rim = new Int32Array(count);
      const paper = pack(theme.paper), ink = pack(theme.ink), event = pack(theme.event), paleEvent = pack(mix(theme.event, theme.paper, 0.7));
      for (let v = 0; v < count; v++) {
        const bits = texels[v * 4 + 3], faded = (bits & 16) !== 0;
        if (!bits) continue;
        const own = (255 << 24) | (texels[v * 4 + 2] << 16) | (texels[v * 4 + 1] << 8) | texels[v * 4];
        fill[v] = faded ? over(own, paper, 210) : own;
        rim[v] = bits & 4 ? (faded ? paleEvent : event) : bits & 2 ? over(fill[v], ink, faded ? 31 : 141) : fill[v];
      }
      return { fill, rim };
    }

    function discs({ box, first, last, texels, dressed: { fill, rim }, size, least }) {
      const x1 = box.x + box.width, y1 = box.y + box.height, w = canvas.width;
      for (let v = first; v < last; v++) {
        if (!near[v]) continue;
        const bits = texels[v * 4 + 3];
        const wide = Math.max(least, Math.min(200, size * near[v] * (bits & 2 ? 1 : 0.62) * (bits & 4 ? 1.25 : 1) * (bits & 8 ? 1.2 : 1)));
        if (x[v] < box.x - wide || x[v] > x1 + wide || y[v] < box.y - wide || y[v] > y1 + wide) continue;
        const left = Math.floor(x[v]), top = Math.floor(y[v]), step = Math.round(wide * 4), z = near[v];
        const subX = ((x[v] - left) * SUBPIXELS) | 0, subY = ((y[v] - top) * SUBPIXELS) | 0;
        const key = ((step * 4 + (bits & 6) / 2) * SUBPIXELS + subX) * SUBPIXELS + subY;
        let disc = stamps.get(key);
        if (!disc) {
          if (stamps.size > 4000) stamps.clear();
          stamps.set(key, (disc = stamp(step / 4, (bits & 2) !== 0, (bits & 4) !== 0, (subX + 0.5) / SUBPIXELS, (subY + 0.5) / SUBPIXELS)));
        }
        const { reach, dx, dy, share, onRim } = disc, inside = left - reach >= box.x && left + reach < x1 && top - reach >= box.y && top + reach < y1;
        for (let i = 0; i < dx.length; i++) {
          if (!inside && (left + dx[i] < box.x || left + dx[i] >= x1 || top + dy[i] < box.y || top + dy[i] >= y1)) continue;
          const k = (top + dy[i]) * w + left + dx[i];
          if (z <= depth[k]) continue;
          depth[k] = z;
          const colour = onRim[i] ? rim[v] : fill[v];
          pixels[k] = share[i] > 255 ? colour : over(pixels[k], colour, share[i]);
        }
      }
    }

    // Edges do not hide each other; discs and pictures in front of them do.
    function lines({ box, lines: drawn }, part) {
      const { edge, colour, share } = drawn, w = canvas.width, x1 = box.x + box.width - 1, y1 = box.y + box.height - 1;
      for (let i = 0, many = Math.ceil(edge.length * part); i < many; i++) {
        const a = edges.from[edge[i]], b = edges.to[edge[i]];
        if (!near[a] || !near[b]) continue;
        let t0 = 0, t1 = 1;  // the stretch of the edge that lies on the picture
        const dx = x[b] - x[a], dy = y[b] - y[a];
        const clip = (start, by, low, high) => {
          if (by === 0) { if (start < low || start > high) t1 = -1; return; }
          const one = (low - start) / by, two = (high - start) / by;
          t0 = Math.max(t0, Math.min(one, two)); t1 = Math.min(t1, Math.max(one, two));
        };
        if (x[a] < box.x || x[a] > x1 || x[b] < box.x || x[b] > x1) clip(x[a], dx, box.x, x1);
        if (y[a] < box.y || y[a] > y1 || y[b] < box.y || y[b] > y1) clip(y[a], dy, box.y, y1);
        if (t0 >= t1) continue;
        const dz = near[b] - near[a], steps = Math.max(1, Math.ceil(Math.max(Math.abs(dx), Math.abs(dy)) * (t1 - t0))), by = (t1 - t0) / steps;
        let px = x[a] + dx * t0, py = y[a] + dy * t0, z = near[a] + dz * t0;
        for (let s = 0; s <= steps; s++, px += dx * by, py += dy * by, z += dz * by) {
          const k = (py | 0) * w + (px | 0);
          if (z > depth[k]) pixels[k] = over(pixels[k], colour[i], share[i]);
        }
      }
    }

    function pixelsOf(image) {
      if (!images.has(image)) {
        const copy = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), brush = copy.getContext("2d", { willReadFrequently: true });
        brush.drawImage(image, 0, 0);
        const read = brush.getImageData(0, 0, copy.width, copy.height);
        images.set(image, { data: new Int32Array(read.data.buffer), width: copy.width, height: copy.height });
      }
      return images.get(image);
    }

    function draw(views, theme, fine, part) {
      start(pack(theme.paper));
      for (const view of views) {
        project(view);
        for (const { f, image } of view.sheets) sheet(view, f, pixelsOf(image), fine);
        discs(view);
        if (view.lines) lines(view, part);
      }
      pen.putImageData(picture, 0, 0);
    }
    return { draw, dress };
  };
})();
