// Shows how far the bound of a Gaussian q = N(m, σ²) is below log p(x).

const [WIDTH, HEIGHT] = [300, 224];
const BOX = { left: 40, right: 294, top: 8, bottom: 188 };

function element(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// Round numbers from low to high, some five of them.
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return Array.from({ length: count }, (_, i) => {
    const value = (first + i) * step;
    return [value, value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1").replace("-", "\u2212")];
  });
}

// Axes in an SVG; returns how numbers become places, and a way to draw curves.
function axes(svg, [x0, x1], [y0, y1], xName, yName) {
  const x = (value) => BOX.left + ((value - x0) / (x1 - x0)) * (BOX.right - BOX.left);
  const y = (value) => BOX.bottom - ((value - y0) / (y1 - y0)) * (BOX.bottom - BOX.top);
  const area = { x: BOX.left, y: BOX.top, width: BOX.right - BOX.left, height: BOX.bottom - BOX.top };
  const clip = element("clipPath", { id: `clip-${svg.getAttribute("class")}` });
  const inside = element("g", { "clip-path": `url(#clip-${svg.getAttribute("class")})` });
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  clip.append(element("rect", area));
  svg.append(clip, inside, element("rect", { ...area, class: "axis" }));
  for (const [value, text] of ticks(x0, x1)) {
    svg.append(element("path", { class: "axis", d: `M${x(value)} ${BOX.bottom}v4` }));
    svg.append(element("text", { x: x(value), y: BOX.bottom + 16, "text-anchor": "middle" }, text));
  }
  for (const [value, text] of ticks(y0, y1)) {
    svg.append(element("path", { class: "axis", d: `M${BOX.left} ${y(value)}h-4` }));
    svg.append(element("text", { x: BOX.left - 7, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  const middle = (BOX.top + BOX.bottom) / 2;
  const name = { class: "axis-name", x: (BOX.left + BOX.right) / 2, y: HEIGHT - 4 };
  const side = { class: "axis-name", transform: `translate(9 ${middle}) rotate(-90)` };
  svg.append(element("text", name, xName), element("text", side, yName));
  const path = (points) =>
    points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(2)} ${y(b).toFixed(2)}`).join("");
  return { x, y, inside, path };
}

const range = (low, high, count) =>
  Array.from({ length: count + 1 }, (_, i) => low + ((high - low) * i) / count);
const density = (z, [m, sigma]) =>
  Math.exp(-0.5 * ((z - m) / sigma) ** 2) / (sigma * Math.sqrt(2 * Math.PI));
// KL(N(m, σ²) || N(n, τ²)), in nats.
const kl = ([m, sigma], [n, tau]) =>
  Math.log(tau / sigma) + 0.5 * ((sigma / tau) ** 2 + ((m - n) / tau) ** 2 - 1);

function build(page) {
  const { weight: w, bias: b, noise_scale: s, x, guess, means, scales } = DATA;
  const find = (selector) => page.querySelector(selector);
  const total = Math.hypot(w, s);
  const posterior = [(w * (x - b)) / total ** 2, s / total];
  const places = { guess, posterior, prior: [0, 1] };
  const evidence = -0.5 * ((x - b) / total) ** 2 - Math.log(total * Math.sqrt(2 * Math.PI));
  let q = guess;

  function terms([m, sigma]) {
    const errors = ((x - b - w * m) / s) ** 2 + ((w * sigma) / s) ** 2;
    const likelihood = -0.5 * Math.log(2 * Math.PI * s * s) - 0.5 * errors;
    const rate = kl([m, sigma], [0, 1]);
    return { likelihood, kl: rate, elbo: likelihood - rate, gap: kl([m, sigma], posterior), evidence };
  }

  // Where the gap is below `gap`: between two branches, mirror images about the posterior's mean.
  const landscape = axes(find(".landscape"), means, scales, "mean m of q", "scale σ of q");
  function region(gap) {
    const right = range(...scales, 400).flatMap((sigma) => {
      const left = gap - kl([posterior[0], sigma], posterior);
      return left < 0 ? [] : [[posterior[0] + posterior[1] * Math.sqrt(2 * left), sigma]];
    });
    if (!right.length) return "";
    const left = right.map(([m, sigma]) => [2 * posterior[0] - m, sigma]).reverse();
    return landscape.path([...right, ...left]) + "Z";
  }
  const colors = DATA.colors; // from low to high
  landscape.inside.append(
    element("rect", { width: WIDTH, height: HEIGHT, fill: colors[0] }),
    ...colors.slice(1).map((fill, i) => {
      const gap = (12 * (colors.length - 1 - i)) / colors.length;
      return element("path", { d: region(gap), fill });
    }),
    ...[0.1, 1, 5].map((gap) => element("path", { class: "contour", d: region(gap) })),
  );
  const star = range(0, 9, 9).map((k) => {
    const [angle, size] = [(Math.PI * (k - 2.5)) / 5, k % 2 ? 3.6 : 9];
    return `${landscape.x(posterior[0]) + size * Math.cos(angle)},${landscape.y(posterior[1]) + size * Math.sin(angle)}`;
  });
  landscape.inside.append(
    element("polygon", { points: star.join(" "), fill: "#0072b2", stroke: "#fff" }),
  );
  Object.assign(find(".pad").style, {
    left: `${(100 * BOX.left) / WIDTH}%`,
    top: `${(100 * BOX.top) / HEIGHT}%`,
    width: `${(100 * (BOX.right - BOX.left)) / WIDTH}%`,
    height: `${(100 * (BOX.bottom - BOX.top)) / HEIGHT}%`,
  });

  const ends = [places.prior, posterior, guess].flatMap(([m, sigma]) => [m - 4 * sigma, m + 4 * sigma]);
  const zs = range(Math.min(...ends), Math.max(...ends), 300);
  const highest = 1.3 * Math.max(...[places.prior, posterior].map((p) => density(p[0], p)));
  const densities = axes(find(".densities"), [zs[0], zs[300]], [0, highest], "latent z", "density");
  const curve = (figure, kind) => {
    const drawn = element("path", { class: `curve ${kind}` });
    figure.inside.append(drawn);
    return drawn;
  };
  for (const kind of ["prior", "posterior"]) {
    const points = zs.map((z) => [z, density(z, places[kind])]);
    curve(densities, kind).setAttribute("d", densities.path(points));
  }
  const qCurve = curve(densities, "q");

  const near = [posterior[0] - 4 * posterior[1], posterior[0] + 4 * posterior[1]];
  const slice = axes(find(".slice"), near, [evidence - 6, evidence + 0.7], "mean m of q", "nats");
  const ms = range(...near, 160);
  const bound = (sigma) => ms.map((m) => [m, terms([m, sigma]).elbo]);
  const gapArea = element("path", { class: "gap" });
  slice.inside.append(gapArea);
  slice.inside.append(
    element("path", { class: "ceiling", d: slice.path([[near[0], evidence], [near[1], evidence]]) }),
  );
  curve(slice, "posterior").setAttribute("d", slice.path(bound(posterior[1])));
  const ours = curve(slice, "q");
  const fall = element("path", { class: "fall" });
  const dot = element("circle", { r: 5, fill: "#d55e00", stroke: "#fff", "stroke-width": 2 });
  slice.inside.append(fall, dot);

  const settings = [["mean m", means], ["scale σ", scales]];
  const sliders = settings.map(([name, [low, high]], i) =>
    slider({
      name,
      label: `${name} of q`,
      low,
      high,
      step: (high - low) / 200,
      input: (value) => move(i ? [q[0], value] : [value, q[1]]),
    }),
  );
  find(".sliders").append(...sliders.map(({ row }) => row));
  const part = (value, [low, high]) => (value - low) / (high - low);
  const knob = pad(
    find(".pad"),
    () => [part(q[0], means), 1 - part(q[1], scales)],
    (u, v) => move([means[0] + u * (means[1] - means[0]), scales[1] - v * (scales[1] - scales[0])]),
  );

  const nats = (value) => `${value.toFixed(4).replace(/^-(0\.0000)$/, "$1").replace("-", "\u2212")} nats`;
  const draw = frames(() => {
    const now = terms(q);
    for (const cell of page.querySelectorAll("[data-term]")) {
      const value = now[cell.dataset.term];
      cell.textContent = nats(cell.dataset.term === "kl" ? -value : value);
    }
    sliders.forEach(({ show }, i) => show(q[i]));
    qCurve.setAttribute("d", densities.path(zs.map((z) => [z, density(z, q)])));
    const points = bound(q[1]);
    ours.setAttribute("d", slice.path(points));
    gapArea.setAttribute("d", slice.path([...points, [near[1], evidence], [near[0], evidence]]) + "Z");
    fall.setAttribute("d", slice.path([[q[0], now.elbo], [q[0], evidence]]));
    dot.setAttribute("cx", slice.x(q[0]));
    dot.setAttribute("cy", slice.y(now.elbo));
    const gap = `the gap is ${now.gap.toFixed(2)} nats`;
    find(".pad").setAttribute("aria-label", `m ${signed(q[0])}, σ ${signed(q[1])}: ${gap}; arrow keys move`);
    find(".densities").setAttribute("aria-label", `Densities over z: the prior, the posterior with mean ${signed(posterior[0])} and scale ${signed(posterior[1])}, and q with mean ${signed(q[0])} and scale ${signed(q[1])}`);
    find(".slice").setAttribute("aria-label", `The ELBO over m, below log p(x): ${gap}`);
    knob();
    return false;
  });
  function move(values, said = "") {
    q = [...values];
    if (said) find("[role=status]").textContent = `${said}: the gap is ${terms(q).gap.toFixed(2)} nats.`;
    draw();
  }
  for (const button of page.querySelectorAll("[data-to]")) {
    button.addEventListener("click", () => move(places[button.dataset.to], button.textContent));
  }
  move(guess);
  return { get q() { return [...q]; }, terms, move };
}
